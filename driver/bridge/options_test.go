package bridge_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/bridge"
)

// TestOptions: what is refused, and with what words.
func TestOptions(t *testing.T) {
	for _, c := range []struct{ key, value, says string }{
		{"com.docker.network.bridge.name", "a/b", "a/b"},
		{"com.docker.network.bridge.name", "sixteencharacter", "15 characters"},
		{"com.docker.network.bridge.name", "", "15 characters"},
		{"com.docker.network.bridge.name", "..", "device name"},
		{"com.docker.network.bridge.name", `a"b`, "no quotes"},
		{keyICC, "perhaps", `"perhaps" is neither true nor false`},
		{keyMasq, "", "neither true nor false"},
		{keyInhibit, "2", "neither true nor false"},
		{"com.docker.network.bridge.default_bridge", "x", "neither true nor false"},
		{keyBinding, "fd00::1", `"fd00::1" is no IPv4 address`},
		{keyBinding, "localhost", "no IPv4 address"},
		{keyMode4, "NAT", `unknown gateway mode "NAT": there are nat, nat-unprotected, routed and isolated`},
		{keyMode6, "", "unknown gateway mode"},
		{keyMode4, "isolated", "gateway mode 'isolated' can only be used for an internal network: add --internal"},
		{keyMode6, "isolated", keyMode6},
		{keyTrusted, "eth0,eth1", "parted by colons"},
		{keyTrusted, "eth0 eth1", "parted by colons"},
		{keyTrusted, "", "device name"},
		{keyTrusted, "eth0::eth1", "device name"},
		{keyMTU, "67", "68"},
		{keyMTU, "-1", "68"},
		{keyMTU, "65536", "65535"},
		{keyMTU, "jumbo", `"jumbo" is no number`},
		{keyPrefix, "", "1 to 12 characters"},
		{keyPrefix, "lo", "loopback"},
		{keyPrefix, "thirteenchars", "1 to 12 characters"},
		{keyPrefix, "a b", "without slash"},
		{keyHost4, "2001:db8::1", "no IPv4 address"},
		{keyHost4, "0.0.0.0", "cannot be the source"},
		{keyHost4, "127.0.0.1", "cannot be the source"},
		{keyHost4, "224.0.0.1", "cannot be the source"},
		{keyHost6, "60.191.82.107", "no IPv6 address"},
		{keyHost6, "fe80::1", "cannot be the source"},
		{keyHost6, "::ffff:1.2.3.4", "no IPv6 address"},
		{keyAdvertise, "4", "4 is not between 0 and 3 messages"},
		{keyAdvertise, "-1", "between 0 and 3"},
		{keyEvery, "99", "between 100 and 2000 milliseconds"},
		{keyEvery, "1s", "no number"},
		{"com.docker.network.bridge.enable_ICC", "true", "did you mean " + keyICC + "?"},
		{"com.docker.network.bridge.gateway_mode_ip6", "nat", "did you mean " + keyMode6 + "?"},
		{"mtu", "1400", `no option "mtu"`},
	} {
		n := network(option(c.key, c.value))
		refused(t, c.key+"="+c.value, n, c.says)
	}
}

// TestConflicts: options that are well and contradict each other, or the network.
func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		change []func(*cnm.Network)
		says   string // empty: taken
	}{
		{[]func(*cnm.Network){internal, option(keyMode4, "isolated")}, ""},
		{[]func(*cnm.Network){internal, option(keyMode4, "routed")}, ""},
		{[]func(*cnm.Network){internal, borrowed, option(keyMode4, "isolated")}, "br0 is not ours to change"},
		{[]func(*cnm.Network){option(keyHost4, "60.191.82.107"), option(keyMode4, "routed")}, "does not translate"},
		{[]func(*cnm.Network){six, option(keyHost4, "60.191.82.107"), option(keyMode6, "routed")}, ""},
		{[]func(*cnm.Network){option(keyHost6, "2001:db8::1"), option(keyMasq, "false")}, keyMasq + "=false does not translate"},
		{[]func(*cnm.Network){option(keyMTU, "1279")}, ""},
		{[]func(*cnm.Network){six, option(keyMTU, "1280")}, ""},
		{[]func(*cnm.Network){six, option(keyMTU, "1279")}, "RFC 8200"},
		{[]func(*cnm.Network){option(keyMTU, "0")}, ""}, // Docker's way to say that it is the daemon's
		{[]func(*cnm.Network){option(keyPrefix, "eth")}, ""},
		{[]func(*cnm.Network){func(n *cnm.Network) { n.Pools = nil }}, "--subnet"},
	} {
		n := network(c.change...)
		if c.says != "" {
			refused(t, c.says, n, c.says)
		} else if err := (bridge.Driver{}).Check(&n); err != nil {
			t.Errorf("%v: %v", n.Options, err)
		}
	}
}

