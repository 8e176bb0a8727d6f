package linux_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
	"linkspan/netns"
)

func op(v dataplane.Verb, o dataplane.Object) []dataplane.Op {
	return []dataplane.Op{{Verb: v, Object: o}}
}

// TestMarks: group and alias are as documented; the group is there from the
// creating message on, so a link never exists without it.
func TestMarks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	mon := h.monitor("link")
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	for _, l := range []string{"docker0", "vethweb"} {
		out := h.run("ip", "-d", "link", "show", l)
		if !strings.Contains(out, fmt.Sprintf("group %d ", 0x4C000000|h.cfg.Instance)) {
			t.Errorf("%s has another group:\n%s", l, out)
		}
		if !strings.Contains(out, "alias ") || !strings.Contains(out, "bridge") {
			t.Errorf("%s has no alias:\n%s", l, out)
		}
	}
	if out := h.in(h.pin("web"), "ip", "route"); !strings.Contains(out, "proto 76") {
		t.Errorf("the route has no mark:\n%s", out)
	}
	for line := range strings.Lines(mon()) {
		if strings.Contains(line, "docker0") && strings.Contains(line, "group default") {
			t.Errorf("docker0 was seen without its mark: %s", line)
		}
	}
}

// monitor records `ip monitor` in the host until the returned func is called.
func (h *host) monitor(what string) func() string {
	h.t.Helper()
	f, err := os.CreateTemp(h.t.TempDir(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := command(h.ns, "ip", "-o", "monitor", what)
	cmd.Stdout = f
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	return func() string {
		time.Sleep(50 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		b, _ := os.ReadFile(f.Name())
		return string(b)
	}
}

// TestTwoInstances: in one namespace (which the daemon refuses), one instance
// neither sees nor touches what the other made.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	other := &host{t: t, ns: h.ns, pins: h.pins + "2", cfg: h.cfg}
	t.Cleanup(func() { netns.Dismantle(other.pins) })
	other.cfg.Instance ^= 1
	other.cfg.Table, other.cfg.PinDir = "other", other.pins
	other.k = other.open()
	if n := other.observe().Len(); n != 0 {
		t.Errorf("sees %d objects of the other", n)
	}
	br := dataplane.Bridge{Meta: network, Name: "docker0"}
	if err := other.k.Apply(t.Context(), op(dataplane.Create, br)); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "bridge, group 12") {
		t.Errorf("took the other's bridge: %v", err)
	}
	for _, o := range []dataplane.Object{br, dataplane.Up{Link: "docker0"}, dataplane.Addr{Link: "docker0", Prefix: netip.MustParsePrefix("172.17.0.1/16")}} {
		_ = other.k.Apply(t.Context(), op(dataplane.Delete, o))
	}
	want := dataplane.NewState(bridgeNet()...)
	if ops := notSysctl(diff.Compute(want, h.observe()).Ops); len(ops) > 0 {
		t.Errorf("the other was touched: %v", ops)
	}
}

// TestDoomed: after a delete the name is free at once; what a killed process
// had doomed, the next sweeps.
func TestDoomed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	web := h.container("web", 2)
	for range 20 {
		h.apply(diff.Create(web))
		h.apply(diff.Delete(web))
		if out := h.run("ip", "-o", "link"); strings.Contains(out, "vethweb") {
			t.Fatalf("the name is still there:\n%s", out)
		}
	}
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := h.run("ip", "-o", "link"); strings.Contains(out, "lsd") {
		t.Errorf("not deleted:\n%s", out)
	}
	h.run("ip", "link", "add", "lsd9", "group", fmt.Sprint(0x4D000000|h.cfg.Instance), "type", "veth", "peer", "lsd8")
	h.run("ip", "link", "add", "lsd7", "group", fmt.Sprint(0x4D000000|h.cfg.Instance^1), "type", "bridge")
	k := h.open()
	if err := k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := h.run("ip", "-o", "link"); strings.Contains(out, "lsd9") || !strings.Contains(out, "lsd7") {
		t.Errorf("swept wrongly:\n%s", out)
	}
}

