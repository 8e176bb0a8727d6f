package network

import (
	"context"
	"net/netip"

	"linkspan/cnm"
	"linkspan/ipam"
)

// Mesh is what the controller asks of the hosts' common truth; package mesh is it. Its
// methods are safe for concurrent use. Those that must reach the common store err with
// cnm.ErrUnavailable while it cannot be reached, naming what is wrong and what still
// works; the others never wait for it.
type Mesh interface {
	// Underlay is this host's place; nil while it is in no mesh, or was forgotten by it.
	Underlay() *cnm.Underlay
	// Create claims a global network for all hosts: its name, its subnets (those that are
	// wished, checked against every other network's and every host's own; else chosen from
	// bases, where avoid is what this host uses), and its VNIs (n.VNIs that are not 0 are
	// wished). It completes n, Scope and ID too, and writes it.
	Create(ctx context.Context, n *cnm.Network, bases []ipam.Base, avoid *ipam.Space) error
	// Remove ends a global network, unless endpoints are on it: then cnm.ErrConflict names
	// them and their hosts.
	Remove(ctx context.Context, n *cnm.Network) error
	// Blocks are this host's own of a network, from its own memory.
	Blocks(network string) []cnm.Block
	// Claim makes one more block of a subnet this host's: that which holds addr, or, when
	// addr is zero, any. An addr in another host's block is asked of that host; single is
	// then addr's own prefix. It errs with cnm.ErrExhausted when there is none, and with
	// cnm.ErrConflict when addr is taken, naming the holder.
	Claim(ctx context.Context, n *cnm.Network, subnet netip.Prefix, addr netip.Addr) (cnm.Block, error)
	// Follow has the sink told of everything on a network elsewhere, whole first; Unfollow
	// ends that. A host follows networks on which it has endpoints, and no others.
	Follow(n *cnm.Network)
	Unfollow(network string)
	// Publish tells the others of this host's endpoints on a network, each in place of the
	// one of its id; Withdraw takes them back. Both return at once: what is told is written
	// in batches, as soon as the store can be reached.
	Publish(n *cnm.Network, endpoints ...cnm.Remote)
	Withdraw(network string, endpoints ...string)
	// Sync tells all that this host has, once, at its start: whatever the store has
	// besides of this host is taken away.
	Sync(endpoints map[string][]cnm.Remote)
	// Peers are the other hosts, by name.
	Peers() []cnm.Peer
}

// Recaller is a Mesh that remembers across restarts what it was told.
type Recaller interface {
	// Recall returns what was last known of a network elsewhere, whole, at once; known
	// is false when nothing ever was.
	Recall(network string) (last cnm.RemoteChange, known bool)
}

// Silencer is a Mesh that knows when there will be no news.
type Silencer interface {
	// Silent is closed while the common store cannot be reached. Once that is over there
	// is a new one.
	Silent() <-chan struct{}
}

// Granter is a Mesh that remembers what this host granted (mesh.Sink's Ask).
type Granter interface {
	// Granted are the addresses of this host's blocks that others have, with the hosts'
	// names.
	Granted(network string) map[netip.Addr]string
}

// Releaser is a Mesh that takes single addresses back.
type Releaser interface {
	// Release says that this host needs an address that another host lent it no more. It
	// returns at once.
	Release(network string, single netip.Prefix)
}
