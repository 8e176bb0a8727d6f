package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"linkspan/cnm"
	"linkspan/internal/lab"
	"linkspan/probe"
	"linkspan/wireguard"
)

// fake is the kernel as its source has it (drivers/net/wireguard/netlink.c).
type fake struct {
	devices map[string]*wgtypes.Device
	calls   []string
	err     error
}

func (f *fake) Close() error { return nil }

func (f *fake) Device(name string) (*wgtypes.Device, error) {
	if f.err != nil {
		return nil, f.err
	}
	d := f.devices[name]
	if d == nil {
		return nil, os.ErrNotExist
	}
	return d, nil
}

func (f *fake) ConfigureDevice(name string, c wgtypes.Config) error {
	d := f.devices[name]
	if d == nil {
		return os.ErrNotExist
	}
	var did []string
	if c.PrivateKey != nil {
		d.PrivateKey, d.PublicKey = *c.PrivateKey, c.PrivateKey.PublicKey()
		did = append(did, "key")
	}
	if c.ListenPort != nil {
		d.ListenPort = *c.ListenPort
		did = append(did, fmt.Sprintf("port %d", d.ListenPort))
	}
	if c.ReplacePeers {
		d.Peers = nil
		did = append(did, "no peers")
	}
	for _, pc := range c.Peers {
		did = append(did, f.peer(d, pc))
	}
	f.calls = append(f.calls, strings.Join(did, "; "))
	return nil
}

func (f *fake) peer(d *wgtypes.Device, pc wgtypes.PeerConfig) string {
	i := slices.IndexFunc(d.Peers, func(p wgtypes.Peer) bool { return p.PublicKey == pc.PublicKey })
	what := fmt.Sprintf("peer %d", pc.PublicKey[0])
	switch {
	case pc.Remove:
		if i >= 0 {
			d.Peers = slices.Delete(d.Peers, i, i+1)
		}
		return what + " removed"
	case i < 0 && pc.UpdateOnly:
		return what + " not there"
	case i < 0:
		d.Peers = append(d.Peers, wgtypes.Peer{PublicKey: pc.PublicKey, LastHandshakeTime: time.Unix(0, 0)})
		i = len(d.Peers) - 1
		what += " new"
	}
	p := &d.Peers[i]
	if pc.Endpoint != nil {
		p.Endpoint = pc.Endpoint
		what += " at " + pc.Endpoint.String()
	}
	if pc.PersistentKeepaliveInterval != nil {
		p.PersistentKeepaliveInterval = *pc.PersistentKeepaliveInterval
		what += fmt.Sprintf(" keepalive %v", p.PersistentKeepaliveInterval)
	}
	if pc.ReplaceAllowedIPs {
		p.AllowedIPs = nil
		what += " only"
	}
	for _, n := range pc.AllowedIPs {
		for j := range d.Peers { // an address is one peer's
			d.Peers[j].AllowedIPs = slices.DeleteFunc(d.Peers[j].AllowedIPs, func(o net.IPNet) bool { return o.String() == n.String() })
		}
		p.AllowedIPs = append(p.AllowedIPs, n)
		what += " +" + n.String()
	}
	return what
}

func key(t *testing.T) wireguard.PrivateKey {
	t.Helper()
	k, err := wireguard.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func peer(n byte, allowed ...string) wireguard.Peer {
	p := wireguard.Peer{PublicKey: wireguard.PublicKey{n}, Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 51871)}
	for _, a := range allowed {
		p.Allowed = append(p.Allowed, netip.MustParsePrefix(a))
	}
	return p
}

