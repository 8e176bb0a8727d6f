package mesh

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How long TestSoak goes on; LINKSPAN_SOAK=1 (`make soak`) has the long one.
const (
	soakShort = 2 * time.Minute
	soakLong  = 15 * time.Minute
	soakEnv   = "LINKSPAN_SOAK"
	seedEnv   = "LINKSPAN_SEED"
)

// soak is what random operations and faults did, to three hosts of one mesh.
type soak struct {
	*cluster
	rnd      *rand.Rand
	networks []string
	lives    map[string]place // containers that run, by name
	gone     []string         // names of some that do no more
	dark     map[int]bool     // hosts whose wire is not whole
	made     int
}

type place struct {
	host    int
	network string
}

// The file is the first of its package by name: the longest test starts first.

// TestSoak does random things to containers and hosts, and now and then heals all faults
// and checks: no address twice, every container reached by its name from every host, no
// name and no FDB entry of one that is gone.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := soakShort
	if os.Getenv(soakEnv) != "" {
		length = soakLong
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("again with %s=%d", seedEnv, seed)
	s := &soak{cluster: newCluster(t, 3, 3), rnd: rand.New(rand.NewPCG(seed, 5)), lives: map[string]place{}, dark: map[int]bool{}}
	for _, create := range [][]string{{"-d", "overlay", "--subnet", "10.20.0.0/24", "over"}, {"-d", "routed", "flat"}, {"-d", "overlay", "-o", "encrypted", "secure"}} {
		s.Daemons[0].Docker(append([]string{"network", "create"}, create...)...)
		s.networks = append(s.networks, create[len(create)-1])
	}
	for i, d := range s.Daemons {
		d.Until(patience, "the networks on "+s.name(i), func() bool {
			out := d.Docker("network", "ls", "--format", "{{.Name}}")
			return strings.Contains(out, "over") && strings.Contains(out, "flat") && strings.Contains(out, "secure")
		})
	}
	start := time.Now()
	for steps := 1; time.Since(start) < length && !t.Failed(); steps++ {
		s.step()
		if steps%12 == 0 {
			s.check()
		}
	}
	s.check()
	t.Logf("%d containers in %v", s.made, time.Since(start).Round(time.Second))
}

func (s *soak) step() {
	i := s.rnd.IntN(len(s.Daemons))
	d := s.Daemons[i]
	switch n := s.rnd.IntN(100); {
	case n < 40 || len(s.lives) < 4:
		s.made++
		name, network := fmt.Sprintf("s%d", s.made), s.networks[s.rnd.IntN(len(s.networks))]
		r := d.TryDocker("run", "-d", "--name", name, "--network", network, "netprobe")
		// Who is cut off has its own addresses, until they are used up; a member that has
		// just come back, or has lost its leader, is told so too, and asked again.
		for deadline := time.Now().Add(patience); r.Code != 0 && strings.Contains(r.Stderr, "store"); r = d.TryDocker("run", "-d", "--name", name, "--network", network, "netprobe") {
			d.TryDocker("rm", "-f", name)
			if len(s.dark) > 0 {
				return
			}
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if r.Code != 0 {
			s.t.Errorf("%s: run %s on %s (dark: %v): %s", s.name(i), name, network, s.dark, r.Stderr)
			return
		}
		s.lives[name] = place{i, network}
	case n < 65:
		names := slices.Sorted(maps.Keys(s.lives))
		name := names[s.rnd.IntN(len(names))]
		s.Daemons[s.lives[name].host].Docker("rm", "-f", name)
		delete(s.lives, name)
		if s.gone = append(s.gone, name); len(s.gone) > 5 {
			s.gone = s.gone[1:]
		}
	case n < 75:
		d.Kill9()
		time.Sleep(time.Duration(s.rnd.IntN(300)) * time.Millisecond)
		d.Run()
	case n < 92:
		s.dark[i] = true
		switch s.rnd.IntN(5) {
		case 0:
			s.Switch.Deafen(d.Host)
		case 1:
			s.Switch.Throttle(d.Host, "50mbit")
		case 2:
			s.Switch.Lose(d.Host, 30)
		default:
			s.Switch.Silence(d.Host)
		}
	default:
		s.Switch.Heal(d.Host)
		delete(s.dark, i)
	}
}

// check heals everything and compares what each host believes with what there is.
func (s *soak) check() {
	s.t.Helper()
	for i := range s.dark {
		s.Switch.Heal(s.Daemons[i].Host)
	}
	clear(s.dark)
	s.apart()
	// One container of each host and network asks for all others of the network.
	asked := map[place]string{}
	for _, name := range slices.Sorted(maps.Keys(s.lives)) {
		asked[s.lives[name]] = name
	}
	for from, asker := range asked {
		for _, name := range slices.Sorted(maps.Keys(s.lives)) {
			if to := s.lives[name]; to.network == from.network && name != asker {
				s.reaches(from.host, asker, name)
			}
		}
		for _, name := range s.gone {
			s.unknown(from.host, asker, name)
		}
	}
	s.entries()
}

// entries: each host's VXLAN devices lead to as many MACs as there are containers of
// their networks on other hosts.
func (s *soak) entries() {
	s.t.Helper()
	for i := range s.Daemons {
		for _, network := range []string{"over", "secure"} {
			here, want := false, 0
			for _, p := range s.lives {
				if p.network == network {
					if p.host == i {
						here = true
					} else {
						want++
					}
				}
			}
			if !here {
				want = 0
			}
			s.leads(i, network, want)
		}
	}
}
