package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"linkspan/cnm"
)

// A stray is an endpoint of this host whose address is in none of its blocks: the host
// was forgotten by the others and is back, and its blocks may be somebody else's by now.
// Strays are told to nobody until their addresses are this host's again.

// strayPatience is how long a stray waits while the others cannot be asked.
const strayPatience = 2 * time.Second

type stray struct {
	n        *cnm.Network
	endpoint string
	owner    string // the container's name
	sandbox  string
	addr     netip.Addr
	subnet   netip.Prefix
}

// strays are those that there are.
func (c *Controller) strays() (out []stray) {
	for _, n := range c.Networks() {
		if !n.Global() {
			continue
		}
		for _, p := range c.poolsOf(n.ID) {
			blocks, restricted := p.Blocks()
			for _, s := range c.on(n.ID) {
				e := endpointOn(s, n.ID)
				for _, a := range addresses(e) {
					if restricted && p.Pool().Subnet.Contains(a) && !slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
						out = append(out, stray{n, e.ID, s.OwnerName, s.ID, a, p.Pool().Subnet})
					}
				}
			}
		}
	}
	return out
}

// outlaw marks endpoints as strays.
func (c *Controller) outlaw(all []stray) {
	for _, s := range all {
		c.spans.note(&c.spans.strays, s.endpoint, true)
	}
}

// reclaim makes the addresses of strays this host's again, as far as nobody else has
// them. It ends when each was answered, or the host is in another mesh.
func (c *Controller) reclaim(ctx context.Context, m Mesh, all []stray) {
	waiting := map[string]int{} // addresses of an endpoint that are not there yet
	for _, s := range all {
		waiting[s.endpoint]++
	}
	for len(all) > 0 && ctx.Err() == nil && c.Mesh() == m {
		var later []stray
		for _, s := range all {
			err := c.claimBlock(ctx, &needError{n: s.n, subnet: s.subnet, addr: s.addr})
			switch {
			case err == nil:
				if waiting[s.endpoint]--; waiting[s.endpoint] == 0 {
					c.readmitEndpoint(s)
				}
			case errors.Is(err, cnm.ErrUnavailable):
				later = append(later, s)
			case errors.Is(err, cnm.ErrNotFound): // the network went
			default:
				c.spans.note(&c.spans.strays, s.endpoint, true)
				if m := c.Mesh(); m != nil {
					m.Withdraw(s.n.ID, s.endpoint)
				}
				c.log.Error("a container's address was given to another while this host was out of the mesh: the other hosts do not reach it; restart it to have a new one",
					"container", s.owner, "network", s.n.Name, "addr", s.addr, "err", err)
			}
		}
		if all = later; len(all) > 0 {
			select {
			case <-time.After(strayPatience):
			case <-ctx.Done():
			}
		}
	}
}

// readmitEndpoint tells the others of an endpoint whose addresses are this host's again.
func (c *Controller) readmitEndpoint(s stray) {
	if !c.spans.noted(&c.spans.strays, s.endpoint) {
		return // it never was told otherwise
	}
	c.spans.note(&c.spans.strays, s.endpoint, false)
	c.mu.RLock()
	sb := c.sandboxes[s.sandbox]
	c.mu.RUnlock()
	if sb == nil {
		return
	}
	if m := c.Mesh(); m != nil {
		for i := range sb.Endpoints {
			if e := &sb.Endpoints[i]; e.ID == s.endpoint {
				m.Publish(s.n, c.remoteOf(sb, e))
			}
		}
	}
}
