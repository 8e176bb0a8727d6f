package diagnose

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"linkspan/cnm"
)

// Find looks up a parsed end: whose name, or whose address it is. A name that no
// container has stays of kind "" with the error that says so, and the nearest name.
func (w *World) Find(ctx context.Context, e *End) error {
	switch {
	case e.Kind == EndHost:
		return nil
	case e.Kind == EndOutside && !e.Addr.IsValid():
		return nil
	case e.Addr.IsValid():
		return w.owner(ctx, e)
	}
	c, err := w.Container(e.Name)
	if Unknown(err) {
		if there := w.ElsewhereNamed(e.Name); len(there) > 0 {
			e.is(&there[0])
			return nil
		}
	}
	if err != nil {
		return err
	}
	w.be(e, c)
	return nil
}

// be makes an end that container.
func (w *World) be(e *End, c Container) {
	e.Kind, e.Name, e.Container = EndContainer, c.Name, &c
	if s, ok := w.Sandbox(c.ID); ok {
		e.Sandbox = s
	}
}

// owner finds whose an address is: a container's, the host's, or somebody's outside.
func (w *World) owner(ctx context.Context, e *End) error {
	asked := e.Kind
	if s, ep := w.Holder(e.Addr); s != nil {
		if c, err := w.Container(s.Owner); err == nil {
			w.be(e, c)
		} else {
			e.Kind, e.Name = EndContainer, s.OwnerName
		}
		e.Sandbox, e.Endpoint = s, ep
		e.How = fmt.Sprintf("%s is %s's address on %s", e.Addr, e.Name, ep.NetworkName)
		return nil
	}
	if x := w.ElsewhereAt(e.Addr); x != nil {
		e.is(x)
		e.How = fmt.Sprintf("%s is %s's address on %s, on %s", e.Addr, e.Name, x.Network.Name, x.Peer.Name)
		return nil
	}
	mine := e.Addr.IsLoopback()
	for _, s := range w.Declared.Sandboxes() {
		for _, p := range s.Ports {
			if p.HostIP == e.Addr && !s.Host {
				mine = true
				e.How = fmt.Sprintf("%s publishes ports on %s", s.OwnerName, e.Addr)
			}
		}
	}
	links, err := w.Kernel.Interfaces(ctx, "")
	if err != nil && !mine {
		return fmt.Errorf("reading the host's interfaces: %w", err)
	}
	for _, l := range links {
		for _, p := range l.Addrs {
			if p.Addr() == e.Addr {
				mine = true
				e.How = fmt.Sprintf("%s is the host's address on %s", e.Addr, l.Name)
			}
		}
	}
	if mine {
		e.Kind, e.Name = EndHost, "the host"
		return nil
	}
	e.Kind, e.Name = EndOutside, e.Addr.String()
	for _, n := range w.Declared.Networks() {
		for _, p := range n.Pools {
			switch {
			case p.Gateway == e.Addr:
				e.Kind, e.Name = EndHost, "the host"
				e.How = fmt.Sprintf("%s is the host's address on network %s", e.Addr, n.Name)
			case p.Subnet.Contains(e.Addr) && asked == "" && e.Kind == EndOutside:
				e.How = fmt.Sprintf("%s is in network %s's subnet, and no container has it", e.Addr, n.Name)
			}
		}
	}
	return nil
}

// Holder is the sandbox and endpoint that an address is declared for.
func (w *World) Holder(a netip.Addr) (*cnm.Sandbox, *cnm.Endpoint) {
	for _, s := range w.Declared.Sandboxes() {
		for i := range s.Endpoints {
			for _, p := range s.Endpoints[i].Addrs {
				if p.Addr() == a {
					return s, &s.Endpoints[i]
				}
			}
		}
	}
	return nil, nil
}

// NetworkByID finds a network by its full id; nil when there is none.
func (w *World) NetworkByID(id string) *cnm.Network {
	for _, n := range w.Declared.Networks() {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Unknown says whether an error is that nobody has a name.
func Unknown(err error) bool { return errors.Is(err, cnm.ErrNotFound) }
