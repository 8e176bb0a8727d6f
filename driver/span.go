package driver

import (
	"linkspan/cnm"
	"linkspan/dataplane"
)

// Spanner is a driver whose networks span the hosts of a mesh. Its networks are global
// (cnm.Network.Global), and every plan of it needs Env.Underlay: without one, Check
// passes and the plans are empty, so that a host that was forgotten by the others fences
// itself by planning again.
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
