package driver

import (
	"linkspan/cnm"
	"linkspan/dataplane"
)

// Spanner is a driver whose networks span the hosts of a mesh (Traits.Spans). Its networks
// are global (cnm.Network.Global). What leads to other hosts needs Env.Underlay: without
// one, Check passes, Network and Endpoint plan what is of this host alone, and Peer, Remote
// and Home plan nothing, so that a host that was forgotten by the others fences itself
// by planning again, and its own containers keep each other.
//
// Network is planned as long as the host has endpoints on the network, and so are the
// methods below.
type Spanner interface {
	Driver
	// Path chooses the way that the network's packets take to a peer, from what is known
	// of the peer.
	Path(env Env, n *cnm.Network, p cnm.Peer) cnm.Path
	// Peer plans what this host needs since another host is on the network: replication of
	// broadcasts, routes to the blocks of addresses that are the peer's.
	Peer(env Env, n *cnm.Network, p cnm.Peer, blocks []cnm.Block) ([]dataplane.Object, error)
	// Remote plans what this host needs to reach one endpoint of the peer's. blocks are
	// those of Peer: an endpoint inside of them needs no route of its own.
	Remote(env Env, n *cnm.Network, p cnm.Peer, blocks []cnm.Block, r cnm.Remote) ([]dataplane.Object, error)
	// Home plans what this host needs, as long as it has endpoints on the network, for
	// the blocks that are its own, and for its own endpoints that others must reach.
	Home(env Env, n *cnm.Network, blocks []cnm.Block) ([]dataplane.Object, error)
}

// Numbered is implemented by drivers whose networks have a number on the wire (a VXLAN
// network identifier).
type Numbered interface {
	// VNIs are the numbers that the options of a network wish for, one for each pool;
	// 0: the mesh chooses.
	VNIs(n *cnm.Network) ([]uint32, error)
}

// VNIs asks a driver; those that are not Numbered need none.
func VNIs(d Driver, n *cnm.Network) ([]uint32, error) {
	if w, ok := d.(Numbered); ok {
		return w.VNIs(n)
	}
	return nil, nil
}
