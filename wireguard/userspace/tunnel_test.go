package userspace_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/internal/lab"
	"linkspan/wireguard"
)

// TestTunnel: what goes through arrives, and cannot be read on the wire.
func TestTunnel(t *testing.T) {
	a, b, sw := world(t)
	const marker = "the-plain-text-of-this-test"
	capture := sw.Capture(a.Host)
	a.pings(b.inner4)
	a.pings(b.inner)
	b.pings(a.inner4)
	s := a.streamTo(b, marker)
	s.moves(200)
	s.end()
	if err := capture.Until(func(p lab.Packet) bool { return p.DstPort == port && p.Src == a.outer && len(p.Payload) > 32 }); err != nil {
		t.Errorf("nothing encrypted on the wire: %v", err)
	}
	if capture.Holds(marker) {
		t.Error("the plain text was on the wire")
	}
	// The capture can find it: the same without the tunnel.
	plain := &site{Host: b.Host, t: t, inner4: b.outer}
	ps := a.streamTo(plain, marker)
	ps.moves(50)
	ps.end()
	if !capture.Holds(marker) {
		t.Error("the capture does not find what is sent in plain text")
	}

	st := a.status()
	p, ok := st.Peer(b.config.PrivateKey.Public())
	if !ok || !p.Up(time.Now()) || p.Received < 10_000 || p.Sent < 10_000 || p.Endpoint != netip.AddrPortFrom(b.outer, port) {
		t.Errorf("status of the peer: %+v", p)
	}
	if !st.UserSpace || st.Port != port || st.PublicKey != a.config.PrivateKey.Public() || st.Err != "" || len(st.Peers) != 1 {
		t.Errorf("status: %+v", st)
	}
}

// TestAllowed: a peer may send from its own addresses only, and an address that comes or
// goes leaves the session as it is.
func TestAllowed(t *testing.T) {
	a, b, _ := world(t)
	a.pings(b.inner4)
	session := func() time.Time { p, _ := b.status().Peer(a.config.PrivateKey.Public()); return p.Handshake }
	began := session()
	more := netip.MustParsePrefix("192.168.99.1/32")
	a.Run("ip", "addr", "add", more.String(), "dev", "lo")
	b.Run("ip", "route", "add", more.String(), "dev", device)
	fromMore := func() error {
		_, err := a.Try("ping", "-c1", "-W1", "-I", more.Addr().String(), b.inner4.String())
		return err
	}
	if err := fromMore(); err == nil {
		t.Error("an address that is not allowed gets through")
	}
	allow := func(prefixes ...netip.Prefix) {
		p := a.peer()
		p.Allowed = append(p.Allowed, prefixes...)
		b.config.Peers = []wireguard.Peer{p}
		b.set()
	}
	allow(more)
	if err := fromMore(); err != nil {
		t.Errorf("after it was allowed: %v", err)
	}
	allow()
	if err := fromMore(); err == nil {
		t.Error("after it was taken back it gets through")
	}
	a.pings(b.inner4)
	if now := session(); !now.Equal(began) {
		t.Errorf("the session began anew: %v, then %v", began, now)
	}
}

// TestRotation: a host gets another key under a running stream.
func TestRotation(t *testing.T) {
	for _, first := range []string{"host", "peer"} {
		t.Run(first+" first", func(t *testing.T) {
			a, b, _ := world(t)
			s, back := a.streamTo(b, "x"), b.streamTo(a, "y")
			s.moves(200)
			back.moves(200)
			for range 3 {
				key, err := wireguard.NewPrivateKey()
				if err != nil {
					t.Fatal(err)
				}
				a.config.PrivateKey = key
				b.config.Peers = []wireguard.Peer{a.peer()}
				steps := []func(){a.set, b.set}
				if first == "peer" {
					steps = []func(){b.set, a.set}
				}
				steps[0]()
				time.Sleep(5 * time.Millisecond) // the news travel through the mesh
				steps[1]()
				t.Logf("longest pause: %v there, %v back", s.moves(200), back.moves(200))
			}
			if st := b.status(); len(st.Peers) != 1 || st.Peers[0].PublicKey != a.config.PrivateKey.Public() {
				t.Errorf("after the change: %+v", st)
			}
			s.end()
			back.end()
		})
	}
}

