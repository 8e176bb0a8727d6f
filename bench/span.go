package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"linkspan/netns"
)

// What networks that span hosts are measured against: the same thing made by hand, as
// flannel's documentation and code do it (backends vxlan, host-gw and wireguard), between
// two machines of the same kind that have no engine, in turns.
var spans = []struct {
	ours, theirs string
	create       []string // of docker network create
	least        float64  // of theirs
}{
	{"overlay", handVXLAN, []string{"overlay"}, 0.97},
	{"routed", handRoutes, []string{"routed"}, 0.97},
	{"overlay", bareHosts, nil, 0},
	{"overlay, encrypted", bareHosts, []string{"overlay", "encrypted"}, 0},
	{"routed, encrypted", handWireGuard, []string{"routed", "encrypted"}, 0.9},
	{"overlay, encrypted", handVXLANInWireGuard, []string{"overlay", "encrypted"}, 0.9},
}

// The peers.
const (
	handVXLAN  = "VXLAN by hand"
	handRoutes = "host-gw by hand"
	bareHosts  = "host to host"

	handWireGuard        = "WireGuard by hand"
	handVXLANInWireGuard = "VXLAN in WireGuard by hand"
)

// line is from where to where a load between two machines goes; the servers listen.
type line struct {
	from   string // namespace
	to     netip.Addr
	server int // process that echoes there
}

// span is two machines on a wire, with an engine of ours each, in one mesh; and two more
// for what is made by hand.
type span struct {
	*bench
	machines, hands [2]string // namespaces
	engines         [2]*engine
	probe           string // the program netprobe
	lines           map[string]line
}

func spanName(load string, ours, theirs string) string { return load + ", " + ours + " : " + theirs }

// spanned measures networks that span hosts.
func (b *bench) spanned(ctx context.Context) error {
	loads := []struct {
		name string
		unit unit
		more bool
		// turns are of one round: many short ones, where the load can be short, so that each
		// side has some that nothing else on the machine disturbed.
		turns int
		run   func(context.Context, line) (float64, error)
	}{
		{"throughput", gigabits, true, 1, b.carried},
		{"round trip", microseconds, false, 3, b.echoed},
		{"connections", perSecond, true, 5, func(ctx context.Context, l line) (float64, error) {
			return greetings(ctx, l.from, netip.AddrPortFrom(l.to, probePort), b.load()/3)
		}},
	}
	var s *span
	for _, sp := range spans {
		for _, l := range loads {
			name := spanName(l.name, sp.ours, sp.theirs)
			if !b.wanted(name) {
				continue
			}
			if s == nil {
				var err error
				if s, err = b.newSpan(ctx); err != nil {
					return err
				}
			}
			var got [2][]float64
			for r := range b.rounds * l.turns {
				for i := range 2 {
					i = (i + r) % 2
					which := [2]string{sp.ours, sp.theirs}[i]
					way, err := s.line(ctx, which)
					if err != nil {
						return fmt.Errorf("%s: %w", which, err)
					}
					v, err := l.run(ctx, way)
					if err != nil {
						return fmt.Errorf("%s: %s: %w", which, l.name, err)
					}
					got[i] = append(got[i], v)
				}
			}
			g := goal{}
			if sp.least > 0 && l.more {
				g = goal{value: sp.least, relative: true, more: true}
			} else if sp.least > 0 {
				g = goal{value: 2 - sp.least, relative: true}
			}
			b.table.row(name, l.unit, best(got[0], l.more), best(got[1], l.more), g)
		}
	}
	if b.wanted(nameReachable) {
		if s == nil {
			var err error
			if s, err = b.newSpan(ctx); err != nil {
				return err
			}
		}
		return s.reachable(ctx)
	}
	return nil
}

// newSpan makes the machines and joins the engines of ours into one mesh.
func (b *bench) newSpan(ctx context.Context) (s *span, err error) {
	w := b.world
	s = &span{bench: b, lines: map[string]line{}, probe: filepath.Join(w.dir, "netprobe.bin")}
	if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", s.probe, "./test/images/netprobe"); err != nil {
		return nil, err
	}
	if s.machines, err = w.wired("span"); err != nil {
		return nil, err
	}
	if s.hands, err = w.wired("hand"); err != nil {
		return nil, err
	}
	for i, ns := range s.machines {
		name := fmt.Sprint("span", i+1)
		if s.engines[i], err = w.startAt(ctx, ns, name, w.archive, nil, w.binary, "daemon", "--containerd", w.ctd); err != nil {
			return nil, err
		}
	}
	said, err := s.verb(ctx, 0, "mesh", "init", "--listen", outer(0), "--name", "one")
	if err != nil {
		return nil, err
	}
	_, token, _ := strings.Cut(said, "--token ") // of the line that it prints for others
	_, err = s.verb(ctx, 1, "mesh", "join", outer(0)+":2380", "--token", strings.Fields(token + " none")[0], "--name", "two")
	return s, err
}

// wired makes two machines on a wire that forward.
func (w *world) wired(name string) (machines [2]string, err error) {
	base := "/run/netns/" + strings.TrimSuffix(filepath.Base(w.ours.host), "-linkspan") + "-" + name
	for i := range machines {
		machines[i] = fmt.Sprint(base, i+1)
		if err := netns.Create(machines[i]); err != nil {
			return machines, err
		}
		w.later(func() { _ = netns.Remove(machines[i]) })
		// Before any daemon: what they turned on themselves, they guard from others.
		if err := within(machines[i], func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
			return machines, err
		}
	}
	one, two := filepath.Base(machines[0]), filepath.Base(machines[1])
	return machines, errors.Join(
		ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two),
		ip("-n", one, "addr", "add", outer(0)+"/24", "dev", "eth0"), ip("-n", two, "addr", "add", outer(1)+"/24", "dev", "eth0"),
		ip("-n", one, "link", "set", "eth0", "up"), ip("-n", two, "link", "set", "eth0", "up"))
}

// line makes a line once.
func (s *span) line(ctx context.Context, which string) (l line, err error) {
	if l, ok := s.lines[which]; ok {
		return l, nil
	}
	switch which {
	case bareHosts:
		l = line{from: s.hands[0], to: netip.MustParseAddr(outer(1))}
		l.server, err = s.listen(ctx, s.hands[1])
	case handWireGuard, handVXLANInWireGuard, handVXLAN, handRoutes:
		l, err = s.byHand(ctx, which)
	default:
		for _, sp := range spans {
			if sp.ours == which && sp.create != nil {
				l, err = s.byUs(ctx, sp.create[0], sp.create[1:]...)
				break
			}
		}
	}
	s.lines[which] = l
	return l, err
}
