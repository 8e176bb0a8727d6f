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
	to := c.targets(s)
	for {
		six := !c.noSix.Load()
		reqs, index := portRequests(s.ID, to, ports, six)
		if len(reqs) == 0 {
			return nil
		}
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
// IPv4 when the container has nothing else than IPv6. Where the way to the container
// is routed no port of the host leads to it, and none is taken from others.
func portRequests(owner string, to targets, ports []cnm.PublishedPort, six bool) (reqs []keeper.PortRequest, index []int) {
	for i, p := range ports {
		add := func(addr netip.Addr) {
			q := keeper.PortRequest{Owner: owner, Proto: p.Proto, Addr: addr, Port: p.HostPort, PortEnd: p.HostPortEnd}
			at, silent := to.six, false
			switch {
			case addr.Is4() && to.four.addr.IsValid():
				at, silent = to.four, true
			case addr.Is6() && !to.six.addr.IsValid():
				at = to.four
			}
			if at.routed {
				return
			}
			if at.addr.IsValid() && !silent && p.Proto != "sctp" {
				q.ForwardTo = netip.AddrPortFrom(at.addr, p.Port)
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
// sockets are never let go. One that leads nowhere any more falls silent, and one
// that is needed only now is reserved if it can be had.
func (c *Controller) retarget(ctx context.Context, was, now *cnm.Sandbox) error {
	from, to := c.targets(was), c.targets(now)
	if len(was.Ports) == 0 || len(now.Ports) == 0 || from == to {
		return nil
	}
	six := !c.noSix.Load()
	old, _ := portRequests(was.ID, from, was.Ports, six)
	reqs, _ := portRequests(now.ID, to, now.Ports, six)
	led := map[keeper.PortRequest]netip.AddrPort{} // what was asked for, without its target: where it led
	for _, q := range old {
		led[bare(q)] = q.ForwardTo
	}
	var changed, silent []keeper.PortRequest
	all := true // all that is asked for now had been asked for
	for _, q := range reqs {
		before, had := led[bare(q)]
		if all = all && had; had && q.ForwardTo != before {
			changed = append(changed, q)
		}
		delete(led, bare(q))
	}
	for q, before := range led {
		if before.IsValid() {
			silent = append(silent, q)
		}
	}
	if len(silent) > 0 {
		if err := c.cfg.Ports.Retarget(ctx, silent); err != nil && !errors.Is(err, cnm.ErrNotFound) {
			return err
		}
	}
	if all && !c.lost.Tries(now.ID) {
		if len(changed) == 0 {
			return nil
		}
		if err := c.cfg.Ports.Retarget(ctx, changed); !errors.Is(err, cnm.ErrNotFound) {
			return err
		}
	}
	// Something of it was not held; what is held is led elsewhere by this as well.
	return c.lost.Hold(ctx, now.ID, now.OwnerName, reqs)
}

func bare(q keeper.PortRequest) keeper.PortRequest {
	q.ForwardTo = netip.AddrPort{}
	return q
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
