package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"linkspan/netns"
)

// where is the network stack of a container's process.
func (v *victim) where(name string) string {
	v.t.Helper()
	return "/proc/" + v.Docker("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net"
}

// resolver asks from inside a container, as its processes do.
func resolver(ns string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		derr := netns.Do(ns, func() error {
			c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, "127.0.0.11:53")
			return nil
		})
		return c, errors.Join(derr, err)
	}}
}

// lookup asks for a name; none means that nobody has it.
func lookup(ns, name string) (addrs []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	found, err := resolver(ns).LookupNetIP(ctx, "ip", name+".")
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) && dnsErr.IsNotFound {
		return nil, nil
	}
	for _, a := range found {
		addrs = append(addrs, a.Unmap().String())
	}
	slices.Sort(addrs)
	return addrs, err
}

// unknown: the neighbours' resolvers know no such names.
func (v *victim) unknown(names ...string) {
	v.t.Helper()
	for peer, ns := range v.peers {
		for _, n := range names {
			if addrs, err := lookup(ns, n); err != nil || len(addrs) > 0 {
				v.t.Errorf("%s asks for %s, that should not be, and gets %v, %v", peer, n, addrs, err)
			}
		}
	}
}

// asDeclared: the kernel has what it should, and nothing else of ours.
func (v *victim) asDeclared() {
	v.t.Helper()
	if r := v.Linkspan("reconcile", "--dry-run"); r.Code != 0 {
		v.t.Errorf("the kernel is not as declared:\n%s%s", r.Stdout, r.Stderr)
	}
}

type attached struct{ IPAddress, GlobalIPv6Address, MacAddress string }

var inetLine = regexp.MustCompile(`^\d+: (\S+)\s+inet6? (\S+)/\d+ .*scope global`)

// sound: a running container on home, away, or both: what is declared is what the
// sandbox has, what the network says, and what its neighbours' resolvers answer; and it
// reaches them by name.
func (v *victim) sound(name string) {
	v.t.Helper()
	var cs []struct {
		NetworkSettings struct{ Networks map[string]attached }
	}
	if err := json.Unmarshal([]byte(v.Docker("inspect", name)), &cs); err != nil || len(cs) != 1 {
		v.t.Fatalf("inspect: %v", err)
	}
	nets, ns := cs[0].NetworkSettings.Networks, v.where(name)
	var want, have []string
	for _, a := range nets {
		want = append(want, a.IPAddress)
		if a.GlobalIPv6Address != "" {
			want = append(want, a.GlobalIPv6Address)
		}
	}
	out, err := exec.Command("nsenter", "--net="+ns, "ip", "-o", "addr").CombinedOutput()
	if err != nil {
		v.t.Fatalf("%v: %s", err, out)
	}
	devices := map[string]bool{}
	for l := range strings.Lines(string(out)) {
		if m := inetLine.FindStringSubmatch(l); m != nil {
			have, devices[m[1]] = append(have, m[2]), true
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) || len(devices) != len(nets) {
		v.t.Errorf("%s is declared on %v, and its sandbox has\n%s", name, nets, out)
	}
	for network, peer := range map[string]string{"home": "athome", "away": "abroad"} {
		a, on := nets[network]
		said := v.Docker("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}\n{{end}}", network)
		if on != strings.Contains(said, name+" "+a.IPAddress+"/24") {
			v.t.Errorf("%s on %s: declared %v, and the network says\n%s", name, network, on, said)
		}
		for _, n := range []string{name, "vic"} {
			var want []string
			if on {
				for _, s := range []string{a.IPAddress, a.GlobalIPv6Address} {
					if s != "" {
						want = append(want, s)
					}
				}
			}
			if got, err := lookup(v.peers[peer], n); err != nil || !slices.Equal(got, want) {
				v.t.Errorf("%s asks for %s and gets %v, %v; want %v", peer, n, got, err, want)
			}
		}
		if !on {
			if got, _ := lookup(ns, peer); len(got) > 0 {
				v.t.Errorf("%s is not on %s and finds %s at %v", name, network, peer, got)
			}
			continue
		}
		names := []string{peer}
		if network == "home" {
			names = append(names, "db", "friend")
		}
		for _, n := range names {
			if err := hello(ns, n); err != nil {
				v.t.Errorf("%s to %s: %v", name, n, err)
			}
		}
	}
	v.asDeclared()
}

// hello connects to port 9000 of a name, of each address that it has.
func hello(ns, name string) error {
	addrs, err := lookup(ns, name)
	if err != nil || len(addrs) == 0 {
		return fmt.Errorf("%s has addresses %v, %w", name, addrs, err)
	}
	for _, a := range addrs {
		if err := dial(ns, netip.AddrPortFrom(netip.MustParseAddr(a), 9000).String()); err != nil {
			return err
		}
	}
	return nil
}

func dial(ns, addr string) error {
	return netns.Do(ns, func() error {
		c, err := net.DialTimeout("tcp", addr, 20*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
