package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Ports of the servers, and where they are published.
const (
	probePort, iperfPort         = 9000, 5201
	probePublished, iperfPublish = 29000, 25201
)

// servers are an engine's two containers that answer.
type servers struct {
	*engine
	probe, iperf place
}

func (e *engine) serve(ctx context.Context) (s *servers, err error) {
	s = &servers{engine: e}
	if s.probe, err = e.server(ctx, "netprobe", map[int]int{probePublished: probePort}); err != nil {
		return nil, err
	}
	s.iperf, err = e.server(ctx, "centos", map[int]int{iperfPublish: iperfPort}, "iperf3", "-s")
	return s, err
}

func (e *engine) server(ctx context.Context, image string, ports map[int]int, cmd ...string) (place, error) {
	id, err := e.create(ctx, image, "bridge", ports, cmd...)
	if err == nil {
		err = e.run(ctx, id)
	}
	if err != nil {
		return place{}, err
	}
	p, err := e.place(ctx, id)
	if err != nil {
		return place{}, err
	}
	for _, port := range ports {
		if err := listening(proc(p.pid), port, 10*time.Second); err != nil {
			return place{}, fmt.Errorf("%s: the server in %s: %w", e.name, image, err)
		}
	}
	return p, nil
}

// listening waits until somebody listens on a port in a process's namespace, without
// connecting: iperf3's server does not get over a client that says nothing. proc is the
// process's folder.
func listening(proc string, port int, within time.Duration) error {
	want := regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: [0-9A-F]+:%04X [0-9A-F]+:0000 0A `, port)) // proc(5): 0A is LISTEN
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, family := range []string{"tcp", "tcp6"} {
			if b, err := os.ReadFile(filepath.Join(proc, "net", family)); err == nil && want.Match(b) {
				return nil
			}
		}
	}
	return fmt.Errorf("nobody listens on port %d", port)
}

// way is from where to where a load goes.
type way struct {
	name string
	// from is the client's namespace.
	from func(*servers) string
	// to is the address for a server: in the container, and the published port.
	to func(s *servers, in place, port, published uint16) netip.AddrPort
}

func published(addr string) func(*servers, place, uint16, uint16) netip.AddrPort {
	return func(_ *servers, _ place, _, p uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(addr), p)
	}
}

var ways = []way{
	{"published, from loopback", func(s *servers) string { return s.host }, published("127.0.0.1")},
	{"published, from outside", func(s *servers) string { return s.other }, published(hostAddr)},
	// The client is in the other of the two containers; see client.
	{"container to container", nil, func(_ *servers, in place, port, _ uint16) netip.AddrPort {
		return netip.AddrPortFrom(in.addr, port)
	}},
}

// client is the namespace that a load on a server starts from.
func (w way) client(s *servers, server place) string {
	switch {
	case w.from != nil:
		return w.from(s)
	case server == s.probe:
		return s.iperf.ns()
	}
	return s.probe.ns()
}

// As good as dockerd, but for what two runs of the same differ by.
var (
	notLess = goal{value: 0.9, relative: true, more: true}
	notMore = goal{value: 1.1, relative: true}
)

// best is the best round of several: what else runs on the machine takes away and
// never adds.
func best(v []float64, more bool) float64 {
	switch {
	case len(v) == 0:
		return math.NaN()
	case more:
		return slices.Max(v)
	}
	return slices.Min(v)
}

// traffic measures throughput, round trips and connections on each way.
func (b *bench) traffic(ctx context.Context) error {
	loads := []struct {
		name string
		unit unit
		goal goal
		run  func(context.Context, way, *servers) (float64, error)
	}{
		{"throughput", gigabits, notLess, b.throughput},
		{"round trip", microseconds, notMore, b.roundTrip},
		{"connections", perSecond, notLess, b.connections},
	}
	var both []*servers
	for _, w := range ways {
		for _, l := range loads {
			name := l.name + ", " + w.name
			if !b.wanted(name) {
				continue
			}
			if both == nil {
				for _, e := range []*engine{b.world.ours, b.world.theirs} {
					if e != nil {
						s, err := e.serve(ctx)
						if err != nil {
							return err
						}
						both = append(both, s)
					}
				}
			}
			got := make([][]float64, 2)
			for r := range b.rounds {
				for i := range both {
					i = (i + r) % len(both)
					v, err := l.run(ctx, w, both[i])
					if err != nil {
						return fmt.Errorf("%s: %s: %w; the servers said: %s%s", both[i].name, name, err, both[i].said(both[i].iperf), both[i].said(both[i].probe))
					}
					got[i] = append(got[i], v)
				}
			}
			b.table.row(name, l.unit, best(got[0], l.goal.more), best(got[1], l.goal.more), l.goal)
		}
	}
	return nil
}

// throughput asks more than once: iperf3's server serves one client at a time, and
// turns away who comes while it still puts the last one's things away.
func (b *bench) throughput(ctx context.Context, w way, s *servers) (v float64, err error) {
	for try := range 5 {
		if v, err = b.iperf(ctx, w, s); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Duration(try+1) * 200 * time.Millisecond)
	}
	return v, err
}

// iperf is what one TCP connection carries to the server, in Gbit/s. cubic:
// new namespaces may inherit bbr, which paces.
func (b *bench) iperf(ctx context.Context, w way, s *servers) (float64, error) {
	return b.iperfTo(ctx, w.client(s, s.iperf), w.to(s, s.iperf, iperfPort, iperfPublish))
}

// iperfTo is iperf from a namespace.
func (b *bench) iperfTo(ctx context.Context, from string, to netip.AddrPort) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.seconds*float64(time.Second))+15*time.Second)
	defer cancel()
	// iperf3(1) takes whole seconds for -t only.
	c := exec.CommandContext(ctx, "nsenter", "--net="+from, "--", "iperf3", "-J", "-C", "cubic",
		"-c", to.Addr().String(), "-p", fmt.Sprint(to.Port()), "-t", fmt.Sprint(max(1, int(b.seconds+0.5))))
	out, err := c.Output()
	var answer struct {
		Error string
		End   struct {
			SumReceived struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal(out, &answer); err != nil || jerr != nil || answer.Error != "" {
		return 0, fmt.Errorf("iperf3: %v %v %s", err, jerr, answer.Error)
	}
	return answer.End.SumReceived.BitsPerSecond / 1e9, nil
}

// roundTrip is the median time of a small message and its echo on one connection.
func (b *bench) roundTrip(ctx context.Context, w way, s *servers) (v float64, err error) {
	err = within(w.client(s, s.probe), func() error {
		return oneCPU(s.probe.pid, func() error {
			v, err = echoes(ctx, w.to(s, s.probe, probePort, probePublished), b.load()/2)
			return err
		})
	})
	return v, err
}

// connections is how many connections per second are made, greeted and closed.
func (b *bench) connections(ctx context.Context, w way, s *servers) (float64, error) {
	return greetings(ctx, w.client(s, s.probe), w.to(s, s.probe, probePort, probePublished), b.load())
}

func (b *bench) load() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }
