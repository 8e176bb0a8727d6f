package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"linkspan/netns"
)

// What networks that span hosts are measured against: the same thing made by hand, as
// flannel's documentation and code do it (backends vxlan and host-gw), between the same
// two machines on the same wire, in turns.
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
	from string // namespace
	to   netip.Addr
}

// span is two machines on a wire, with an engine of ours each, in one mesh.
type span struct {
	*bench
	machines [2]string // namespaces
	engines  [2]*engine
	probe    string // the program netprobe
	lines    map[string]line
}

func spanName(load string, ours, theirs string) string { return load + ", " + ours + " : " + theirs }

// spanned measures networks that span hosts.
func (b *bench) spanned(ctx context.Context) error {
	loads := []struct {
		name string
		unit unit
		more bool
		run  func(context.Context, line) (float64, error)
	}{
		{"throughput", gigabits, true, b.carried},
		{"round trip", microseconds, false, b.echoed},
		{"connections", perSecond, true, func(ctx context.Context, l line) (float64, error) {
			return greetings(ctx, l.from, netip.AddrPortFrom(l.to, probePort), b.load())
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
			for r := range b.rounds {
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

// newSpan makes the machines and joins their engines into one mesh.
func (b *bench) newSpan(ctx context.Context) (s *span, err error) {
	w := b.world
	s = &span{bench: b, lines: map[string]line{}, probe: filepath.Join(w.dir, "netprobe.bin")}
	if err := tool(ctx, "go", "build", "-buildvcs=false", "-o", s.probe, "./test/images/netprobe"); err != nil {
		return nil, err
	}
	base := "/run/netns/" + strings.TrimSuffix(filepath.Base(w.ours.host), "-linkspan") + "-span"
	for i := range s.machines {
		s.machines[i] = fmt.Sprint(base, i+1)
		if err := netns.Create(s.machines[i]); err != nil {
			return nil, err
		}
		w.later(func() { _ = netns.Remove(s.machines[i]) })
	}
	one, two := filepath.Base(s.machines[0]), filepath.Base(s.machines[1])
	if err := errors.Join(
		ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two),
		ip("-n", one, "addr", "add", "10.0.0.1/24", "dev", "eth0"), ip("-n", two, "addr", "add", "10.0.0.2/24", "dev", "eth0"),
		ip("-n", one, "link", "set", "eth0", "up"), ip("-n", two, "link", "set", "eth0", "up")); err != nil {
		return nil, err
	}
	for i, ns := range s.machines {
		// Before the daemons: what they turned on themselves, they guard from others.
		if err := within(ns, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
			return nil, err
		}
		name := fmt.Sprint("span", i+1)
		if s.engines[i], err = w.startAt(ctx, ns, name, w.archive, nil, w.binary, "daemon", "--containerd", w.ctd); err != nil {
			return nil, err
		}
	}
	said, err := s.verb(ctx, 0, "mesh", "init", "--listen", "10.0.0.1", "--name", "one")
	if err != nil {
		return nil, err
	}
	_, token, _ := strings.Cut(said, "--token ") // of the line that it prints for others
	_, err = s.verb(ctx, 1, "mesh", "join", "10.0.0.1:2380", "--token", strings.Fields(token + " none")[0], "--name", "two")
	return s, err
}

// verb runs a command of ours on a machine.
func (s *span) verb(ctx context.Context, machine int, args ...string) (string, error) {
	c := exec.CommandContext(ctx, s.world.binary, args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(s.world.dir, fmt.Sprint("span", machine+1), "api.sock"))
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("linkspan %s: %w", strings.Join(args[:2], " "), err)
	}
	return string(out), nil
}

// line makes a line once.
func (s *span) line(ctx context.Context, which string) (l line, err error) {
	if l, ok := s.lines[which]; ok {
		return l, nil
	}
	switch which {
	case bareHosts:
		l = line{s.machines[0], netip.MustParseAddr("10.0.0.2")}
		err = s.listen(ctx, s.machines[1])
	case handWireGuard, handVXLANInWireGuard:
		l, err = s.byWireGuard(ctx, which == handVXLANInWireGuard)
	case handVXLAN, handRoutes:
		l, err = s.byHand(ctx, which == handVXLAN)
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

// byHand makes two sandboxes as flannel would: a bridge with a /24 on each machine, and
// either routes to the other machine (host-gw), or a VXLAN device that routes lead to,
// with a permanent neighbour and FDB entry for the other end.
func (s *span) byHand(ctx context.Context, vxlan bool) (line, error) {
	net, br, vni := 244, "hand0", "76"
	if !vxlan {
		net, br = 245, "hand1"
	}
	var inside [2]string
	var errs []error
	for i, machine := range s.machines {
		m, other := filepath.Base(machine), 1-i
		inside[i] = machine + "-" + br
		if err := netns.Create(inside[i]); err != nil {
			return line{}, err
		}
		s.world.later(func() { _ = netns.Remove(inside[i]) })
		in := filepath.Base(inside[i])
		subnet := func(k, last int) string { return fmt.Sprintf("10.%d.%d.%d", net, k+1, last) }
		mac := func(k int) string { return fmt.Sprintf("02:00:00:00:76:%02x", k+1) }
		mtu := "1500"
		if vxlan {
			mtu = "1450"
		}
		run := func(args ...string) { errs = append(errs, ip(append([]string{"-n", m}, args...)...)) }
		run("link", "add", br, "mtu", mtu, "type", "bridge")
		run("addr", "add", subnet(i, 1)+"/24", "dev", br)
		run("link", "set", br, "up")
		run("link", "add", "v"+br, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", in)
		run("link", "set", "v"+br, "master", br, "up")
		errs = append(errs, ip("-n", in, "addr", "add", subnet(i, 2)+"/24", "dev", "eth0"), ip("-n", in, "link", "set", "eth0", "up"),
			ip("-n", in, "link", "set", "lo", "up"), ip("-n", in, "route", "add", "default", "via", subnet(i, 1)))
		if !vxlan {
			run("route", "add", subnet(other, 0)+"/24", "via", fmt.Sprint("10.0.0.", other+1))
			continue
		}
		run("link", "add", "flannel.1", "mtu", mtu, "address", mac(i), "type", "vxlan", "id", vni, "local", fmt.Sprint("10.0.0.", i+1), "dev", "eth0", "dstport", "8472", "nolearning")
		run("addr", "add", subnet(i, 0)+"/32", "dev", "flannel.1")
		run("link", "set", "flannel.1", "up")
		run("route", "add", subnet(other, 0)+"/24", "via", subnet(other, 0), "dev", "flannel.1", "onlink")
		run("neigh", "add", subnet(other, 0), "lladdr", mac(other), "dev", "flannel.1", "nud", "permanent")
		c := exec.CommandContext(ctx, "bridge", "-n", m, "fdb", "add", mac(other), "dev", "flannel.1", "dst", fmt.Sprint("10.0.0.", other+1), "self", "permanent")
		if out, err := c.CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("bridge fdb: %w: %s", err, out))
		}
	}
	errs = append(errs, s.listen(ctx, inside[1]))
	return line{inside[0], netip.MustParseAddr(fmt.Sprintf("10.%d.2.2", net))}, errors.Join(errs...)
}

// byUs makes a network and a container on each machine.
func (s *span) byUs(ctx context.Context, driver string, options ...string) (line, error) {
	name := strings.Join(append([]string{driver}, options...), "-")
	opts := object{}
	for _, o := range options {
		opts[o] = ""
	}
	body, err := json.Marshal(object{"Name": name, "Driver": driver, "Options": opts})
	if err != nil {
		return line{}, err
	}
	if err := s.engines[0].do(ctx, http.MethodPost, "/networks/create", "application/json", bytes.NewReader(body), nil); err != nil {
		return line{}, err
	}
	var p [2]place
	for i, e := range s.engines {
		if p[i], err = e.member(ctx, name); err != nil {
			return line{}, err
		}
	}
	l := line{p[0].ns, p[1].addr}
	if err := s.listen(ctx, p[1].ns); err != nil {
		return line{}, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := within(l.from, func() error {
			w, err := dial(netip.AddrPortFrom(l.to, probePort))
			if err == nil {
				w.close()
			}
			return err
		})
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
	}
}

// member starts a container that rests on a network, as soon as the engine knows the
// network.
func (e *engine) member(ctx context.Context, network string) (p place, err error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = e.do(ctx, http.MethodGet, "/networks/"+network, "", nil, nil); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return p, err
	}
	if p.id, err = e.create(ctx, "pause", network, nil); err == nil {
		err = e.run(ctx, p.id)
	}
	if err != nil {
		return p, err
	}
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress netip.Addr }
		}
	}
	err = e.do(ctx, http.MethodGet, "/containers/"+p.id+"/json", "", nil, &c)
	p.ns, p.addr = fmt.Sprintf("/proc/%d/ns/net", c.State.Pid), c.NetworkSettings.Networks[network].IPAddress
	return p, err
}