// TestSet: only what is different is said to the kernel.
func TestSet(t *testing.T) {
	f := &fake{devices: map[string]*wgtypes.Device{}}
	d := &Devices{open: func() (control, error) { return f, nil }, set: map[string]wireguard.Config{}}
	c := wireguard.Config{Name: "wg", PrivateKey: key(t)}
	steps := []struct {
		name   string
		change func()
		want   string // of the last call; empty: none
	}{
		{"all", func() { c.Peers = []wireguard.Peer{peer(1, "10.1.0.0/16", "fd00::1/128")} },
			"key; port 51871; peer 1 new at 10.0.0.1:51871 +10.1.0.0/16 +fd00::1/128"},
		{"nothing", func() {}, ""},
		{"a peer has moved", func() { f.devices["wg"].Peers[0].Endpoint = &net.UDPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 7} }, ""},
		{"it is wished elsewhere", func() { c.Peers[0].Endpoint = netip.MustParseAddrPort("10.8.8.8:8") }, "peer 1 at 10.8.8.8:8"},
		{"more addresses", func() { c.Peers[0].Allowed = append(c.Peers[0].Allowed, netip.MustParsePrefix("10.2.0.0/16")) }, "peer 1 +10.2.0.0/16"},
		{"fewer", func() { c.Peers[0].Allowed = c.Peers[0].Allowed[1:] }, "peer 1 only +10.2.0.0/16 +fd00::1/128"},
		{"a peer's key", func() { p := c.Peers[0]; p.PublicKey = wireguard.PublicKey{9}; c.Peers = []wireguard.Peer{p} },
			"peer 9 new at 10.8.8.8:8 +10.2.0.0/16 +fd00::1/128; peer 1 removed"},
		{"a keepalive", func() { c.Peers[0].Keepalive = 25 * time.Second }, "peer 9 keepalive 25s"},
		{"someone changed it by hand", func() { f.devices["wg"].Peers[0].AllowedIPs = nil }, "peer 9 +10.2.0.0/16 +fd00::1/128"},
		// Turned off and on, which begins a session at once.
		{"a key", func() { c.PrivateKey = key(t) }, "key; peer 9 keepalive 0s; peer 9 keepalive 25s"},
	}
	if err := d.Set(t.Context(), c); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("a device that is not there: %v", err)
	}
	f.devices["wg"] = &wgtypes.Device{Name: "wg", Type: wgtypes.LinuxKernel}
	for _, s := range steps {
		s.change()
		f.calls = nil
		if err := d.Set(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := strings.Join(f.calls, "\n"); got != s.want {
			t.Errorf("%s:\n%s\nwant\n%s", s.name, got, s.want)
		}
	}
	st, err := d.Status(t.Context(), "wg")
	if err != nil || st.UserSpace || st.PublicKey != c.PrivateKey.Public() || len(st.Peers) != 1 || !st.Peers[0].Handshake.IsZero() || st.Peers[0].Endpoint.String() != "10.8.8.8:8" || len(st.Peers[0].Allowed) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := errors.Join(d.Remove(t.Context(), "wg"), d.Remove(t.Context(), "none")); err != nil {
		t.Error(err)
	}
	if dev := f.devices["wg"]; len(dev.Peers) != 0 || dev.PrivateKey != (wgtypes.Key{}) {
		t.Errorf("after it was removed: %+v", dev)
	}
	if _, err := d.Status(t.Context(), "none"); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("status of none: %v", err)
	}
	f.err = errors.New("no buffer space")
	if _, err := d.Status(t.Context(), "wg"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("a kernel that fails: %v", err)
	}
	d.open = func() (control, error) { return nil, errors.New("no netlink") }
	if err := d.Set(t.Context(), c); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("no kernel: %v", err)
	}
}

// TestKernel: two devices of the real kernel, where it has them.
func TestKernel(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS, probe.WireGuard)
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Join(a, b, "10.77.0.1/24", "10.77.0.2/24")
	l.LeakCheck()
	keys := []wireguard.PrivateKey{key(t), key(t)}
	devices := []*Devices{New(), New()} // of two network namespaces
	for i, h := range []*lab.Host{a, b} {
		other := 1 - i
		h.Run("ip", "link", "add", "wgtest", "type", "wireguard")
		t.Cleanup(func() { h.Run("ip", "link", "del", "wgtest") })
		h.Addr("wgtest", netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 77, byte(i + 1)}), 24))
		c := wireguard.Config{Name: "wgtest", PrivateKey: keys[i], Peers: []wireguard.Peer{{
			PublicKey: keys[other].Public(), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(other + 1)}), wireguard.DefaultPort),
			Allowed: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 77, byte(other + 1)}), 32)},
		}}}
		for range 2 {
			if err := h.Do(func() error { return devices[i].Set(t.Context(), c) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.Run("ping", "-c3", "-i0.2", "-W5", "192.168.77.2")
	var st wireguard.Status
	if err := a.Do(func() (err error) { st, err = devices[0].Status(t.Context(), "wgtest"); return err }); err != nil {
		t.Fatal(err)
	}
	if p, ok := st.Peer(keys[1].Public()); !ok || !p.Up(time.Now()) || p.Received == 0 {
		t.Errorf("status: %+v", st)
	}
}
