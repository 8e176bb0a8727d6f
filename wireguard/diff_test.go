package wireguard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func prefixes(text ...string) (out []netip.Prefix) {
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// pub is a public key by number, in the order of the numbers.
func pub(n byte) PublicKey { return PublicKey{n} }

func peer(n byte, allowed ...string) Peer {
	return Peer{PublicKey: pub(n), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), DefaultPort), Allowed: prefixes(allowed...)}
}

// text is a change as lines.
func text(c Change) string {
	var b strings.Builder
	if c.Key != nil {
		b.WriteString("key\n")
	}
	if c.Port != nil {
		fmt.Fprintf(&b, "port %d\n", *c.Port)
	}
	for _, p := range c.Peers {
		fmt.Fprintf(&b, "peer %d", p.PublicKey[0])
		for _, w := range []struct {
			is   bool
			word string
		}{{p.New, "new"}, {p.Remove, "remove"}, {p.Endpoint.IsValid(), "at " + p.Endpoint.String()}} {
			if w.is {
				b.WriteString(" " + w.word)
			}
		}
		if p.Keepalive != nil {
			fmt.Fprintf(&b, " keepalive %v", *p.Keepalive)
		}
		for _, a := range p.Add {
			b.WriteString(" +" + a.String())
		}
		for _, a := range p.Drop {
			b.WriteString(" -" + a.String())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	key, other := newKey(t), newKey(t)
	conf := func(peers ...Peer) Config {
		c, err := Config{Name: "wg", PrivateKey: key, Peers: peers}.Normal()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	moved := peer(1, "10.1.0.0/16")
	moved.Endpoint = netip.MustParseAddrPort("10.9.9.9:51871")
	silent := peer(1, "10.1.0.0/16")
	silent.Endpoint = netip.AddrPort{}
	kept := peer(1, "10.1.0.0/16")
	kept.Keepalive = 25 * time.Second
	rekeyed := conf(peer(1))
	rekeyed.PrivateKey, rekeyed.Port = other, 99
	for _, c := range []struct {
		name     string
		from, to Config
		want     string
	}{
		{"nothing", conf(peer(1, "10.1.0.0/16")), conf(peer(1, "10.1.0.0/16")), ""},
		{"in another order", conf(peer(1, "10.1.0.0/16", "10.2.0.0/16"), peer(2)), conf(peer(2), peer(1, "10.2.0.0/16", "10.1.0.0/16", "10.1.0.0/16")), ""},
		{"all", Config{}, conf(peer(1, "10.1.0.0/16", "fd00::1/128")), "key\nport 51871\npeer 1 new at 10.0.0.1:51871 +10.1.0.0/16 +fd00::1/128\n"},
		{"a key and a port", conf(peer(1)), rekeyed, "key\nport 99\n"},
		{"a peer comes, one goes", conf(peer(1), peer(2)), conf(peer(2), peer(3)), "peer 3 new at 10.0.0.3:51871\npeer 1 remove\n"},
		{"an endpoint", conf(peer(1, "10.1.0.0/16")), conf(moved), "peer 1 at 10.9.9.9:51871\n"},
		{"an endpoint that nobody knows any more", conf(peer(1, "10.1.0.0/16")), conf(silent), ""},
		{"a keepalive", conf(peer(1, "10.1.0.0/16")), conf(kept), "peer 1 keepalive 25s\n"},
		{"and without", conf(kept), conf(peer(1, "10.1.0.0/16")), "peer 1 keepalive 0s\n"},
		{"addresses", conf(peer(1, "10.1.0.0/16", "10.2.0.0/16")), conf(peer(1, "10.2.0.0/16", "10.3.0.0/16")), "peer 1 +10.3.0.0/16 -10.1.0.0/16\n"},
		// The new key gets the addresses before the old one loses them.
		{"a peer's key", conf(peer(1, "10.1.0.0/16")), conf(peer(9, "10.1.0.0/16")), "peer 9 new at 10.0.0.9:51871 +10.1.0.0/16\npeer 1 remove\n"},
		{"an address moves", conf(peer(1, "10.1.0.0/16"), peer(2)), conf(peer(1), peer(2, "10.1.0.0/16")), "peer 2 +10.1.0.0/16\npeer 1 -10.1.0.0/16\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Diff(c.from, c.to)
			if text(got) != c.want || got.Empty() != (c.want == "") {
				t.Errorf("got\n%swant\n%s", text(got), c.want)
			}
		})
	}
}

func TestNormal(t *testing.T) {
	key := newKey(t)
	for _, c := range []struct {
		name  string
		conf  Config
		class error
		say   string
	}{
		{"a long name", Config{Name: "a-name-too-long-", PrivateKey: key}, cnm.ErrInvalid, "15 bytes"},
		{"a path", Config{Name: "a/b", PrivateKey: key}, cnm.ErrInvalid, "a/b"},
		{"no key", Config{Name: "wg"}, cnm.ErrInvalid, "private key"},
		{"an MTU", Config{Name: "wg", PrivateKey: key, MTU: 100}, cnm.ErrInvalid, "100"},
		{"a peer without a key", Config{Name: "wg", PrivateKey: key, Peers: []Peer{{}}}, cnm.ErrInvalid, "public key"},
		{"itself", Config{Name: "wg", PrivateKey: key, Peers: []Peer{{PublicKey: key.Public()}}}, cnm.ErrInvalid, "mesh rotate"},
		{"a peer twice", Config{Name: "wg", PrivateKey: key, Peers: []Peer{peer(1), peer(2), peer(1)}}, cnm.ErrConflict, "two peers have the key"},
		{"an address twice", Config{Name: "wg", PrivateKey: key, Peers: []Peer{peer(1, "10.1.2.0/16"), peer(2, "10.1.0.0/16")}}, cnm.ErrConflict, "10.1.0.0/16"},
		{"a keepalive", Config{Name: "wg", PrivateKey: key, Peers: []Peer{{PublicKey: pub(1), Keepalive: time.Millisecond}}}, cnm.ErrInvalid, "whole seconds"},
		{"no prefix", Config{Name: "wg", PrivateKey: key, Peers: []Peer{{PublicKey: pub(1), Allowed: make([]netip.Prefix, 1)}}}, cnm.ErrInvalid, "no prefix"},
		{"nowhere", Config{Name: "wg", PrivateKey: key, Peers: []Peer{{PublicKey: pub(1), Endpoint: netip.MustParseAddrPort("0.0.0.0:1")}}}, cnm.ErrInvalid, "0.0.0.0"},
	} {
		if _, err := c.conf.Normal(); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	mine := []Peer{peer(2, "10.2.0.1/16"), peer(1)}
	mine[0].Endpoint = netip.MustParseAddrPort("[::ffff:10.0.0.2]:7")
	c, err := Config{Name: "wg", PrivateKey: key, Peers: mine}.Normal()
	if err != nil || c.Port != DefaultPort || c.MTU != 1420 || c.Peers[0].PublicKey != pub(1) || c.Peers[1].Allowed[0].String() != "10.2.0.0/16" || c.Peers[1].Endpoint.String() != "10.0.0.2:7" {
		t.Errorf("%+v, %v", c, err)
	}
	if mine[0].PublicKey != pub(2) || mine[0].Allowed[0].String() != "10.2.0.1/16" {
		t.Error("the caller's own was changed")
	}
	again, err := c.Normal()
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("not the same again: %v", err)
	}
}

// device is what a change does, as a device does it: an address is one peer's.
type device struct {
	key   PrivateKey
	port  uint16
	peers map[PublicKey]Peer
	of    map[netip.Prefix]PublicKey
}

func (d *device) apply(t *testing.T, c Change) {
	if c.Key != nil {
		d.key = *c.Key
	}
	if c.Port != nil {
		d.port = *c.Port
	}
	for _, pc := range c.Peers {
		p, there := d.peers[pc.PublicKey]
		if there == pc.New {
			t.Fatalf("peer %v: new is %v and it is there: %v", pc.PublicKey[0], pc.New, there)
		}
		if pc.Remove {
			delete(d.peers, pc.PublicKey)
			for a, k := range d.of {
				if k == pc.PublicKey {
					delete(d.of, a)
				}
			}
			continue
		}
		p.PublicKey = pc.PublicKey
		if pc.Endpoint.IsValid() {
			p.Endpoint = pc.Endpoint
		}
		if pc.Keepalive != nil {
			p.Keepalive = *pc.Keepalive
		}
		for _, a := range pc.Add {
			d.of[a] = pc.PublicKey
		}
		for _, a := range pc.Drop {
			if d.of[a] == pc.PublicKey {
				delete(d.of, a)
			}
		}
		d.peers[pc.PublicKey] = p
	}
}

func (d *device) config() Config {
	c := Config{Name: "wg", PrivateKey: d.key, Port: d.port}
	for _, p := range d.peers {
		p.Allowed = nil
		for a, k := range d.of {
			if k == p.PublicKey {
				p.Allowed = append(p.Allowed, a)
			}
		}
		c.Peers = append(c.Peers, p)
	}
	c, _ = c.Normal()
	return c
}

// TestDiffReaches: from whatever to whatever else, the change leads there; and an address
// that has a peer before and after has one in between.
func TestDiffReaches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := []PrivateKey{newKey(t), newKey(t)}
	random := func() Config {
		c := Config{Name: "wg", PrivateKey: keys[r.IntN(2)], Port: uint16(1 + r.IntN(2))}
		free := r.Perm(6)
		for _, n := range r.Perm(5)[:r.IntN(6)] {
			p := peer(byte(n + 1))
			p.Endpoint = netip.AddrPortFrom(p.Endpoint.Addr(), uint16(1+r.IntN(2)))
			p.Keepalive = time.Duration(r.IntN(2)) * time.Second
			for range r.IntN(3) {
				if len(free) > 0 {
					p.Allowed = append(p.Allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(free[0])}), 16))
					free = free[1:]
				}
			}
			c.Peers = append(c.Peers, p)
		}
		c, err := c.Normal()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	from := Config{Name: "wg"}
	d := &device{peers: map[PublicKey]Peer{}, of: map[netip.Prefix]PublicKey{}}
	for range 2000 {
		to := random()
		change := Diff(from, to)
		for _, pc := range change.Peers { // one at a time
			d.apply(t, Change{Peers: []PeerChange{pc}})
			_ = pc
		}
		d.apply(t, Change{Key: change.Key, Port: change.Port})
		if got := d.config(); !reflect.DeepEqual(norm(got), norm(to)) {
			t.Fatalf("from %+v\nto   %+v\ngot  %+v\nby\n%s", from, to, got, text(change))
		}
		if again := Diff(to, to); !again.Empty() {
			t.Fatalf("once more: %s", text(again))
		}
		from = to
	}
}

// norm makes empty lists one kind of empty.
func norm(c Config) Config {
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		if len(c.Peers[i].Allowed) == 0 {
			c.Peers[i].Allowed = nil
		}
	}
	if len(c.Peers) == 0 {
		c.Peers = nil
	}
	return c
}