// TestReplug: a sandbox that lives on is disconnected and connected again, under
// another name on the host and the same inside, without waiting for the kernel.
func TestReplug(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	web := h.container("web", 2)
	h.apply(diff.Create(web))
	ns, link := web[:1], web[1:7]
	for i := range 20 {
		h.apply(diff.Delete(link))
		for j, o := range link {
			switch o := o.(type) {
			case dataplane.Veth:
				o.Name = fmt.Sprintf("vnew%d", i)
				link[j] = o
			case dataplane.Up:
				if o.NS == "" {
					o.Link = fmt.Sprintf("vnew%d", i)
					link[j] = o
				}
			}
		}
		h.apply(diff.Create(link))
		if out := h.in(h.pin("web"), "ip", "route"); strings.Count(out, "default") != 1 {
			t.Fatalf("routes:\n%s", out)
		}
	}
	h.settle()
	want := append(append(bridgeNet(), ns...), link...)
	if p := diff.Compute(dataplane.NewState(append(want, web[7:]...)...), h.observe(h.pin("web"))); len(notSysctl(p.Ops))+len(p.Drift) > 0 {
		t.Errorf("%v %v", p.Ops, p.Drift)
	}
	if out := h.in(h.pin("web"), "ip", "-o", "link"); strings.Contains(out, "lsd") {
		t.Errorf("still in the sandbox:\n%s", out)
	}
}

// TestBridgeMTU: a bridge keeps its MTU when its ports come and go.
func TestBridgeMTU(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	br := dataplane.Bridge{Meta: network, Name: "br0", MTU: 1400}
	v := dataplane.Veth{Meta: endpoint, Name: "v0", MTU: 1300, Master: "br0", PeerNS: h.pin("a"), PeerName: "eth0"}
	h.apply(diff.Create([]dataplane.Object{br, dataplane.Namespace{Path: h.pin("a")}, v}))
	h.apply(op(dataplane.Delete, v))
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	o, _ := h.observe().Get("link br0")
	if o == nil || o.Spec() != br.Spec() {
		t.Errorf("bridge is %v, want %s", o, br.Spec())
	}
	v.MTU = 1350
	h.apply(op(dataplane.Create, v))
	v.MTU = 9000
	h.apply(op(dataplane.Change, v))
	if out := h.in(h.pin("a"), "ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 9000") {
		t.Errorf("the peer did not follow:\n%s", out)
	}
}

// TestRenamedInside: a peer renamed in the sandbox stays as it is; moved out of
// the sandbox, the pair is made anew.
func TestRenamedInside(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	v := dataplane.Veth{Meta: endpoint, Name: "v0", PeerNS: h.pin("a"), PeerName: "eth0"}
	objs := []dataplane.Object{dataplane.Namespace{Path: h.pin("a")}, v}
	h.apply(diff.Create(objs))
	h.in(h.pin("a"), "ip", "link", "set", "eth0", "name", "wan")
	h.apply(diff.Create(objs))
	p := diff.Compute(dataplane.NewState(objs...), h.observe(h.pin("a")))
	if len(p.Ops) != 0 || len(p.Drift) != 1 {
		t.Errorf("renamed: %v", p)
	}
	away := h.ns + "2"
	if err := netns.Create(away); err != nil {
		t.Fatal(err)
	}
	h.in(h.pin("a"), "ip", "link", "set", "wan", "netns", away)
	p = diff.Compute(dataplane.NewState(objs...), h.observe(h.pin("a")))
	h.apply(p.Ops)
	if p := diff.Compute(dataplane.NewState(objs...), h.observe(h.pin("a"))); len(p.Ops)+len(p.Drift) > 0 {
		t.Errorf("moved away: %v", p)
	}
}

