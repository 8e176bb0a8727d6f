package network

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/events"
	"linkspan/internal/lab"
	"linkspan/ipam"
	"linkspan/store"
)

func pfx(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

// network makes one with a subnet, or whatever is free.
func (w *world) network(name, subnet string, more ...func(*NetworkWish)) *cnm.Network {
	w.t.Helper()
	wish := NetworkWish{Name: name}
	if subnet != "" {
		wish.Pools = []cnm.Pool{{Subnet: pfx(subnet)}}
	}
	for _, f := range more {
		f(&wish)
	}
	n, _, err := w.CreateNetwork(w.t.Context(), wish)
	if err != nil {
		w.t.Fatalf("create %s: %v", name, err)
	}
	return n
}

func (w *world) remove(ref string) {
	w.t.Helper()
	if err := w.RemoveNetwork(w.t.Context(), ref); err != nil {
		w.t.Fatalf("remove %s: %v", ref, err)
	}
}

func TestCreateAndRemove(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	_, heard := w.bus.Subscribe(t.Context(), time.Time{})
	n := w.network("my-net", "172.25.0.0/16", func(w *NetworkWish) {
		w.Pools[0].Gateway = ip("172.25.0.1")
		w.Labels = map[string]string{"team": "a"}
		w.Attachable = true
	})
	if n.Driver != "bridge" || n.IPAMDriver != "default" || len(n.ID) != 64 || n.Predefined || !n.Attachable || n.Labels["team"] != "a" {
		t.Errorf("%+v", n)
	}
	br := "br-" + n.ID[:12]
	for _, key := range []string{"link " + br, "addr " + br + " 172.25.0.1/16", "up " + br} {
		if !w.has(key) {
			t.Errorf("no %s in\n%s", key, w.things())
		}
	}
	s := w.join(on("a", "my-net", "80:80"))
	if address(s) != ip("172.25.0.2") {
		t.Errorf("address %s", address(s))
	}
	err := w.RemoveNetwork(t.Context(), "my-net")
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "has active endpoints: name-of-a") || !strings.Contains(err.Error(), "docker network disconnect") {
		t.Errorf("in use: %v", err)
	}
	made := w.things()
	w.restart()
	if w.things() != made || len(w.report.Ops) > 0 {
		t.Errorf("the restart did %v", w.report.Ops)
	}
	w.leave("a", false)
	w.remove(n.ID[:12])
	if _, err := w.Network("my-net"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if err := w.RemoveNetwork(t.Context(), "my-net"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	var got []string
	for len(heard) > 0 {
		e := <-heard
		got = append(got, e.Action+" "+e.Attributes["name"]+" "+e.Attributes["type"])
		if e.Type != "network" || e.ID != n.ID {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{"create my-net bridge", "connect my-net bridge", "disconnect my-net bridge", "destroy my-net bridge"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	// Its subnet and name are free again.
	w.network("my-net", "172.25.0.0/16")
	_ = events.Event{}
}

// What is asked of a network and what it answers.
func TestCreateRefuses(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.kernel.SetHostRoutes(
			dataplane.HostRoute{Prefix: pfx("10.8.0.0/24"), What: "route via dev tun0"},
			dataplane.HostRoute{Prefix: pfx("0.0.0.0/1"), What: "route via dev tun0"},
			dataplane.HostRoute{Prefix: pfx("128.0.0.0/1"), What: "route via dev tun0"})
		w.kernel.Stranger("eth0", "device, group 0")
	})
	w.network("shop", "172.30.0.0/16", func(w *NetworkWish) { w.Options = map[string]string{"com.docker.network.bridge.name": "shop0"} })
	w.network("base", "172.31.0.0/16", func(w *NetworkWish) { w.ConfigOnly = true })
	sub := func(s string) []cnm.Pool { return []cnm.Pool{{Subnet: pfx(s)}} }
	before := w.everything()
	for _, c := range []struct {
		wish  NetworkWish
		class error
		says  string
	}{
		{NetworkWish{Name: ""}, cnm.ErrInvalid, "it is empty"},
		{NetworkWish{Name: "a b"}, cnm.ErrInvalid, "character ' '"},
		{NetworkWish{Name: "a/b"}, cnm.ErrInvalid, "character '/'"},
		{NetworkWish{Name: "container:x"}, cnm.ErrInvalid, "another container's network"},
		{NetworkWish{Name: "bridge"}, cnm.ErrForbidden, "operation is not permitted on predefined bridge network"},
		{NetworkWish{Name: "shop"}, cnm.ErrConflict, "network with name shop already exists"},
		{NetworkWish{Name: "base"}, cnm.ErrConflict, "network with name base already exists"},
		{NetworkWish{Name: "x", Driver: "brige"}, cnm.ErrNotFound, "could not find plugin brige"},
		{NetworkWish{Name: "x", Driver: "macvlan"}, cnm.ErrUnsupported, "not yet"},
		{NetworkWish{Name: "x", Driver: "host"}, cnm.ErrForbidden, `only one instance of "host" network is allowed`},
		{NetworkWish{Name: "x", Driver: "none"}, cnm.ErrForbidden, `only one instance of "null" network is allowed: use the network none`},
		{NetworkWish{Name: "x", Ingress: true}, cnm.ErrUnsupported, "routing mesh"},
		{NetworkWish{Name: "x", Scope: "swarm"}, cnm.ErrUnsupported, `scope "swarm"`},
		{NetworkWish{Name: "x", IPAMDriver: "dhcp"}, cnm.ErrNotFound, `could not find ipam driver "dhcp"`},
		{NetworkWish{Name: "x", IPAMOptions: map[string]string{"a": "b"}}, cnm.ErrInvalid, `has no option "a"`},
		{NetworkWish{Name: "x", IPv4: no()}, cnm.ErrInvalid, "IPv4 or IPv6 must be enabled"},
		{NetworkWish{Name: "x", IPv4: no(), IPv6: yes(), Pools: sub("172.20.0.0/16")}, cnm.ErrInvalid, "IPv4 is off"},
		{NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.enable_ipv6": "maybe"}}, cnm.ErrInvalid, "write true or false"},
		{NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.bridge.enable_ic": "true"}}, cnm.ErrInvalid, "did you mean com.docker.network.bridge.enable_icc?"},
		{NetworkWish{Name: "x", Pools: sub("172.30.5.0/24")}, cnm.ErrForbidden, "Pool overlaps with other one on this address space: subnet 172.30.5.0/24 of network x overlaps 172.30.0.0/16 of network shop"},
		{NetworkWish{Name: "x", Pools: sub("10.0.0.0/8")}, cnm.ErrForbidden, "overlaps 10.8.0.0/24 of the host (route via dev tun0)"},
		{NetworkWish{Name: "x", Pools: sub("172.17.0.0/24")}, cnm.ErrForbidden, "of network bridge"},
		{NetworkWish{Name: "x", Pools: sub("172.20.0.5/16")}, cnm.ErrInvalid, "invalid network config: invalid subnet 172.20.0.5/16: it should be 172.20.0.0/16"},
		{NetworkWish{Name: "x", Pools: sub("127.0.0.0/16")}, cnm.ErrInvalid, "the loopback addresses"},
		{NetworkWish{Name: "x", Pools: sub("::ffff:10.1.0.0/112")}, cnm.ErrInvalid, "IPv6 clothes"},
		{NetworkWish{Name: "x", Pools: []cnm.Pool{{Gateway: ip("10.1.0.1")}}}, cnm.ErrInvalid, "must have a corresponding subnet"},
		{NetworkWish{Name: "x", Pools: []cnm.Pool{{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.2.0.1")}}}, cnm.ErrInvalid, "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"},
		{NetworkWish{Name: "x", Pools: []cnm.Pool{{Subnet: pfx("10.1.0.0/24"), Range: pfx("10.2.0.0/25")}}}, cnm.ErrInvalid, "invalid ip-range 10.2.0.0/25"},
		{NetworkWish{Name: "x", Pools: []cnm.Pool{{Subnet: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.1"), Aux: map[string]netip.Addr{"nas": ip("10.1.0.1")}}}}, cnm.ErrConflict, "Address already in use: auxiliary address nas=10.1.0.1 is the gateway"},
		{NetworkWish{Name: "x", Pools: append(sub("10.1.0.0/24"), sub("10.2.0.0/24")...)}, cnm.ErrInvalid, "bridge driver doesn't support multiple subnets"},
		{NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "eth0"}}, cnm.ErrConflict, "is there already and is no bridge"},
		{NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "shop0"}}, cnm.ErrForbidden, "networks have same bridge name"},
		{NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "docker0"}}, cnm.ErrForbidden, "networks have same bridge name"},
		{NetworkWish{Name: "x", ConfigFrom: "nobody"}, cnm.ErrNotFound, `configuration network "nobody" does not exist`},
		{NetworkWish{Name: "x", ConfigFrom: "shop"}, cnm.ErrForbidden, `"shop" is not a configuration network`},
		{NetworkWish{Name: "x", ConfigFrom: "base", Pools: sub("10.1.0.0/24")}, cnm.ErrForbidden, "user specified configurations are not supported"},
		{NetworkWish{Name: "x", ConfigOnly: true, ConfigFrom: "base"}, cnm.ErrForbidden, "cannot depend on another configuration network"},
		{NetworkWish{Name: "x", ConfigOnly: true, Internal: true}, cnm.ErrForbidden, "can only contain network specific fields"},
	} {
		_, _, err := w.CreateNetwork(t.Context(), c.wish)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v:\n %v\nwant %v: %s", c.wish, err, c.class, c.says)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Fatalf("%+v left:\n%s", c.wish, d)
		}
	}
	for _, ref := range []string{"bridge", "host", "none"} {
		if err := w.RemoveNetwork(t.Context(), ref); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "pre-defined network and cannot be removed") {
			t.Errorf("rm %s: %v", ref, err)
		}
	}
}

// Subnets that nobody asked for.
func TestChosenSubnets(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.ID = "a data root"
		w.kernel.SetHostRoutes(dataplane.HostRoute{Prefix: pfx("172.19.4.0/24"), What: "address of eth0"})
	})
	ula := ipam.ULA("a data root").Prefix
	for _, c := range []struct {
		wish NetworkWish
		want string
	}{
		{NetworkWish{}, "172.18.0.0/16 172.18.0.1"},
		{NetworkWish{IPv6: yes()}, "172.20.0.0/16 172.20.0.1 + first"},
		{NetworkWish{IPv6: yes(), IPv4: no()}, "second"},
		{NetworkWish{Options: map[string]string{optIPv6: "true", optIPv4: "false"}}, "third"},
		{NetworkWish{Pools: []cnm.Pool{{Subnet: pfx("fd00:9::/64")}}}, "172.21.0.0/16 172.21.0.1 + fd00:9::/64 fd00:9::1"},
		{NetworkWish{IPv6: no(), Pools: []cnm.Pool{{Subnet: pfx("fd00:8::/64")}}}, "172.22.0.0/16 172.22.0.1"},
		{NetworkWish{Pools: []cnm.Pool{{Subnet: pfx("10.3.0.0/24"), Aux: map[string]netip.Addr{"nas": ip("10.3.0.1"), "tv": ip("10.3.0.2")}}}}, "10.3.0.0/24 10.3.0.3"},
		{NetworkWish{Pools: []cnm.Pool{{Subnet: pfx("10.4.0.0/24"), Range: pfx("10.4.0.128/25")}}}, "10.4.0.0/24 10.4.0.1"},
		{NetworkWish{}, "172.23.0.0/16 172.23.0.1"},
		{NetworkWish{}, "172.24.0.0/24 172.24.0.1"},
		{NetworkWish{Internal: true}, "172.24.1.0/24 172.24.1.1"},
	} {
		c.wish.Name = "n" + randomID()[:8]
		n, warning, err := w.CreateNetwork(t.Context(), c.wish)
		if err != nil {
			t.Errorf("%+v: %v", c.wish, err)
			continue
		}
		var got []string
		for _, p := range n.Pools {
			if s := p.Subnet; ula.Contains(s.Addr()) {
				if s.Bits() != 64 || p.Gateway != s.Addr().Next() {
					t.Errorf("%+v", p)
				}
				got = append(got, []string{"first", "second", "third"}[s.Addr().As16()[7]])
			} else {
				got = append(got, p.Subnet.String()+" "+p.Gateway.String())
			}
		}
		if strings.Join(got, " + ") != c.want {
			t.Errorf("%+v: %q, want %q", c.wish, got, c.want)
		}
		if (warning != "") != (c.wish.IPv6 != nil && !*c.wish.IPv6) {
			t.Errorf("%+v: warning %q", c.wish, warning)
		}
	}
}

// The daemon's own pools and options.
func TestDaemonDefaults(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.AddressPools = []ipam.Base{{Prefix: pfx("10.10.0.0/16"), Bits: 24}}
		w.cfg.DefaultOptions = map[string]map[string]string{"bridge": {"com.docker.network.driver.mtu": "1400", optIPv6: "true"}}
	})
	n := w.network("a", "")
	if n.Pools[0].Subnet != pfx("10.10.1.0/24") || !n.IPv6 || n.Options[optIPv6] != "" || n.Options["com.docker.network.driver.mtu"] != "1400" {
		t.Errorf("%+v", n)
	}
	n = w.network("b", "", func(w *NetworkWish) { w.Options = map[string]string{"com.docker.network.driver.mtu": "9000"} })
	if n.Options["com.docker.network.driver.mtu"] != "9000" {
		t.Errorf("%+v", n.Options)
	}
}

func TestConfigNetworks(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	base := w.network("base", "172.30.0.0/16", func(w *NetworkWish) {
		w.ConfigOnly = true
		w.Options = map[string]string{"com.docker.network.driver.mtu": "1400"}
		w.Labels = map[string]string{"a": "b"}
	})
	if !base.ConfigOnly || base.Driver != "null" || w.has("link br-"+base.ID[:12]) {
		t.Errorf("%+v", base)
	}
	if _, err := w.Join(t.Context(), on("c", "base")); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "no container can be on it") {
		t.Errorf("joined: %v", err)
	}
	n := w.network("real", "", func(w *NetworkWish) { w.ConfigFrom = "base" })
	if n.ConfigFrom != "base" || n.Pools[0].Subnet != base.Pools[0].Subnet || n.Options["com.docker.network.driver.mtu"] != "1400" || n.Labels["a"] != "b" || n.Driver != "bridge" {
		t.Errorf("%+v", n)
	}
	w.restart()
	if err := w.RemoveNetwork(t.Context(), "base"); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), `configuration network "base" is in use: network real`) {
		t.Errorf("in use: %v", err)
	}
	if _, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "second", ConfigFrom: "base"}); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "network real") {
		t.Errorf("the same subnet twice: %v", err)
	}
	w.remove("real")
	w.remove("base")
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// Every kernel operation of a creation can fail: then nothing of it is there.
func TestCreateReverts(t *testing.T) {
	w := newWorld(t)
	w.network("other", "")
	before := w.everything()
	for n := 1; ; n++ {
		w.kernel.FailNth(n, errBoom)
		_, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "shop", IPv6: yes()})
		if err == nil {
			if n < 6 {
				t.Errorf("only %d operations", n-1)
			}
			w.kernel.FailNth(1, nil)
			break
		}
		if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "network shop") {
			t.Errorf("operation %d: %v", n, err)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Fatalf("operation %d failed (%v), not as before:\n%s", n, err, d)
		}
	}
	w.remove("shop")
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// Every kernel operation of a removal can fail: the network is gone all the same,
// and the next reconciliation takes what is left.
func TestRemoveLeavesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	for n := 1; ; n++ {
		w.network("shop", "")
		w.kernel.FailNth(n, errBoom)
		w.remove("shop")
		if w.everything() == before {
			if n < 3 {
				t.Errorf("only %d operations of a removal failed", n-1)
			}
			return
		}
		if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Failures) > 0 {
			t.Fatalf("reconcile: %v, %+v", err, r)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Fatalf("operation %d of the removal failed; after the reconciliation:\n%s", n, d)
		}
	}
}

