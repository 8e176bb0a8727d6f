package routed_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/driver/routed"
)

const (
	keyMTU    = "com.docker.network.driver.mtu"
	keyMasq   = "com.docker.network.bridge.enable_ip_masquerade"
	keyPrefix = "com.docker.network.container_iface_prefix"
)

var option = drivertest.Option

func network(six bool, change ...func(*cnm.Network)) cnm.Network {
	return drivertest.SpanNetwork("routed", six, change...)
}

func TestPlans(t *testing.T) {
	one := func(name string, u *cnm.Underlay, n cnm.Network, six, underSix bool) drivertest.Case {
		return drivertest.Case{Name: name, Env: drivertest.SpanEnv(u), Network: n, Sandbox: drivertest.SpanSandbox(n),
			Peers: drivertest.Elsewhere(six, underSix), Home: drivertest.Blocks("h1", "192.168.1.0/26")}
	}
	plain, secure := drivertest.Underlay(), drivertest.Underlay(drivertest.Secure)
	narrow := func(u *cnm.Underlay) { u.PathMTU = 1400 }
	direct := one("direct routing", plain, network(false), false, false)
	direct.Env.DirectRouting = true
	drivertest.Run(t, routed.Driver{},
		one("plain", plain, network(false), false, false),
		one("both families", plain, network(true), true, false),
		one("over ipv6", drivertest.Underlay(drivertest.UnderSix), network(true), true, true),
		one("encrypted", secure, network(true, option("encrypted", "")), true, false),
		one("encrypted without wireguard", plain, network(false, option("encrypted", "true")), false, false),
		one("direct only", plain, network(true, option("direct-only", "")), true, false),
		one("no masquerade", plain, network(false, option(keyMasq, "false")), false, false),
		one("internal", plain, network(true, drivertest.Internal), true, false),
		one("own mtu", plain, network(false, option(keyMTU, "1300"), option(keyPrefix, "lan")), false, false),
		one("narrow path", drivertest.Underlay(narrow), network(false), false, false),
		one("no mesh", nil, network(true), true, false),
		direct,
	)
}

// TestOptions: what is refused, and with what words.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		change []func(*cnm.Network)
		says   string
	}{
		{[]func(*cnm.Network){option(keyMTU, "67")}, "68 (RFC 791)"},
		{[]func(*cnm.Network){option("encrypted", "2")}, "neither true nor false"},
		{[]func(*cnm.Network){option("direct_only", "")}, "did you mean direct-only?"},
		{[]func(*cnm.Network){option("encrypted", ""), option("direct-only", "")}, "leave one of them away"},
		{[]func(*cnm.Network){option("com.docker.network.bridge.name", "br0")}, "has one name on all hosts"},
		{[]func(*cnm.Network){option("com.docker.network.driver.overlay.vxlanid_list", "1")}, "no option"},
		{[]func(*cnm.Network){func(n *cnm.Network) { n.Pools = nil }}, "--subnet"},
	} {
		n := network(true, c.change...)
		if err := (routed.Driver{}).Check(&n); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "shop") {
			t.Errorf("%v: %v, want %q", n.Options, err, c.says)
		}
	}
	n := network(true, func(n *cnm.Network) { n.Pools = []cnm.Pool{{}, {}} })
	if err := (routed.Driver{}).Check(&n); err != nil {
		t.Error(err)
	}
	if vnis, err := driver.VNIs(routed.Driver{}, &n); vnis != nil || err != nil {
		t.Errorf("numbers: %v, %v", vnis, err)
	}
}

// TestIncomplete: what cannot be planned says what it lacks.
func TestIncomplete(t *testing.T) {
	n := network(false, func(n *cnm.Network) { n.Pools[0].Gateway = netip.Addr{} })
	env := drivertest.SpanEnv(drivertest.Underlay())
	if _, err := (routed.Driver{}).Network(env, &n); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "--gateway") {
		t.Errorf("no gateway: %v", err)
	}
	n = network(false)
	s := drivertest.SpanSandbox(n, func(s *cnm.Sandbox) { s.Endpoints[0].Addrs[0] = netip.MustParsePrefix("10.9.9.9/24") })
	if _, err := (routed.Driver{}).Endpoint(env, &n, s, &s.Endpoints[0], nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "10.9.9.9") {
		t.Errorf("a foreign address: %v", err)
	}
}

// TestPathChanges: a peer that comes to be behind a router, and back, has one route all
// the time.
func TestPathChanges(t *testing.T) {
	h2, _, _ := drivertest.Peers(false)
	n, env := network(false), drivertest.SpanEnv(drivertest.Underlay())
	blocks := drivertest.Blocks("h2", "192.168.2.0/26")
	via := func(p cnm.Peer) dataplane.Route {
		objs, err := routed.Driver{}.Peer(env, &n, p, blocks)
		if err != nil || len(objs) != 1 {
			t.Fatalf("%v, %v", objs, err)
		}
		return objs[0].(dataplane.Route)
	}
	if r := via(h2); r.Link != "eth0" || r.Via != h2.Addr || r.OnLink {
		t.Errorf("on the link: %+v", r)
	}
	h2.OnLink = false
	if r := via(h2); r.Link != "ls-r00000a" || r.Via != h2.Addr || !r.OnLink {
		t.Errorf("behind a router: %+v", r)
	}
}

// TestEncryptedOnly: without a device that encrypts, and to a peer that has no key,
// there is no route.
func TestEncryptedOnly(t *testing.T) {
	n := network(true, option("encrypted", ""))
	for _, u := range []*cnm.Underlay{drivertest.Underlay(), drivertest.Underlay(drivertest.Secure)} {
		for _, o := range drivertest.Elsewhere(true, false) {
			objs, err := routed.Driver{}.Peer(drivertest.SpanEnv(u), &n, o.Peer, o.Blocks)
			if err != nil {
				t.Fatal(err)
			}
			for _, obj := range objs {
				if r, ok := obj.(dataplane.Route); !ok || r.Link != u.Secure || u.Secure == "" || !o.Peer.SecureAddr.IsValid() {
					t.Errorf("%s: %s", obj.Key(), obj.Spec())
				}
			}
		}
	}
}
