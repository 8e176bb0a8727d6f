package explain

import (
	"context"
	"fmt"
	"net/netip"

	"linkspan/dataplane"
)

// whose explains what `ip` and `nft` print, from the other side: an address, an
// interface of the host, our table. done says that it was one of these.
func (m *maker) whose(ctx context.Context, s string) (done bool, err error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return m.whoseAddress(ctx, a.Unmap())
	}
	for _, o := range m.objs {
		switch o := o.(type) {
		case dataplane.Veth:
			if o.Name == s {
				return m.owner(ctx, o, s+" is the host's end of its wire")
			}
		case dataplane.Bridge:
			if o.Name == s {
				return m.owner(ctx, o, s+" is its bridge")
			}
		case dataplane.VXLAN:
			if o.Name == s {
				return m.owner(ctx, o, s+" is its tunnel to the other hosts")
			}
		case dataplane.Page:
			if o.Table == s {
				return true, m.host(ctx)
			}
		case dataplane.Element:
			if o.Set == "borrowed" && o.KeyText == fmt.Sprintf("%q", s) {
				return m.owner(ctx, o, s+" is the bridge that it stands on, which was there before")
			}
		}
	}
	return false, nil
}

func (m *maker) whoseAddress(ctx context.Context, a netip.Addr) (done bool, err error) {
	for _, s := range m.src.World.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			for _, p := range e.Addrs {
				if p.Addr() == a {
					m.note(fmt.Sprintf("%s is its address on %s", a, e.NetworkName))
					return true, m.container(ctx, owner(m.src.World, s))
				}
			}
		}
	}
	for _, n := range m.src.World.Declared.Networks() {
		for _, p := range n.Pools {
			switch {
			case p.Gateway == a:
				m.note(fmt.Sprintf("%s is its gateway, the host's own address on it", a))
			case p.Subnet.Contains(a):
				m.note(fmt.Sprintf("%s is in its subnet, and no running container has it", a))
			default:
				continue
			}
			return true, m.network(ctx, n)
		}
	}
	return false, nil
}

// owner explains the container or network that an object was made for.
func (m *maker) owner(ctx context.Context, o dataplane.Object, note string) (done bool, err error) {
	own := o.About().Owner
	for _, s := range m.src.World.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			if own.Kind == dataplane.OwnerEndpoint && e.ID == own.ID {
				m.note(note)
				return true, m.container(ctx, owner(m.src.World, s))
			}
		}
	}
	for _, n := range m.src.World.Declared.Networks() {
		if own.Kind == dataplane.OwnerNetwork && n.ID == own.ID {
			m.note(note)
			return true, m.network(ctx, n)
		}
	}
	return false, nil
}
