package network

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"linkspan/cnm"
	"linkspan/keeper"
	"linkspan/publish"
)

// reserver is the Controller as publish.Reserver: it has the keeper bind the
// ports of a sandbox that is being made.
type reserver Controller

// Reserve implements publish.Reserver. owner is a sandbox id that Join has put
// into the context.
func (r *reserver) Reserve(ctx context.Context, owner string, ports []cnm.PublishedPort) error {
	s, ok := ctx.Value(sandboxKey{}).(*cnm.Sandbox)
	if !ok || s.ID != owner {
		return errors.New("network: reservation for an unknown sandbox")
	}
	return r.take(ctx, s, ports)
}

// sandboxKey carries the sandbox whose ports are being chosen.
type sandboxKey struct{}

// take reserves ports for a sandbox. Where the host has no IPv6, what was asked
// for on every address is reserved on IPv4 alone.
func (r *reserver) take(ctx context.Context, s *cnm.Sandbox, ports []cnm.PublishedPort) error {
	six := true
	for {
		reqs, index := portRequests(s, servingEndpoint((*Controller)(r), s), ports, six)
		err := r.cfg.Ports.Reserve(ctx, reqs)
		var pe *keeper.PortError
		if !errors.As(err, &pe) || pe.Index < 0 || pe.Index >= len(index) {
			return err
		}
		p := ports[index[pe.Index]]
		noSix := syscall.Errno(pe.Errno) == syscall.EAFNOSUPPORT || syscall.Errno(pe.Errno) == syscall.EADDRNOTAVAIL
		if six && noSix && !p.HostIP.IsValid() && reqs[pe.Index].Addr.Is6() {
			six = false
			continue
		}
		return &publish.TakenError{Index: index[pe.Index], Addr: reqs[pe.Index].Addr, Port: pe.Port, Err: syscall.Errno(pe.Errno)}
	}
}

// portRequests are the sockets that published ports need, and which port each
// is for. On IPv4 a socket only keeps the port from others: the kernel
// translates. On IPv6 it also listens, for what the kernel cannot translate:
// connections to [::1], and all of them when the container has no IPv6.
func portRequests(s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort, six bool) (reqs []keeper.PortRequest, index []int) {
	var to netip.Addr
	if e != nil {
		if to = e.Addr6().Addr(); !to.IsValid() {
			to = e.Addr4().Addr()
		}
	}
	for i, p := range ports {
		add := func(addr netip.Addr) {
			q := keeper.PortRequest{Owner: s.ID, Proto: p.Proto, Addr: addr, Port: p.HostPort, PortEnd: p.HostPortEnd}
			if addr.Is6() && to.IsValid() && p.Proto != "sctp" {
				q.ForwardTo = netip.AddrPortFrom(to, p.Port)
			}
			reqs, index = append(reqs, q), append(index, i)
		}
		if p.HostIP.IsValid() {
			add(p.HostIP)
			continue
		}
		add(netip.IPv4Unspecified())
		if six {
			add(netip.IPv6Unspecified())
		}
	}
	return reqs, index
}

// choose picks and reserves the host ports of a sandbox's requests.
func (c *Controller) choose(ctx context.Context, s *cnm.Sandbox, reqs []publish.Request) error {
	if len(reqs) == 0 || servingEndpoint(c, s) == nil {
		return nil
	}
	ports, err := c.chooser.Choose(context.WithValue(ctx, sandboxKey{}, s), s.ID, c.bound(reqs))
	if err != nil {
		// Docker answers 500 here and scripts look for its phrase.
		return cnm.Errorf(cnm.ErrExhausted, "driver failed programming external connectivity on endpoint %s (%s): %w", s.OwnerName, s.Endpoints[0].ID, err)
	}
	s.Ports = ports
	return nil
}

// bound applies the daemon's --ip to requests that name no address.
func (c *Controller) bound(reqs []publish.Request) []publish.Request {
	if !c.cfg.BindIP.IsValid() || c.cfg.BindIP.IsUnspecified() && c.cfg.BindIP.Is6() {
		return reqs
	}
	out := make([]publish.Request, len(reqs))
	for i, r := range reqs {
		if out[i] = r; !r.HostIP.IsValid() {
			out[i].HostIP = c.cfg.BindIP
		}
	}
	return out
}
