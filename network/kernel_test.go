package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/linux"
	"linkspan/dns"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/internal/lab"
	"linkspan/netns"
	"linkspan/probe"
	"linkspan/store/mem"
)

// machine is a controller and its kernel; restart is another process on both.
type machine struct {
	c       *Controller
	k       *linux.Kernel
	h       *lab.Host
	restart func() *Report
}

// onKernel is a controller on this machine's kernel, in a namespace of its own; what
// is left of it at the end fails the test (internal/lab).
func onKernel(t *testing.T, before ...func(*lab.Host, *Config)) *machine {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge)
	h := lab.New(t).Host("network")
	m := &machine{h: h}
	dir, ctx := t.TempDir(), context.Background()
	id := make([]byte, 3)
	rand.Read(id)
	id[0] |= 1
	name := hex.EncodeToString(id)
	instance, err := linux.Instance(name)
	if err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(dir, "netns")
	t.Cleanup(func() {
		if err := netns.Dismantle(pins); err != nil {
			t.Error(err)
		}
	})
	var log slog.Handler = slog.DiscardHandler
	if testing.Verbose() {
		log = slog.NewTextHandler(os.Stderr, nil)
	}
	cfg := Config{Store: mem.New(mem.Options{}), Drivers: driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}), Ports: &sockets{}, ID: name,
		Table: "linkspan_" + name, PinDir: pins, HostPath: filepath.Join(dir, "hostns"), Log: slog.New(log),
		Resolver: func(path string) (*dns.Sockets, error) {
			udp, tcp, ns, err := netns.ResolverSockets(path, dns.Addr, dns.Port)
			return &dns.Sockets{UDP: udp, TCP: tcp, Namespace: ns}, err
		}}
	for _, f := range before {
		f(h, &cfg)
	}
	open := func() {
		if err := h.Do(func() (err error) {
			m.k, err = linux.New(linux.Config{Instance: instance, Table: cfg.Table, PinDir: pins, Log: cfg.Log,
				OnShared: func(name, prior string) error { return m.c.NoteShared(ctx, name, prior) }})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		k := m.k
		cfg.Kernel, cfg.HostRoutes, cfg.HostLink, cfg.LinkStats = k, k.HostRoutes, k.HostLink, k.LinkStats
		cfg.Env = func() driver.Env { return driver.Env{Table: cfg.Table, BridgeNF: k.BridgeNF()} }
		if m.c, err = New(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	start := func() *Report {
		r, err := m.c.Start(ctx)
		if err != nil || len(r.Failures) > 0 {
			t.Fatalf("start: %v, %+v", err, r)
		}
		return r
	}
	open()
	start()
	t.Cleanup(func() { m.k.Close() })
	m.restart = func() *Report {
		m.k.Close()
		open()
		return start()
	}
	return m
}

// Lives of containers on networks of the real kernel: after every step it has what
// is declared and nothing else, at the end nothing.
func TestKernelHistories(t *testing.T) {
	m := onKernel(t)
	ctx := t.Context()
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	names := []string{"n0", "n1", "n2", "n3"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range names {
		w := NetworkWish{Name: n, Internal: i == 3, Pools: []cnm.Pool{{Subnet: pfx(fmt.Sprintf("10.%d.0.0/24", i)), Range: pfx(fmt.Sprintf("10.%d.0.0/25", i))}}}
		if i%2 == 1 {
			w.IPv6 = yes()
		}
		_, _, err := m.c.CreateNetwork(ctx, w)
		must(err)
	}
	wish := func(id int) Request {
		first := rnd.IntN(4)
		r := Request{ContainerID: fmt.Sprint("container-", id), ContainerName: fmt.Sprint("c", id),
			Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}}
		r = plus(r, names[first], first, namesWish(fmt.Sprint("c", id)))
		for i, n := range names {
			if i != first && rnd.IntN(2) == 0 {
				r = plus(r, n, i, gwWish(rnd.IntN(3)), namesWish(fmt.Sprint("c", id)))
			}
		}
		if rnd.IntN(3) == 0 {
			r.Endpoints[0].IPv4 = ip(fmt.Sprintf("10.%d.0.%d", first, 200+id))
		}
		return r
	}
	for step := range 60 {
		id := rnd.IntN(3)
		name := fmt.Sprint("container-", id)
		what := ""
		switch rnd.IntN(8) {
		case 0, 1, 2:
			what = "join"
			_, err := m.c.Join(ctx, wish(id))
			must(err)
		case 3, 4, 5:
			what = "update"
			must(m.c.Update(ctx, wish(id)))
		case 6:
			what = "leave"
			must(m.c.Leave(ctx, name, false))
		case 7:
			what = "restart"
			if r := m.restart(); len(r.Ops) > 0 {
				t.Fatalf("step %d: the restart did %v", step, r.Ops)
			}
		}
		r, err := m.c.Reconcile(ctx, true)
		must(err)
		if len(r.Ops) > 0 || len(r.Drift) > 0 {
			t.Fatalf("step %d, %s %s: differs: %v\ndrift: %s", step, what, name, r.Ops, dataplane.Text(r.Drift))
		}
		if s, ok := m.c.Sandbox(name); ok {
			inside(t, m.k, s)
		}
	}
	for id := range 3 {
		must(m.c.Leave(ctx, fmt.Sprint("container-", id), false))
	}
	for _, n := range names {
		must(m.c.RemoveNetwork(ctx, n))
	}
	must(m.k.Settle(ctx))
	r, err := m.c.Reconcile(ctx, true)
	must(err)
	if len(r.Ops) > 0 {
		t.Errorf("left: %v", r.Ops)
	}
}

// inside compares what a sandbox has with what it should, extras included: routes and
// addresses of endpoints that left must be gone.
func inside(t *testing.T, k *linux.Kernel, s *cnm.Sandbox) {
	t.Helper()
	have, err := k.Observe(t.Context(), []string{s.Path})
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, o := range have.All() {
		switch o := o.(type) {
		case dataplane.Route:
			if o.NS == s.Path && o.Dst.Bits() == 0 {
				got = append(got, o.Link+" "+o.Via.String())
			}
		case dataplane.Addr:
			if o.NS == s.Path && o.Link != "lo" && !o.Prefix.Addr().IsLinkLocalUnicast() {
				got = append(got, o.Link+" "+o.Prefix.String())
			}
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, g := range e.Gateways {
			want = append(want, e.IfName+" "+g.String())
		}
		for _, a := range e.Addrs {
			want = append(want, e.IfName+" "+a.String())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", s.OwnerName, got, want)
	}
}

// Counters are read from inside the sandbox.
func TestKernelStats(t *testing.T) {
	c := onKernel(t).c
	r := on("a", "bridge")
	s, err := c.Join(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Stats(t.Context(), "a")
	if err != nil || len(st) != 1 || st[0].Name != s.Endpoints[0].IfName {
		t.Errorf("%+v, %v", st, err)
	}
	if err := c.Leave(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
}

// A bridge that a person made, with the wire to the LAN on it: containers sit flat on
// the LAN, and the bridge is as it was when they are gone.
func TestKernelBorrowed(t *testing.T) {
	m := onKernel(t, func(h *lab.Host, cfg *Config) {
		h.Run("ip", "link", "add", "br0", "type", "bridge")
		h.Run("ip", "addr", "add", "10.211.55.1/24", "dev", "br0")
		h.Run("ip", "link", "set", "br0", "up")
		h.Run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
		h.Run("ip", "link", "set", "lan0", "master", "br0")
		h.Run("ip", "link", "set", "lan0", "up")
		cfg.Bridge = DefaultBridge{Name: "br0", Range: pfx("10.211.55.64/26")}
	})
	as := func() string { return m.h.Run("ip", "-o", "addr", "show", "dev", "br0") }
	ports := func() string { return m.h.Run("ip", "-o", "link", "show", "master", "br0") }
	addresses, wires := as(), ports()
	s, err := m.c.Join(t.Context(), on("a", "bridge", "8080:80"))
	if err != nil {
		t.Fatal(err)
	}
	if address(s) != ip("10.211.55.64") || s.Endpoints[0].Gateway(true) != ip("10.211.55.1") {
		t.Errorf("%+v", s.Endpoints)
	}
	if !strings.Contains(ports(), s.Endpoints[0].HostIf) {
		t.Errorf("not on the bridge: %s", ports())
	}
	if r := m.restart(); len(r.Ops) > 0 {
		t.Errorf("the restart did %v", r.Ops)
	}
	if err := m.c.Leave(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	if err := m.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := as(); got != addresses {
		t.Errorf("addresses were\n%s\nare\n%s", addresses, got)
	}
	if got := ports(); got != wires {
		t.Errorf("ports were\n%s\nare\n%s", wires, got)
	}
}
