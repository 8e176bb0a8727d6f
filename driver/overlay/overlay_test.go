package overlay_test

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/driver/overlay"
)

const (
	keyVNIs   = "com.docker.network.driver.overlay.vxlanid_list"
	keyPort   = "com.docker.network.driver.overlay.port"
	keyMTU    = "com.docker.network.driver.mtu"
	keyICC    = "com.docker.network.bridge.enable_icc"
	keyMasq   = "com.docker.network.bridge.enable_ip_masquerade"
	keyPrefix = "com.docker.network.container_iface_prefix"
)

var option = drivertest.Option

func network(six bool, change ...func(*cnm.Network)) cnm.Network {
	n := drivertest.SpanNetwork("overlay", six)
	for range n.Pools {
		n.VNIs = append(n.VNIs, 0x4C0001)
	}
	for _, f := range change {
		f(&n)
	}
	return n
}

// onlySix leaves IPv6 alone.
func onlySix(n *cnm.Network) { n.NoIPv4, n.Pools, n.VNIs = true, n.Pools[1:], n.VNIs[1:] }

func TestPlans(t *testing.T) {
	one := func(name string, u *cnm.Underlay, n cnm.Network, six, underSix bool) drivertest.Case {
		return drivertest.Case{Name: name, Env: drivertest.SpanEnv(u), Network: n, Sandbox: drivertest.SpanSandbox(n),
			Peers: drivertest.Elsewhere(six, underSix), Home: drivertest.Blocks("h1", "192.168.1.0/26")}
	}
	plain, secure := drivertest.Underlay(), drivertest.Underlay(drivertest.Secure)
	narrow := func(u *cnm.Underlay) { u.PathMTU = 1400 }
	jumbo := func(u *cnm.Underlay) { u.MTU = 9000 }
	bridgeNF := one("bridge-nf", plain, network(false), false, false)
	bridgeNF.Env.BridgeNF = true
	direct := one("direct routing", plain, network(false), false, false)
	direct.Env.DirectRouting = true
	fenced := one("no mesh", nil, network(true), true, false)
	six := one("ipv6 only", plain, network(true, onlySix), true, false)
	for i := range six.Peers {
		for j := range six.Peers[i].Remotes {
			r := &six.Peers[i].Remotes[j]
			r.Addrs = r.Addrs[1:]
		}
	}
	drivertest.Run(t, overlay.Driver{},
		one("plain", plain, network(false), false, false),
		one("both families", plain, network(true), true, false),
		six,
		one("over ipv6", drivertest.Underlay(drivertest.UnderSix), network(true), true, true),
		one("encrypted", secure, network(true, option("encrypted", "")), true, false),
		one("encrypted without wireguard", plain, network(false, option("encrypted", "true")), false, false),
		one("encrypted over ipv6", drivertest.Underlay(drivertest.UnderSix, drivertest.Secure), network(false, option("encrypted", "1")), false, true),
		one("internal", plain, network(true, drivertest.Internal), true, false),
		one("closed", plain, network(false, option(keyICC, "false")), false, false),
		one("no masquerade", plain, network(false, option(keyMasq, "false")), false, false),
		one("own mtu", plain, network(false, option(keyMTU, "1300")), false, false),
		one("mtu that does not fit", plain, network(false, option(keyMTU, "9000")), false, false),
		one("narrow path", drivertest.Underlay(narrow), network(false), false, false),
		one("jumbo", drivertest.Underlay(jumbo), network(false), false, false),
		one("own number and port", plain, network(false, option(keyVNIs, "4096"), option(keyPort, "8472"), option(keyPrefix, "lan"),
			func(n *cnm.Network) { n.VNIs = []uint32{4096} }), false, false),
		one("soft checksums", drivertest.Underlay(func(u *cnm.Underlay) { u.SoftChecksums = true }), network(false), false, false),
		bridgeNF, direct, fenced,
	)
}

