package wireguard

import (
	"net/netip"
	"slices"
	"time"
)

// Change is what makes one configuration of a device another.
type Change struct {
	// Key and Port are nil when they stay. With another key all sessions are begun anew.
	Key  *PrivateKey
	Port *uint16
	// Peers are those that change, in the order in which they have to: first who gets
	// addresses, which are then taken from who had them, last who goes. So an address that
	// moves from one key to another always has a peer.
	Peers []PeerChange
}

// PeerChange is what changes of one peer.
type PeerChange struct {
	PublicKey PublicKey
	// New: it was not there. Remove: it goes, and nothing else is said.
	New, Remove bool
	// Endpoint is another when it is valid, Keepalive when it is not nil.
	Endpoint  netip.AddrPort
	Keepalive *time.Duration
	// Add and Drop are prefixes that it gets and loses; All are those it then has.
	Add, Drop, All []netip.Prefix
}

// Empty says that nothing changes.
func (c Change) Empty() bool { return c.Key == nil && c.Port == nil && len(c.Peers) == 0 }

// Diff is what makes from to. Both are normal. A zero from is a device that has nothing.
func Diff(from, to Config) Change {
	var c Change
	if from.PrivateKey != to.PrivateKey {
		c.Key = &to.PrivateKey
	}
	if from.Port != to.Port {
		c.Port = &to.Port
	}
	had := map[PublicKey]Peer{}
	for _, p := range from.Peers {
		had[p.PublicKey] = p
	}
	var dropping []PeerChange
	for _, p := range to.Peers {
		old, ok := had[p.PublicKey]
		delete(had, p.PublicKey)
		pc, changed := diffPeer(old, p)
		switch pc.New = !ok; {
		case !ok || changed && len(pc.Drop) == 0:
			c.Peers = append(c.Peers, pc)
		case changed:
			dropping = append(dropping, pc)
		}
	}
	c.Peers = append(c.Peers, dropping...)
	for _, p := range from.Peers {
		if _, gone := had[p.PublicKey]; gone {
			c.Peers = append(c.Peers, PeerChange{PublicKey: p.PublicKey, Remove: true})
		}
	}
	return c
}

func diffPeer(old, p Peer) (pc PeerChange, changed bool) {
	pc = PeerChange{PublicKey: p.PublicKey, All: p.Allowed}
	if p.Endpoint.IsValid() && p.Endpoint != old.Endpoint {
		pc.Endpoint = p.Endpoint
	}
	if p.Keepalive != old.Keepalive {
		pc.Keepalive = &p.Keepalive
	}
	pc.Add, pc.Drop = without(p.Allowed, old.Allowed), without(old.Allowed, p.Allowed)
	return pc, pc.Endpoint.IsValid() || pc.Keepalive != nil || len(pc.Add)+len(pc.Drop) > 0
}

// without are the prefixes of a that are not in b; both are sorted.
func without(a, b []netip.Prefix) (out []netip.Prefix) {
	for _, p := range a {
		if _, found := slices.BinarySearchFunc(b, p, netip.Prefix.Compare); !found {
			out = append(out, p)
		}
	}
	return out
}