func TestCreateStoreFails(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	if _, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "shop"}); !errors.Is(err, store.ErrFull) {
		t.Errorf("create: %v", err)
	}
	w.store.breaks(nil)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	w.network("shop", "")
	before = w.everything()
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	if err := w.RemoveNetwork(t.Context(), "shop"); !errors.Is(err, store.ErrFull) {
		t.Errorf("remove: %v", err)
	}
	w.store.breaks(nil)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	w.remove("shop")
}

// A bridge that a person made is used as it is (-o com.docker.network.bridge.name).
func TestBorrowed(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.kernel.StrangerLink("br0", dataplane.HostLink{Bridge: true, Addrs: []netip.Prefix{pfx("10.211.55.1/24")}})
		w.kernel.StrangerLink("br1", dataplane.HostLink{Bridge: true})
		w.kernel.SetHostRoutes(dataplane.HostRoute{Prefix: pfx("10.211.55.0/24"), What: "address of br0"})
	})
	before := w.everything()
	named := func(br string) func(*NetworkWish) {
		return func(w *NetworkWish) { w.Options = map[string]string{"com.docker.network.bridge.name": br} }
	}
	n := w.network("lan", "", named("br0"))
	if !n.Borrowed || n.Pools[0].Subnet != pfx("10.211.55.0/24") || n.Pools[0].Gateway != ip("10.211.55.1") {
		t.Errorf("%+v", n)
	}
	if _, ok := w.kernel.State().Get("link br0"); ok {
		t.Error("br0 was made ours")
	}
	if s := w.join(on("a", "lan")); address(s) != ip("10.211.55.2") {
		t.Errorf("%+v", s.Endpoints)
	}
	w.leave("a", false)
	w.remove("lan")
	w.network("lan", "10.211.55.0/24", named("br0"), func(w *NetworkWish) { w.Pools[0].Gateway = ip("10.211.55.254") })
	if s := w.join(on("a", "lan")); address(s) != ip("10.211.55.2") || s.Endpoints[0].Gateway(true) != ip("10.211.55.254") {
		t.Errorf("%+v", s.Endpoints)
	}
	if _, err := w.Join(t.Context(), Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "lan", IPv4: ip("10.211.55.1")}}}); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("the bridge's own address: %v", err)
	}
	w.leave("a", false)
	w.remove("lan")
	if _, _, err := w.CreateNetwork(t.Context(), NetworkWish{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "br1"}}); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "ip addr add") {
		t.Errorf("without an address: %v", err)
	}
	// What was changed of a device that is not ours is on record (TestBorrowedGivenBack).
	var left []string
	for l := range strings.Lines(lab.Differ(before, w.everything())) {
		if !strings.Contains(l, "net/ipv4/conf/br0/route_localnet") {
			left = append(left, l)
		}
	}
	if d := strings.Join(left, ""); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}
