package network

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/internal/lab"
)

func TestPredefined(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Predefined = []cnm.Network{{Name: "lan", Driver: "bridge", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.5.0.0/24"), Gateway: netip.MustParseAddr("10.5.0.1")}}}}
	})
	ids := map[string]string{}
	var names []string
	for _, n := range w.Networks() {
		names, ids[n.Name] = append(names, n.Name), n.ID
		if !n.Predefined || len(n.ID) != 64 {
			t.Errorf("%+v", n)
		}
		for _, ref := range []string{n.ID, n.Name, n.ID[:12]} {
			if got, err := w.Network(ref); err != nil || got != n {
				t.Errorf("%s: %v, %v", ref, got, err)
			}
		}
	}
	if !slices.Equal(names, []string{"bridge", "host", "lan", "none"}) {
		t.Errorf("networks %q", names)
	}
	if _, err := w.Network("shop"); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "network shop not found") {
		t.Errorf("unknown: %v", err)
	}
	w.join(on("a", "lan"))
	before := w.everything()
	w.restart()
	if d := lab.Differ(before, w.everything()); d != "" || len(w.report.Ops) != 0 {
		t.Errorf("a restart did %v:\n%s", w.report.Ops, d)
	}
	for _, n := range w.Networks() {
		if ids[n.Name] != n.ID {
			t.Errorf("%s is another one after the restart", n.Name)
		}
	}
}

// The default bridge's subnet is the first that the host does not use.
func TestPool(t *testing.T) {
	for _, c := range []struct {
		name   string
		used   []string
		bridge DefaultBridge
		want   string // subnet gateway range; or part of an error
	}{
		{name: "nobody there", want: "172.17.0.0/16 172.17.0.1 invalid Prefix"},
		{name: "the first is taken", used: []string{"172.17.5.0/24", "10.0.0.0/8"}, want: "172.18.0.0/16 172.18.0.1 invalid Prefix"},
		{name: "all of 172.16/12 is routed", used: []string{"172.16.0.0/12"}, want: "192.168.0.0/24 192.168.0.1 invalid Prefix"},
		{name: "a default route uses nothing", used: []string{"0.0.0.0/0"}, want: "172.17.0.0/16 172.17.0.1 invalid Prefix"},
		{name: "--bip", bridge: DefaultBridge{BIP: netip.MustParsePrefix("10.7.0.9/24")}, want: "10.7.0.0/24 10.7.0.9 invalid Prefix"},
		{name: "--fixed-cidr", bridge: DefaultBridge{BIP: netip.MustParsePrefix("10.7.0.9/24"), Range: netip.MustParsePrefix("10.7.0.128/25")}, want: "10.7.0.0/24 10.7.0.9 10.7.0.128/25"},
		{name: "--fixed-cidr outside", bridge: DefaultBridge{BIP: netip.MustParsePrefix("10.7.0.9/24"), Range: netip.MustParsePrefix("10.8.0.0/25")}, want: "default bridge: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := func(w *world) {
				w.cfg.Bridge = c.bridge
				var routes []dataplane.HostRoute
				for _, p := range c.used {
					routes = append(routes, dataplane.HostRoute{Prefix: netip.MustParsePrefix(p), What: "route via dev tun0"})
				}
				w.kernel.SetHostRoutes(routes...)
				w.cfg.HostRoutes = w.kernel.HostRoutes
			}
			if strings.HasPrefix(c.want, "default bridge") {
				w := newWorld(t)
				set(w)
				cc, err := New(t.Context(), w.cfg)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := cc.Start(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			w := newWorld(t, set)
			n, _ := w.Network("bridge")
			p := n.Pools[0]
			if got := p.Subnet.String() + " " + p.Gateway.String() + " " + p.Range.String(); got != c.want {
				t.Errorf("pool %s, want %s", got, c.want)
			}
			if a := address(w.join(on("a", "bridge"))); !p.Subnet.Contains(a) || p.Range.IsValid() && !p.Range.Contains(a) {
				t.Errorf("address %s of %+v", a, p)
			}
		})
	}
}

