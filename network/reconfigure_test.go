package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/internal/lab"
	"linkspan/ipam"
)

// reloads changes the world's configuration in place: what a SIGHUP does.
func (w *world) reloads(change func(*Config)) {
	w.t.Helper()
	change(&w.cfg)
	r, err := w.Reconfigure(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(r.Failures) > 0 {
		w.t.Fatal(r.Failures)
	}
}

// Each setting of the default bridge changes under a container that runs, and a
// restart with the same configuration finds nothing to do: there is one way to what
// is declared.
func TestReconfigureLive(t *testing.T) {
	w := newWorld(t)
	a := w.join(on("a", "bridge", "80:80"))
	w.reloads(func(c *Config) {
		c.Bridge.NoICC, c.Bridge.NoMasquerade = true, true
		c.Bridge.Range, c.Bridge.Gateway = pfx("172.17.9.0/24"), ip("172.17.0.9")
		c.BindIP, c.AcceptMark = ip("127.0.0.1"), dataplane.Mark{Value: 1, Mask: 3}
		c.Env = func() driver.Env { return driver.Env{Table: "linkspan_00000a", DirectRouting: true} }
	})
	n, _ := w.Network("bridge")
	for k, want := range map[string]string{"enable_icc": "false", "enable_ip_masquerade": "false", "host_binding_ipv4": "127.0.0.1"} {
		if got := n.Options["com.docker.network.bridge."+k]; got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if got := w.elements("masquerade4"); len(got) != 0 {
		t.Errorf("masqueraded: %q", got)
	}
	o, _ := w.kernel.State().Get(dataplane.Bridge{Name: "docker0"}.Key())
	if b, ok := o.(dataplane.Bridge); !ok || !b.NFCall {
		t.Errorf("icc=false: %+v", o)
	}
	page := dataplane.BasePage("linkspan_00000a", dataplane.Mark{Value: 1, Mask: 3})
	if o, _ := w.kernel.State().Get(page.Key()); o == nil || o.Spec() != page.Spec() {
		t.Errorf("the page is not the one with the mark")
	}
	// Who runs has what it had; who comes later gets the new.
	if s, _ := w.Sandbox("a"); address(s) != address(a) || s.Endpoints[0].Gateway(true) != ip("172.17.0.1") || s.Ports[0].HostIP.IsValid() {
		t.Errorf("%+v", s)
	}
	b := w.join(on("b", "bridge", "81:81"))
	if !pfx("172.17.9.0/24").Contains(address(b)) || b.Endpoints[0].Gateway(true) != ip("172.17.0.9") || b.Ports[0].HostIP != ip("127.0.0.1") {
		t.Errorf("%+v", b)
	}
	made := w.things()
	w.restart()
	if len(w.report.Ops) > 0 {
		t.Errorf("the restart did %v", w.report.Ops)
	}
	if w.things() != made {
		t.Errorf("the restart changed\n%s", w.things())
	}
	// And all of it back.
	w.reloads(func(c *Config) {
		c.Bridge, c.BindIP, c.AcceptMark = DefaultBridge{}, ip(""), dataplane.Mark{}
		c.Env = func() driver.Env { return driver.Env{Table: "linkspan_00000a"} }
	})
	if got := w.elements("masquerade4"); !slices.Equal(got, []string{"172.17.0.0/16 = "}) {
		t.Errorf("masqueraded: %q", got)
	}
}

// Under containers the bridge keeps its address and MTU, says which containers hold
// them, takes what it can, and moves at the first reload without them.
func TestReconfigureUnderContainers(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.restart()
	w.join(on("web", "bridge"))
	w.join(on("db", "bridge"))
	change := func(c *Config) {
		c.Bridge = DefaultBridge{BIP: pfx("10.7.0.1/24"), MTU: 1400, NoMasquerade: true, Range: pfx("10.7.0.128/25")}
	}
	w.reloads(change)
	for _, want := range []string{"keeps its old settings until its containers are gone", "SIGHUP", "name-of-db, name-of-web", "address 172.17.0.1/16, wanted 10.7.0.1/24", "mtu 1500, wanted 1400"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, log.String())
		}
	}
	n, _ := w.Network("bridge")
	if !w.has("addr docker0 172.17.0.1/16") || n.Pools[0].Range.IsValid() || n.Options[optMTU] != "1500" || n.Options["com.docker.network.bridge.enable_ip_masquerade"] != "false" {
		t.Errorf("%+v\n%s", n, w.things())
	}
	w.leave("web", false)
	w.leave("db", false)
	log.Reset()
	w.reloads(change)
	n, _ = w.Network("bridge")
	if !w.has("addr docker0 10.7.0.1/24") || w.has("addr docker0 172.17.0.1/16") || n.Options[optMTU] != "1400" || log.Len() > 0 {
		t.Errorf("%+v\n%s%s", n, w.things(), log.String())
	}
	if s := w.join(on("web", "bridge")); !pfx("10.7.0.128/25").Contains(address(s)) {
		t.Errorf("%+v", s.Endpoints)
	}
	// IPv6 comes the same way.
	w.reloads(func(c *Config) { c.Bridge.IPv6, c.Bridge.BIP6 = true, pfx("fd00:1::1/64") })
	if n, _ := w.Network("bridge"); n.IPv6 || len(n.Pools) != 1 {
		t.Errorf("under a container: %+v", n)
	}
	w.leave("web", false)
	w.reloads(func(*Config) {})
	if n, _ := w.Network("bridge"); !n.IPv6 || !w.has("addr docker0 fd00:1::1/64") {
		t.Errorf("%+v\n%s", n, w.things())
	}
}

