package network

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/publish"
)

// Networks implements Service.
func (c *Controller) Networks() []*cnm.Network {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []*cnm.Network
	for _, n := range c.networks {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *cnm.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Network implements Service: a full id wins over a name, a name over a prefix.
func (c *Controller) Network(ref string) (*cnm.Network, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if n, ok := c.networks[ref]; ok {
		return n, nil
	}
	if n, ok := c.networks[c.names[ref]]; ok {
		return n, nil
	}
	var found []*cnm.Network
	for _, n := range c.networks {
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, cnm.NotFound("network %s not found", ref)
	}
	return nil, cnm.Invalid("network %s is ambiguous: %d networks' ids begin so; give more digits", ref, len(found))
}

// Sandbox implements Service.
func (c *Controller) Sandbox(containerID string) (*cnm.Sandbox, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s, ok := c.sandboxes[c.member[containerID]]
	if !ok {
		return nil, false
	}
	return clone(s), true
}

// Sandboxes implements Service.
func (c *Controller) Sandboxes() []*cnm.Sandbox {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*cnm.Sandbox, 0, len(c.sandboxes))
	for _, s := range c.sandboxes {
		out = append(out, clone(s))
	}
	slices.SortFunc(out, func(a, b *cnm.Sandbox) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// On implements Service.
func (c *Controller) On(networkID string) []*cnm.Sandbox {
	out := c.on(networkID)
	for i := range out {
		out[i] = clone(out[i])
	}
	return out
}

// owned returns the living sandbox that a container's definition made, whether
// or not it is in it now.
func (c *Controller) owned(containerID string) (*cnm.Sandbox, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s, ok := c.sandboxes[c.member[containerID]]; ok && s.Owner == containerID {
		return clone(s), true
	}
	if s, ok := c.sandboxes[c.owners[containerID]]; ok {
		return clone(s), true
	}
	return nil, false
}

// publisher finds the container that publishes on an address and port.
func (c *Controller) publisher(proto string, addr netip.Addr, port uint16) (publish.Owner, bool) {
	want := cnm.PublishedPort{Proto: proto, HostIP: addr, HostPort: port, HostPortEnd: port}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, s := range c.sandboxes {
		for _, p := range s.Ports {
			if publish.Conflict(p, want) {
				return publish.Owner{Name: s.OwnerName, ID: s.Owner}, true
			}
		}
	}
	return publish.Owner{}, false
}
