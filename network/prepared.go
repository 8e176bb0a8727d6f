package network

import (
	"context"
	"maps"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// A network can have ten thousand endpoints elsewhere, and three objects for each of them.
// What a repair needs of these is planned while others work; once it has the world to
// itself it only looks whether that is still what is declared.

// prepared are plans of what is elsewhere, by network.
type prepared map[string]plan

// plan is what is elsewhere on a network, and all that it was planned of.
type plan struct {
	of   basis
	objs []dataplane.Object
}

// basis tells whether two plans of what is elsewhere would be the same.
type basis struct {
	network *cnm.Network
	env     driver.Env
	peers   uint64 // spans.told
	remotes uint64 // span.news
}

// prepare plans what is elsewhere on all networks.
func (c *Controller) prepare(ctx context.Context) prepared {
	c.world.RLock()
	defer c.world.RUnlock()
	env, err := c.plannedEnv(ctx)
	if err != nil {
		return nil // who plans all says so
	}
	out := prepared{}
	for _, n := range c.Networks() {
		d, ok := c.spanner(n)
		if !ok || !c.used(n.ID) {
			continue
		}
		sp := c.span(n.ID)
		sp.mu.Lock()
		out[n.ID] = c.allElsewhere(env, d, n, sp, nil)
		sp.mu.Unlock()
	}
	return out
}

// allElsewhere is the plan of all that is elsewhere on a network: the one that is ready, if
// it is of the same. The caller holds sp.mu.
func (c *Controller) allElsewhere(env driver.Env, d driver.Spanner, n *cnm.Network, sp *span, ready prepared) plan {
	peers, told := c.toldPeers()
	of := basis{n, env, told, sp.news}
	if p, ok := ready[n.ID]; ok && p.of == of {
		return p
	}
	return plan{of, c.elsewhere(env, peers, d, n, sp, slices.Collect(maps.Keys(sp.hosts)), slices.Collect(maps.Keys(sp.remotes)))}
}

// meetPeers takes over which hosts there are.
func (c *Controller) meetPeers(now map[string]cnm.Peer) {
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	c.spans.peers = now
	c.spans.told++
}

// toldPeers are knownPeers, and how often they were told.
func (c *Controller) toldPeers() (map[string]cnm.Peer, uint64) {
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	return c.spans.peers, c.spans.told
}