// A value that cannot be changes nothing, of whatever else came with it.
func TestReconfigureRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		class  error
		words  string
	}{
		"a range outside":       {func(c *Config) { c.Bridge.Range = pfx("10.9.0.0/24") }, cnm.ErrInvalid, "ip-range 10.9.0.0/24"},
		"a gateway outside":     {func(c *Config) { c.Bridge.Gateway = ip("10.9.0.1") }, cnm.ErrInvalid, "10.9.0.1"},
		"a container's address": {func(c *Config) { c.Bridge.Gateway = ip("172.17.0.2") }, cnm.ErrConflict, "--default-gateway 172.17.0.2 is the address of container name-of-a"},
		"another's subnet":      {func(c *Config) { c.Bridge.BIP = pfx("10.50.0.1/24") }, cnm.ErrConflict, "of network shop"},
		"the driver's own":      {func(c *Config) { c.Bridge = DefaultBridge{IPv6: true, BIP6: pfx("fd00::1/64"), MTU: 1000} }, cnm.ErrInvalid, "RFC 8200"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.network("shop", "10.50.0.0/24")
			if w.join(on("a", "bridge", "80:80")); name == "the driver's own" {
				w.leave("a", false)
			}
			was, before := w.cfg, w.everything()
			cfg := w.cfg
			cfg.Bridge.NoICC, cfg.BindIP, cfg.AddressPools, cfg.NoForwarding = true, ip("127.0.0.1"), []ipam.Base{{Prefix: pfx("10.99.0.0/16"), Bits: 24}}, true
			c.change(&cfg)
			_, err := w.Reconfigure(t.Context(), cfg)
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), "default bridge: ") || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("%v", err)
			}
			if d := lab.Differ(before, w.everything()); d != "" {
				t.Errorf("changed:\n%s", d)
			}
			if n := w.network("later", ""); pfx("10.99.0.0/16").Overlaps(n.Pools[0].Subnet) {
				t.Errorf("%+v", n.Pools)
			}
			if s := w.join(on("b", "bridge", "81:81")); s.Ports[0].HostIP.IsValid() {
				t.Errorf("%+v", s.Ports)
			}
			if w.Controller.cfg.NoForwarding != was.NoForwarding {
				t.Error("forwarding")
			}
		})
	}
}

// What a reload refuses does not keep the daemon from starting.
func TestRouterTakenAtStart(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(w *world) { w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	s := w.join(on("a", "bridge"))
	w.cfg.Bridge = DefaultBridge{Gateway: address(s), NoMasquerade: true}
	w.restart()
	n, _ := w.Network("bridge")
	if len(n.Pools[0].Aux) > 0 || n.Options["com.docker.network.bridge.enable_ip_masquerade"] != "false" || !strings.Contains(log.String(), "is the address of container name-of-a") {
		t.Errorf("%+v %s", n, log.String())
	}
	w.kernel.Lose("netns " + s.Path) // a boot
	w.restart()
	w.leave("a", false)
	w.restart()
	if n, _ := w.Network("bridge"); n.RouterOf(n.Pools[0]) != address(s) {
		t.Errorf("%+v", n)
	}
}

// Defaults of new networks: those that are there keep what they were made with.
func TestReconfigureDefaults(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Bridge.MTU = 1500 })
	old := w.network("old", "")
	w.reloads(func(c *Config) {
		c.AddressPools = []ipam.Base{{Prefix: pfx("10.99.0.0/16"), Bits: 26}}
		c.DefaultOptions = map[string]map[string]string{"bridge": {"com.docker.network.bridge.enable_icc": "false", optIPv6: "true"}}
		c.Bridge.MTU = 1400
	})
	n := w.network("new", "")
	if n.Pools[0].Subnet != pfx("10.99.0.0/26") || !n.IPv6 || n.Options["com.docker.network.bridge.enable_icc"] != "false" || n.Options[optMTU] != "1400" {
		t.Errorf("%+v", n)
	}
	if n, _ := w.Network("old"); !same(n, old) {
		t.Errorf("%+v", n)
	}
	if n := w.network("own", "", func(w *NetworkWish) { w.Options = map[string]string{optMTU: "9000"} }); n.Options[optMTU] != "9000" {
		t.Errorf("%+v", n)
	}
	for _, name := range []string{"old", "new"} {
		n, _ := w.Network(name)
		want := map[string]int{"old": 0, "new": 1400}[name]
		for _, o := range w.kernel.State().All() {
			if b, ok := o.(dataplane.Bridge); ok && strings.HasSuffix(b.Name, n.ID[:12]) && b.MTU != want && !(want == 0 && b.MTU == 1500) {
				t.Errorf("%s has MTU %d", name, b.MTU)
			}
		}
	}
}