// TestAddresses: an IPv6 address is usable at once; the same one with another
// length is told, not passed over; the broadcast address is set.
func TestAddresses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	out := h.run("ip", "addr", "show", "docker0")
	if strings.Contains(out, "tentative") || !strings.Contains(out, "fd00:17::1/64") || !strings.Contains(out, "brd 172.17.255.255") {
		t.Errorf("addresses:\n%s", out)
	}
	a := dataplane.Addr{Meta: network, Link: "docker0", Prefix: netip.MustParsePrefix("fd00:17::1/80")}
	if err := h.k.Apply(t.Context(), op(dataplane.Create, a)); err == nil || !strings.Contains(err.Error(), "another prefix length") {
		t.Errorf("error: %v", err)
	}
	h.run("sysctl", "-qw", "net.ipv6.conf.docker0.disable_ipv6=1")
	a.Prefix = netip.MustParsePrefix("fd00:18::1/64")
	if err := h.k.Apply(t.Context(), op(dataplane.Create, a)); err == nil || !strings.Contains(err.Error(), "IPv6 is switched off on docker0") {
		t.Errorf("error: %v", err)
	}
}

// TestRoutes: ours are adjusted, strangers' that serve are taken, strangers'
// that do not are conflicts and stay.
func TestRoutes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	dst := netip.MustParsePrefix("10.9.0.0/24")
	r := dataplane.Route{Meta: network, Link: "docker0", Dst: dst, Via: netip.MustParseAddr("172.17.0.5")}
	h.run("ip", "route", "add", "10.9.0.0/24", "via", "172.17.0.9")
	err := h.k.Apply(t.Context(), op(dataplane.Create, r))
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "via 172.17.0.9") {
		t.Errorf("a stranger's route: %v", err)
	}
	h.apply(op(dataplane.Delete, r))
	if out := h.run("ip", "route"); !strings.Contains(out, "10.9.0.0/24 via 172.17.0.9") {
		t.Errorf("a stranger's route is gone:\n%s", out)
	}
	h.run("ip", "route", "del", "10.9.0.0/24")
	h.apply(op(dataplane.Create, r))
	r.Via = netip.MustParseAddr("172.17.0.6")
	h.apply(op(dataplane.Change, r))
	r6 := dataplane.Route{Meta: network, Link: "docker0", Dst: netip.MustParsePrefix("fd01::/64"), Via: netip.MustParseAddr("fd00:17::9")}
	h.apply(op(dataplane.Create, r6))
	r6.Via = netip.MustParseAddr("fd00:17::8")
	h.apply(op(dataplane.Create, r6))
	for _, want := range []dataplane.Route{r, r6} {
		if o, ok := h.observe().Get(want.Key()); !ok || o.Spec() != want.Spec() {
			t.Errorf("%s is %v", want.Key(), o)
		}
	}
	far := dataplane.Route{Meta: network, Link: "docker0", Dst: dst, Via: netip.MustParseAddr("192.168.99.1")}
	far.Dst = netip.MustParsePrefix("10.10.0.0/24")
	if err := h.k.Apply(t.Context(), op(dataplane.Create, far)); err == nil || !strings.Contains(err.Error(), "gateway 192.168.99.1 is not on a network of docker0") {
		t.Errorf("error: %v", err)
	}
	// A gateway of IPv6 serves IPv4 (RFC 5549), not the other way round.
	far.Via = netip.MustParseAddr("fe80::1")
	h.apply(op(dataplane.Create, far))
	if o, ok := h.observe().Get(far.Key()); !ok || o.Spec() != far.Spec() {
		t.Errorf("%s is %v", far.Key(), o)
	}
	far.Dst, far.Via = netip.MustParsePrefix("fd02::/64"), netip.MustParseAddr("172.17.0.5")
	if err := h.k.Apply(t.Context(), op(dataplane.Create, far)); !errors.Is(err, cnm.ErrUnsupported) {
		t.Errorf("error: %v", err)
	}
}