// --default-gateway is a router that containers use instead of the bridge; it is
// never handed out.
func TestDefaultGateway(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Bridge = DefaultBridge{BIP: netip.MustParsePrefix("10.7.0.1/29"), Gateway: netip.MustParseAddr("10.7.0.2")}
	})
	s := w.join(on("a", "bridge"))
	if address(s) != netip.MustParseAddr("10.7.0.3") || s.Endpoints[0].Gateway(true) != netip.MustParseAddr("10.7.0.2") {
		t.Errorf("%+v", s.Endpoints[0])
	}
	for _, id := range []string{"b", "c", "d"} {
		w.join(on(id, "bridge"))
	}
	if _, err := w.Join(t.Context(), on("e", "bridge")); !errors.Is(err, cnm.ErrExhausted) {
		t.Errorf("a full pool: %v", err)
	}
	w.leave("c", false)
	w.join(on("e", "bridge"))
}

// The flags change while containers are there: the bridge keeps its settings, and
// takes the new ones when it is empty.
func TestBIPChanges(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.join(on("a", "bridge"))
	w.cfg.Bridge.BIP = netip.MustParsePrefix("10.7.0.1/24")
	w.restart()
	if !w.has("addr docker0 172.17.0.1/16") || w.has("addr docker0 10.7.0.1/24") || !strings.Contains(log.String(), "keeps its old settings") {
		t.Errorf("with a container:\n%s%s", w.things(), log.String())
	}
	w.leave("a", false)
	w.restart()
	if w.has("addr docker0 172.17.0.1/16") || !w.has("addr docker0 10.7.0.1/24") {
		t.Errorf("without one:\n%s", w.things())
	}
	if a := address(w.join(on("a", "bridge"))); a != netip.MustParseAddr("10.7.0.2") {
		t.Errorf("address %s", a)
	}
	if got := w.elements("masquerade4"); !slices.Equal(got, []string{"10.7.0.0/24 = "}) {
		t.Errorf("masqueraded: %q", got)
	}
	// Without the flag again, it stays where it is.
	w.cfg.Bridge.BIP = netip.Prefix{}
	w.leave("a", false)
	w.restart()
	if !w.has("addr docker0 10.7.0.1/24") {
		t.Errorf("the flag is gone:\n%s", w.things())
	}
}

// A docker0 of someone else is left alone, also on the next starts.
func TestForeignBridge(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(w *world) {
		w.kernel.Stranger("docker0", "bridge, group 0")
		w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 2 {
		if !w.has("link linkspan0") || w.has("link docker0") {
			t.Errorf("links:\n%s", w.things())
		}
		w.restart()
	}
	if !strings.Contains(log.String(), "docker0 exists and is not ours") || strings.Count(log.String(), "not ours") != 1 {
		t.Errorf("the log says %s", log.String())
	}
	s := w.join(on("a", "bridge"))
	if o, _ := w.kernel.State().Get("link " + s.Endpoints[0].HostIf); o.(dataplane.Veth).Master != "linkspan0" {
		t.Errorf("%+v", o)
	}
}

// Where the host did not forward, its prior value is recorded before ours is
// written, and the page closes what would be forwarded between others' interfaces.
func TestForwarding(t *testing.T) {
	off := dataplane.Sysctl{Name: "net/ipv4/ip_forward", Value: "0"}
	guard := "element inet linkspan_00000a forward_guard { ipv4 }"
	w := newWorld(t, func(w *world) { w.kernel.Meddle(off) })
	if !w.has(guard) || w.shared["net/ipv4/ip_forward"] != "0" {
		t.Errorf("was off: %v\n%s", w.shared, w.things())
	}
	w.restart()
	if !w.has(guard) || w.shared["net/ipv4/ip_forward"] != "0" || len(w.report.Ops) != 0 {
		t.Errorf("after a restart: %v %v", w.shared, w.report.Ops)
	}
	w = newWorld(t)
	if w.has(guard) || len(w.shared) != 0 {
		t.Errorf("was on: %v\n%s", w.shared, w.things())
	}
	// Someone turns it off later: what we turn on again, we close.
	w.kernel.Meddle(off)
	if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Failures) > 0 || !w.has(guard) {
		t.Errorf("%v %+v\n%s", err, r, w.things())
	}
}

// Damage in the store is said, with the key.
func TestDamaged(t *testing.T) {
	w := newWorld(t)
	s := w.join(on("a", "bridge"))
	if _, err := w.store.Commit(t.Context(), storeOp("sandboxes/"+s.ID, "{")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), w.cfg); err == nil || !strings.Contains(err.Error(), "sandboxes/"+s.ID+" is damaged") {
		t.Errorf("%v", err)
	}
}
