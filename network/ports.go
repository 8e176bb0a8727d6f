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
	c := (*Controller)(r)
	to4, to6 := c.targets(s)
	for {
		six := !c.noSix.Load()
		reqs, index := portRequests(s.ID, to4, to6, ports, six)
		err := r.cfg.Ports.Reserve(ctx, reqs)
		var pe *keeper.PortError
		if !errors.As(err, &pe) || pe.Index < 0 || pe.Index >= len(index) {
			return err
		}
		p := ports[index[pe.Index]]
		noSix := syscall.Errno(pe.Errno) == syscall.EAFNOSUPPORT || syscall.Errno(pe.Errno) == syscall.EADDRNOTAVAIL
		if six && noSix && !p.HostIP.IsValid() && reqs[pe.Index].Addr.Is6() {
			c.noSix.Store(true)
			continue
		}
		return &publish.TakenError{Index: index[pe.Index], Addr: reqs[pe.Index].Addr, Port: pe.Port, Err: syscall.Errno(pe.Errno)}
	}
}

// portRequests are the sockets that published ports need, and which port each
// is for. On IPv4 a socket only keeps the port from others: the kernel
// translates. On IPv6 it also listens, for what the kernel cannot translate:
// connections to [::1], and all of them when the container has no IPv6; and on
// IPv4 when the container has nothing else than IPv6.
func portRequests(owner string, to4, to6 netip.Addr, ports []cnm.PublishedPort, six bool) (reqs []keeper.PortRequest, index []int) {
	for i, p := range ports {
		add := func(addr netip.Addr) {
			q := keeper.PortRequest{Owner: owner, Proto: p.Proto, Addr: addr, Port: p.HostPort, PortEnd: p.HostPortEnd}
			to := to6
			switch {
			case addr.Is4() && to4.IsValid():
				to = netip.Addr{}
			case addr.Is6() && !to6.IsValid():
				to = to4
			}
			if to.IsValid() && p.Proto != "sctp" {
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

// retarget has the keeper forward a sandbox's ports to where they lead now; the
// sockets are never let go.
func (c *Controller) retarget(ctx context.Context, was, now *cnm.Sandbox) error {
	was4, was6 := c.targets(was)
	to4, to6 := c.targets(now)
	if len(was.Ports) == 0 || len(now.Ports) == 0 || was4 == to4 && was6 == to6 {
		return nil
	}
	six := !c.noSix.Load()
	old, _ := portRequests(was.ID, was4, was6, was.Ports, six)
	reqs, _ := portRequests(now.ID, to4, to6, now.Ports, six)
	var changed []keeper.PortRequest
	for i := range min(len(reqs), len(old)) {
		if reqs[i].ForwardTo != old[i].ForwardTo {
			changed = append(changed, reqs[i])
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return c.cfg.Ports.Retarget(ctx, changed)
}

// choose picks and reserves the host ports of a sandbox's requests.
func (c *Controller) choose(ctx context.Context, s *cnm.Sandbox, reqs []publish.Request) error {
	if len(reqs) == 0 || !c.publishes(s) {
		return nil
	}
	ports, err := c.chooser.Choose(context.WithValue(ctx, sandboxKey{}, s), s.ID, c.bound(s, reqs))
	if err != nil {
		// Docker answers 500 here and scripts look for its phrase.
		return cnm.Errorf(cnm.ErrExhausted, "driver failed programming external connectivity on endpoint %s (%s): %w", s.OwnerName, s.Endpoints[0].ID, err)
	}
	s.Ports = ports
	return nil
}

// optHostBinding of a network is where its ports are published that name no
// address of the host.
const optHostBinding = "com.docker.network.bridge.host_binding_ipv4"

// bound applies the network's binding, or the daemon's --ip, to requests that name
// no address.
func (c *Controller) bound(s *cnm.Sandbox, reqs []publish.Request) []publish.Request {
	ip := c.cfg.BindIP
	if four, _ := c.serving(s); four >= 0 {
		if n, err := c.Network(s.Endpoints[four].NetworkID); err == nil && !n.Predefined {
			// "0.0.0.0" is Docker's word for every address of both families.
			if a, err := netip.ParseAddr(n.Options[optHostBinding]); err == nil {
				if ip = a; a == netip.IPv4Unspecified() {
					ip = netip.Addr{}
				}
			}
		}
	}
	if !ip.IsValid() || ip.IsUnspecified() && ip.Is6() {
		return reqs
	}
	out := make([]publish.Request, len(reqs))
	for i, r := range reqs {
		if out[i] = r; !r.HostIP.IsValid() {
			out[i].HostIP = ip
		}
	}
	return out
}