// TestSysctls: each namespace has its own; shared ones are told before, and a
// refusal keeps them.
func TestSysctls(t *testing.T) {
	t.Parallel()
	var told []string
	var refuse error
	h := newHost(t, func(c *linux.Config) {
		c.OnShared = func(name, prior string) error { told = append(told, name+"="+prior); return refuse }
	})
	h.apply(op(dataplane.Create, dataplane.Namespace{Path: h.pin("a")}))
	h.apply(op(dataplane.Create, dataplane.Sysctl{NS: h.pin("a"), Name: "net/ipv4/ip_unprivileged_port_start", Value: "0"}))
	if in, out := h.in(h.pin("a"), "sysctl", "-n", "net.ipv4.ip_unprivileged_port_start"), h.run("sysctl", "-n", "net.ipv4.ip_unprivileged_port_start"); in != "0\n" || out == "0\n" {
		t.Errorf("inside %q, outside %q", in, out)
	}
	fwd := dataplane.Sysctl{Meta: network, Name: "net/ipv4/ip_forward", Value: "1", Shared: true}
	h.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
	refuse = errors.New("store is full")
	if err := h.k.Apply(t.Context(), op(dataplane.Create, fwd)); !errors.Is(err, refuse) {
		t.Errorf("error: %v", err)
	}
	refuse = nil
	h.apply(op(dataplane.Create, fwd))
	h.apply(op(dataplane.Create, fwd))
	h.apply(op(dataplane.Delete, fwd))
	if out := h.run("sysctl", "-n", "net.ipv4.ip_forward"); out != "1\n" || len(told) != 2 || told[1] != "net/ipv4/ip_forward=0" {
		t.Errorf("ip_forward is %q, told %q", out, told)
	}
	ranges := dataplane.Sysctl{Meta: network, NS: h.pin("a"), Name: "net/ipv4/ip_local_port_range", Value: "20000 30000"}
	h.apply(op(dataplane.Create, ranges))
	if s, err := h.k.ObserveKeys(t.Context(), []dataplane.Object{ranges}); err != nil || s.All()[0].Spec() != ranges.Spec() {
		t.Errorf("%v %v", s.All(), err)
	}
	for name, want := range map[string]string{"net/ipv4/no_such": "no parameter", "../etc/passwd": "not a path", "/etc/passwd": "not a path", "net/ipv4/ip_forward": "invalid argument"} {
		err := h.k.Apply(t.Context(), op(dataplane.Create, dataplane.Sysctl{Name: name, Value: "nonsense"}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestParallel: many containers at once, while someone observes.
func TestParallel(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	ctx, stop := context.WithCancel(t.Context())
	var wg, watcher sync.WaitGroup
	watcher.Go(func() {
		for ctx.Err() == nil {
			if _, err := h.k.Observe(ctx, nil); err != nil && ctx.Err() == nil {
				t.Errorf("observing: %v", err)
			}
		}
	})
	for i := range 8 {
		wg.Go(func() {
			c := h.container(fmt.Sprintf("c%d", i), byte(10+i))
			for range 5 {
				if err := h.k.Apply(ctx, diff.Create(c)); err != nil {
					t.Errorf("create: %v", err)
				}
				if err := h.k.Apply(ctx, diff.Delete(c)); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	watcher.Wait()
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ops := notSysctl(diff.Compute(dataplane.NewState(bridgeNet()...), h.observe()).Ops); len(ops) > 0 {
		t.Errorf("left over: %v", ops)
	}
}

func TestInstance(t *testing.T) {
	for in, want := range map[string]uint32{"a1b2c3": 0xa1b2c3, "a1b2c3d4e5": 0xa1b2c3, "000000ff": 0, "xyzxyz": 0, "ab": 0} {
		got, err := linux.Instance(in)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %x %v", in, got, err)
		}
	}
	if _, err := linux.New(linux.Config{Table: "x", PinDir: "/x"}); err == nil {
		t.Error("a kernel without an instance")
	}
}
