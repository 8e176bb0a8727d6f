package segment

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
)

func pool(subnet, gateway string) cnm.Pool {
	p := cnm.Pool{Subnet: netip.MustParsePrefix(subnet)}
	if gateway != "" {
		p.Gateway = netip.MustParseAddr(gateway)
	}
	return p
}

// TestHardware: a bridge's MAC follows from its gateway, on every host the same.
func TestHardware(t *testing.T) {
	for _, c := range []struct {
		pools              []cnm.Pool
		hardware, anywhere string
	}{
		{nil, "", ""},
		{[]cnm.Pool{pool("10.1.0.0/16", "10.1.0.1")}, "02:42:0a:01:00:01", "02:42:0a:01:00:01"},
		{[]cnm.Pool{pool("10.1.0.0/16", "")}, "", ""},
		{[]cnm.Pool{pool("fd00::/64", "fd00::1:2")}, "", "02:42:00:01:00:02"},
		{[]cnm.Pool{pool("fd00::/64", "")}, "", ""},
		{[]cnm.Pool{pool("10.1.0.0/16", "10.1.0.1"), pool("fd00::/64", "fd00::1")}, "02:42:0a:01:00:01", "02:42:0a:01:00:01"},
	} {
		n := &cnm.Network{Pools: c.pools}
		if h, a := Hardware(n), Anycast(n); h != c.hardware || a != c.anywhere {
			t.Errorf("%v: %q and %q, want %q and %q", c.pools, h, a, c.hardware, c.anywhere)
		}
	}
}

// TestDeviceName: whatever the id, the kernel takes the name.
func TestDeviceName(t *testing.T) {
	for id, want := range map[string]string{"": "br-", "abc": "br-abc", strings.Repeat("0123456789", 7): "br-012345678901"} {
		if got := DeviceName("br-", &cnm.Network{ID: id}); got != want || len(got) > 15 {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

// TestSwitch: an option that needs no value.
func TestSwitch(t *testing.T) {
	for v, want := range map[string]bool{"": true, "true": true, "1": true, "false": false, "0": false} {
		got := !want
		if err := Switch(&got)(v); err != nil || got != want {
			t.Errorf("%q is %v, %v", v, got, err)
		}
	}
	if err := Switch(new(bool))("yes please"); err == nil {
		t.Error("taken")
	}
}

// TestClosed: what is to be encrypted has no other way.
func TestClosed(t *testing.T) {
	addr := netip.MustParseAddr
	plain := &cnm.Underlay{Addr: addr("10.0.0.1")}
	secure := &cnm.Underlay{Addr: addr("10.0.0.1"), Secure: "wg0", SecureAddr: addr("fd00::1")}
	key := cnm.Peer{Name: "host2", Addr: addr("10.0.0.2"), SecureAddr: addr("fd00::2")}
	keyless := cnm.Peer{Name: "host2", Addr: addr("10.0.0.2")}
	for _, c := range []struct {
		u         *cnm.Underlay
		p         cnm.Peer
		encrypted bool
		says      string // empty: open
	}{
		{nil, key, false, "in no mesh"},
		{plain, keyless, false, ""},
		{plain, key, true, "no WireGuard device yet"},
		{&cnm.Underlay{Addr: addr("10.0.0.1"), Secure: "wg0"}, key, true, "no WireGuard device yet"},
		{secure, keyless, true, "host2 has told no WireGuard key yet"},
		{secure, key, true, ""},
		{secure, cnm.Peer{Name: "host2", SecureAddr: addr("fd00::2")}, true, ""},
		{plain, cnm.Peer{Name: "host2", Addr: addr("fd00::2")}, false, "no address of the same family"},
		{plain, cnm.Peer{Name: "host2"}, false, "no address"},
	} {
		path, closed := Closed(c.u, c.p, c.encrypted)
		if closed != (c.says != "") || closed && path.Kind != cnm.PathNone || !strings.Contains(path.Reason, c.says) {
			t.Errorf("%+v, encrypted %v: %v, %+v, want %q", c.p, c.encrypted, closed, path, c.says)
		}
	}
}

// TestChecks: what is refused, and with what words.
func TestChecks(t *testing.T) {
	six := []cnm.Pool{pool("fd00::/64", "")}
	for _, c := range []struct {
		err  error
		says string
	}{
		{CheckPools(&cnm.Network{Name: "shop", Driver: "overlay"}), "network shop: the overlay driver needs a subnet"},
		{CheckPools(&cnm.Network{Pools: six}), ""},
		{CheckMTU(&cnm.Network{}, 0), ""},
		{CheckMTU(&cnm.Network{}, 68), ""},
		{CheckMTU(&cnm.Network{}, 65536), "65535"},
		{CheckMTU(&cnm.Network{Pools: six}, 1279), "1280"},
		{OneName("br0"), "leave the option away"},
	} {
		switch {
		case c.says == "" && c.err != nil, c.says != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.says)):
			t.Errorf("%v, want %q", c.err, c.says)
		}
	}
	e := &cnm.Endpoint{IfName: "eth0", DriverOpts: map[string]string{"nonsense": "1"}}
	if _, err := DecodeEndpoint(&cnm.Network{Name: "shop"}, e, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "shop") {
		t.Errorf("%v", err)
	}
	if tr := (Spanning{}).Traits(); !tr.Spans || !tr.Addresses || !tr.Publishes || tr.Device != "" {
		t.Errorf("%+v", tr)
	}
	if err := driver.Decode(&cnm.Network{Options: map[string]string{OptMTU: "x"}}, map[string]func(string) error{OptMTU: Number(new(int))}); err == nil {
		t.Error("x is a number")
	}
}