// TestUpgrade: the keeper replaces itself under a running stream. The device, its
// addresses and its counters stay.
func TestUpgrade(t *testing.T) {
	a, b, _ := world(t)
	s, back := a.streamTo(b, "x"), b.streamTo(a, "y")
	s.moves(200)
	back.moves(100)
	before := a.status().Peers[0]
	index := func() string { n, _, _ := strings.Cut(a.Run("ip", "-o", "link", "show", device), ":"); return n }
	number := index()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := a.k.Upgrade(ctx(t), self); err != nil {
			t.Fatal(err)
		}
		t.Logf("longest pause: %v there, %v back", s.moves(200), back.moves(200))
	}
	after := a.status()
	if p := after.Peers[0]; p.Received <= before.Received || p.Sent <= before.Sent || p.Handshake.Before(before.Handshake) {
		t.Errorf("the counters went back: %+v, then %+v", before, p)
	}
	if now := index(); now != number || after.Err != "" {
		t.Errorf("another device: %s, then %s; %s", number, now, after.Err)
	}
	a.set() // and it can be changed as before
	s.end()
	back.end()
}

// TestDaemonDies: who asked for the tunnel goes, the stream goes on.
func TestDaemonDies(t *testing.T) {
	a, b, _ := world(t)
	s := a.streamTo(b, "x")
	s.moves(100)
	a.k.Close()
	s.moves(200)
	a.connect()
	before := a.status()
	a.set() // the next daemon says the same: nothing happens
	if after := a.status(); !after.Peers[0].Handshake.Equal(before.Peers[0].Handshake) {
		t.Errorf("the session began anew: %+v, then %+v", before.Peers[0], after.Peers[0])
	}
	s.moves(100)
	s.end()
}

// TestKeeperDies: what it held is gone, and is made anew when it is asked for. The stream
// lives: TCP waits.
func TestKeeperDies(t *testing.T) {
	a, b, _ := world(t)
	s := a.streamTo(b, "x")
	s.moves(100)
	a.process.Signal(syscall.SIGKILL)
	<-a.process.Done()
	eventually(t, "the device goes", func() error {
		if out, err := a.Try("ip", "link", "show", device); err == nil {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	a.start()
	if all, err := a.k.Tunnels(ctx(t)); err != nil || len(all) != 0 {
		t.Errorf("a new keeper holds %v, %v", all, err)
	}
	a.set()
	a.up()
	t.Logf("longest pause: %v", s.moves(200))
	s.end()
}

// TestDeleted: someone deletes the device; setting the tunnel makes it again.
func TestDeleted(t *testing.T) {
	a, b, _ := world(t)
	a.pings(b.inner4)
	a.Run("ip", "link", "del", device)
	eventually(t, "the keeper notices", func() error {
		if st := a.status(); !strings.Contains(st.Err, "removed") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	a.set()
	a.up()
	a.pings(b.inner4)
}

// TestPort: another port, and one that is taken.
func TestPort(t *testing.T) {
	a, b, _ := world(t)
	s := a.streamTo(b, "x")
	s.moves(100)
	taken := a.ListenPacket("udp4", "0.0.0.0:51900")
	c := a.config
	c.Port = 51900
	if err := a.k.SetTunnel(ctx(t), c); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "51900") {
		t.Errorf("a port that is taken: %v", err)
	}
	s.moves(100)
	taken.Close()
	if err := a.k.SetTunnel(ctx(t), c); err != nil {
		t.Fatal(err)
	}
	if st := a.status(); st.Port != 51900 {
		t.Errorf("port %d", st.Port)
	}
	t.Logf("longest pause: %v", s.moves(200)) // b hears from where a speaks now
	s.end()
	if out := a.Run("ss", "-lun"); strings.Contains(out, fmt.Sprintf(":%d ", port)) {
		t.Errorf("the former port is still open:\n%s", out)
	}
}

// TestRefused: what cannot be says why, and leaves nothing.
func TestRefused(t *testing.T) {
	a, _, _ := world(t)
	for name, c := range map[string]struct {
		change func(*wireguard.Config)
		class  error
		say    string
	}{
		"no name":          {func(c *wireguard.Config) { c.Name = "" }, cnm.ErrInvalid, "network device"},
		"a device's name":  {func(c *wireguard.Config) { c.Name, c.Port = "wan0", 51901 }, cnm.ErrConflict, "wan0"},
		"a tunnel's port":  {func(c *wireguard.Config) { c.Name = "other" }, cnm.ErrConflict, "51871"},
		"its own key":      {func(c *wireguard.Config) { c.Peers = []wireguard.Peer{a.peer()} }, cnm.ErrInvalid, "own key"},
		"an address twice": {func(c *wireguard.Config) { p := c.Peers[0]; p.PublicKey[0] ^= 1; c.Peers = append(c.Peers, p) }, cnm.ErrConflict, "two peers"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := a.config
			c.change(&conf)
			if err := a.k.SetTunnel(ctx(t), conf); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v", err)
			}
		})
	}
	if err := a.k.RemoveTunnel(ctx(t), "none"); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := a.k.RemoveTunnel(ctx(t), device); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Try("ip", "link", "show", device); err == nil {
		t.Error("the device is still there")
	}
}