// Forwarding is turned on at a reload, with the guard of a host that did not forward;
// it is not turned off under those who need it.
func TestReconfigureHost(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.kernel.Meddle(dataplane.Sysctl{Name: forward4, Value: "0"})
		w.cfg.NoForwarding = true
	})
	w.reloads(func(c *Config) { c.NoForwarding = false })
	if o, _ := w.kernel.State().Get("sysctl " + forward4); o.(dataplane.Sysctl).Value != "1" || w.shared[forward4] != "0" || len(w.elements("forward_guard")) != 1 {
		t.Errorf("%v, noted %v, guard %q", o, w.shared, w.elements("forward_guard"))
	}
	w.reloads(func(c *Config) { c.NoForwarding = true })
	if o, _ := w.kernel.State().Get("sysctl " + forward4); o.(dataplane.Sysctl).Value != "1" {
		t.Error("containers were cut off")
	}
}

// Reloads come while containers start, networks are made and plans are asked for:
// run with -race, each of these reads settings that a reload writes.
func TestReconfigureAmongOthers(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.BridgeNFUsers = func(context.Context) ([]string, error) { return []string{"bridge br9"}, nil }
	})
	w.network("shop", "172.29.0.0/24")
	ctx, done := t.Context(), make(chan struct{})
	var all sync.WaitGroup
	often := func(f func(i int) error) {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, id := range []string{"a", "b"} {
		often(func(int) error {
			if _, err := w.Join(ctx, on(id, "shop")); err != nil {
				return err
			}
			return w.Leave(ctx, id, false)
		})
	}
	often(func(int) error {
		if _, err := w.Join(ctx, on("c", "bridge", "80:80")); err != nil {
			return err
		}
		return w.Leave(ctx, "c", false)
	})
	often(func(int) error {
		if _, _, err := w.CreateNetwork(ctx, NetworkWish{Name: "new", IPv6: yes()}); err != nil {
			return err
		}
		return w.RemoveNetwork(ctx, "new")
	})
	often(func(int) error { _, err := w.Plan(ctx, on("d", "bridge", "81:80")); return err })
	often(func(int) error { return w.BridgesChanged(ctx) })
	for i := range 50 {
		odd := i%2 == 1
		cfg := w.cfg
		cfg.Bridge.NoICC, cfg.Bridge.NoMasquerade, cfg.NoForwarding = odd, odd, odd
		cfg.Bridge.MTU = 1400 + i%2
		cfg.HostGateway, cfg.DefaultOptions, cfg.AddressPools = nil, nil, nil
		cfg.Env = func() driver.Env { return driver.Env{Table: "linkspan_00000a", DirectRouting: odd} }
		if odd {
			cfg.HostGateway, cfg.BindIP = []netip.Addr{ip("192.0.2.1")}, ip("127.0.0.1")
			cfg.DefaultOptions = map[string]map[string]string{"bridge": {"com.docker.network.bridge.enable_icc": "false"}}
			cfg.AddressPools = []ipam.Base{{Prefix: pfx("10.99.0.0/16"), Bits: 24}}
		}
		r, err := w.Reconfigure(ctx, cfg)
		if err != nil || len(r.Failures) > 0 {
			t.Errorf("%v %+v", err, r)
			break
		}
	}
	close(done)
	all.Wait()
	if r, err := w.Reconcile(ctx, true); err != nil || len(r.Ops) > 0 {
		t.Errorf("left over: %v, %v", r, err)
	}
}