// TestOptions: what is refused, and with what words.
func TestOptions(t *testing.T) {
	for _, c := range []struct{ key, value, says string }{
		{keyVNIs, "", "is no VNI: a number from 1 to 16777215"},
		{keyVNIs, "0", `"0" is no VNI`},
		{keyVNIs, "16777216", "is no VNI"},
		{keyVNIs, "4097,4098", "all subnets of a network share one VNI"},
		{keyVNIs, "x", `"x" is no VNI`},
		{keyPort, "0", "0 is not between 1 and 65535"},
		{keyPort, "vxlan", `"vxlan" is no number`},
		{keyMTU, "67", "68 (RFC 791)"},
		{keyMTU, "1000", "IPv6 needs 1280"},
		{"encrypted", "perhaps", "neither true nor false"},
		{"encrypt", "", "did you mean encrypted?"},
		{"com.docker.network.bridge.name", "br0", "has one name on all hosts"},
		{keyPrefix, "lo", "loopback"},
		{"com.docker.network.bridge.gateway_mode_ipv4", "nat", "no option"},
	} {
		n := network(true, option(c.key, c.value))
		if err := (overlay.Driver{}).Check(&n); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "shop") {
			t.Errorf("%s=%s: %v, want %q", c.key, c.value, err, c.says)
		}
	}
	n := network(false, func(n *cnm.Network) { n.Pools = nil })
	if err := (overlay.Driver{}).Check(&n); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("no subnet: %v", err)
	}
	// A network that is being made has neither subnets nor numbers yet.
	n = network(true, func(n *cnm.Network) { n.Pools, n.VNIs = []cnm.Pool{{}, {}}, nil })
	if err := (overlay.Driver{}).Check(&n); err != nil {
		t.Error(err)
	}
}

// TestVNIs: one wish counts for all subnets.
func TestVNIs(t *testing.T) {
	for _, c := range []struct {
		list string
		want uint32
	}{{"", 0}, {"4096", 4096}, {" 4096, 4096", 4096}} {
		n := network(true)
		if c.list != "" {
			n.Options[keyVNIs] = c.list
		}
		got, err := driver.VNIs(overlay.Driver{}, &n)
		if err != nil || len(got) != 2 || got[0] != c.want || got[1] != c.want {
			t.Errorf("%q: %v, %v", c.list, got, err)
		}
	}
	n := network(false, option(keyVNIs, "0"))
	if _, err := driver.VNIs(overlay.Driver{}, &n); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestUnnumbered: a network that the mesh gave no number is not planned with that of
// another.
func TestUnnumbered(t *testing.T) {
	n := network(false, func(n *cnm.Network) { n.VNIs = nil })
	_, err := overlay.Driver{}.Network(drivertest.SpanEnv(drivertest.Underlay()), &n)
	if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "VNI") {
		t.Errorf("%v", err)
	}
}

// TestEncryptedOnly: with and without a device that encrypts, nothing of an encrypted
// network is planned to leave by the wire.
func TestEncryptedOnly(t *testing.T) {
	n := network(true, option("encrypted", ""))
	for _, u := range []*cnm.Underlay{drivertest.Underlay(), drivertest.Underlay(drivertest.Secure)} {
		env := drivertest.SpanEnv(u)
		objs, err := overlay.Driver{}.Network(env, &n)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range drivertest.Elsewhere(true, false) {
			more, err := overlay.Driver{}.Peer(env, &n, o.Peer, o.Blocks)
			if err != nil {
				t.Fatal(err)
			}
			objs = append(objs, more...)
			for _, r := range o.Remotes {
				more, err := overlay.Driver{}.Remote(env, &n, o.Peer, o.Blocks, r)
				if err != nil {
					t.Fatal(err)
				}
				objs = append(objs, more...)
			}
		}
		for _, o := range objs {
			switch o := o.(type) {
			case dataplane.VXLAN:
				if o.Dev != u.Secure || o.Local != u.SecureAddr || o.Port == u.VXLANPort {
					t.Errorf("%s: %s", o.Key(), o.Spec())
				}
			case dataplane.FDB:
				if o.Dst.IsValid() && !drivertest.Underlay(drivertest.Secure).SecureAddr.Is6() || o.Dst.Is4() {
					t.Errorf("%s leads to %s", o.Key(), o.Dst)
				}
			}
		}
	}
}