// refused: Check names the network and the fault; what Check refuses for its options,
// the plans refuse too.
func refused(t *testing.T, what string, n cnm.Network, says string) {
	t.Helper()
	err := bridge.Driver{}.Check(&n)
	if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "network bridge") {
		t.Errorf("%s: %v, want %q in it", what, err, says)
	}
	if n.Pools == nil {
		return
	}
	if _, err := (bridge.Driver{}).Network(driver.Env{}, &n); err == nil {
		t.Errorf("%s: planned all the same", what)
	}
	if _, err := (bridge.Driver{}).Endpoint(driver.Env{}, &n, sandbox(), &sandbox().Endpoints[0], nil); err == nil {
		t.Errorf("%s: planned all the same", what)
	}
}

func TestEndpointOptions(t *testing.T) {
	for _, c := range []struct {
		key, value string
		change     func(*cnm.Network)
		says       string
	}{
		{keyIfName, "a/b", nil, "a/b"},
		{keyIfName, "lo", nil, "loopback"},
		{keyIfName, "", nil, "device name"},
		{keySysctls, "net.ipv4.conf.eth0.log_martians=1", nil, "with the word IFNAME"},
		{keySysctls, "net.ipv4.conf.IFNAME.log_martians", nil, "IFNAME"},
		{keySysctls, "net.ipv4.conf.IFNAME.log_martians=", nil, "IFNAME"},
		{keySysctls, "net.ipv4.IFNAME.log_martians=1", nil, "IFNAME"},
		{keySysctls, "net.ipv4.conf.IFNAME.log_martians=1,", nil, "IFNAME"},
		{keySysctls, "kernel.a.b.IFNAME.c=1", nil, "IFNAME"},
		{keySysctls, "net.ipv4/conf.x.IFNAME.c=1", nil, "IFNAME"},
		{keyHost4, "x", nil, "no IPv4 address"},
		{keyHost6, "2001:db8::1", nil, "the network has no IPv6"},
		{keyHost4, "60.191.82.107", internal, "nothing leaves it"},
		{keyAdvertise, "9", nil, "between 0 and 3"},
		{keyEvery, "5000", nil, "between 100 and 2000"},
		{"com.docker.network.endpoint.sysctl", "", nil, "did you mean " + keySysctls + "?"},
		{keyMTU, "1400", nil, `take no driver option "` + keyMTU + `"`},
	} {
		n := network()
		if c.change != nil {
			c.change(&n)
		}
		s := sandbox(endpointOption(c.key, c.value))
		_, err := bridge.Driver{}.Endpoint(driver.Env{}, &n, s, &s.Endpoints[0], nil)
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "network bridge") {
			t.Errorf("%s=%s: %v, want %q in it", c.key, c.value, err, c.says)
		}
	}
	s, n := sandbox(), network()
	for k, v := range map[string]string{keyIfName: "eth0", keyHost4: "60.191.82.107", keyAdvertise: "1", keyEvery: "250", keySysctls: "net.ipv4.neigh.IFNAME.gc_stale_time=9,net.ipv4.conf.ifname.log_martians=1"} {
		endpointOption(k, v)(s)
	}
	if _, err := (bridge.Driver{}).Endpoint(driver.Env{}, &n, s, &s.Endpoints[0], nil); err != nil {
		t.Error(err)
	}
}

// TestAdvertise: who is told of a new address, how often.
func TestAdvertise(t *testing.T) {
	for name, c := range map[string]struct {
		n    cnm.Network
		s    *cnm.Sandbox
		want dataplane.Advertise
	}{
		"the address' own MAC": {network(), sandbox(), dataplane.Advertise{}},
		"another MAC": {network(), sandbox(func(s *cnm.Sandbox) { s.Endpoints[0].MAC = "02:00:00:00:00:01" }),
			dataplane.Advertise{Times: 3, Every: time.Second}},
		"a borrowed bridge": {network(borrowed), sandbox(), dataplane.Advertise{Times: 3, Every: time.Second}},
		"IPv6 alone":        {network(onlySix), sandbox(sandboxOnlySix), dataplane.Advertise{}},
		"the network's wish": {network(option(keyAdvertise, "2"), option(keyEvery, "300")), sandbox(),
			dataplane.Advertise{Times: 2, Every: 300 * time.Millisecond}},
		"the endpoint's wish": {network(option(keyAdvertise, "2"), option(keyEvery, "300")), sandbox(endpointOption(keyAdvertise, "1")),
			dataplane.Advertise{Times: 1, Every: 300 * time.Millisecond}},
		"never": {network(borrowed, option(keyAdvertise, "2")), sandbox(endpointOption(keyAdvertise, "0")), dataplane.Advertise{}},
	} {
		objs, err := bridge.Driver{}.Endpoint(driver.Env{Table: table}, &c.n, c.s, &c.s.Endpoints[0], nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, o := range objs {
			if a, ok := o.(dataplane.Addr); ok && a.Advertise != c.want {
				t.Errorf("%s: %+v, want %+v", name, a.Advertise, c.want)
			}
		}
	}
}