// listen starts the servers in a namespace.
func (s *span) listen(ctx context.Context, ns string) error {
	for _, cmd := range [][]string{{s.probe, "serve", fmt.Sprintf("tcp/0.0.0.0:%d", probePort)}, {"iperf3", "-s"}} {
		c := exec.Command("nsenter", append([]string{"--net=" + ns, "--"}, cmd...)...)
		if err := c.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		s.world.later(func() { _ = c.Process.Kill(); <-ended })
	}
	e := s.engines[0]
	for _, port := range []int{probePort, iperfPort} {
		if err := e.listening(place{ns: "/proc/" + pidIn(ns) + "/ns/net"}, port, 10*time.Second); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pidIn is a process whose network namespace that is (proc(5) tells its listeners).
func pidIn(ns string) string {
	want, err := os.Stat(ns)
	if err != nil {
		return "self"
	}
	for range 100 {
		all, _ := filepath.Glob("/proc/[0-9]*/ns/net")
		for _, p := range all {
			if have, err := os.Stat(p); err == nil && os.SameFile(want, have) {
				return strings.Split(p, "/")[2]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "self"
}

// carried is what one TCP connection carries, in Gbit/s.
func (b *bench) carried(ctx context.Context, l line) (v float64, err error) {
	for try := range 5 {
		if v, err = b.iperfTo(ctx, l.from, netip.AddrPortFrom(l.to, iperfPort)); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Duration(try+1) * 200 * time.Millisecond)
	}
	return v, err
}

func (b *bench) echoed(ctx context.Context, l line) (v float64, err error) {
	err = within(l.from, func() error {
		v, err = echoes(ctx, netip.AddrPortFrom(l.to, probePort), b.load()/2)
		return err
	})
	return v, err
}
