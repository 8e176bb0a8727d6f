package network

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/driver"
)

// serving are the endpoints that a sandbox's published ports lead to, one for
// each address family: the one that carries the family's default route if its
// driver publishes, so that answers leave by the way that questions came, else the
// first that publishes. -1: none.
func (c *Controller) serving(s *cnm.Sandbox) (four, six int) {
	four, six = -1, -1
	for _, v4 := range []bool{true, false} {
		best := -1
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			n, err := c.Network(e.NetworkID)
			if err != nil || n.Internal || !has(e, v4) {
				continue
			}
			if d, err := c.cfg.Drivers.Get(n.Driver); err != nil || !d.Traits().Publishes {
				continue
			}
			if best < 0 || e.Gateway(v4).IsValid() {
				best = i
			}
		}
		if v4 {
			four = best
		} else {
			six = best
		}
	}
	return four, six
}

// publishes says whether any endpoint serves ports.
func (c *Controller) publishes(s *cnm.Sandbox) bool {
	four, six := c.serving(s)
	return four >= 0 || six >= 0
}

// portsOf are the ports that an endpoint serves, narrowed to its families where
// another endpoint serves the other one.
func portsOf(s *cnm.Sandbox, i, four, six int) []cnm.PublishedPort {
	switch {
	case i != four && i != six || len(s.Ports) == 0:
		return nil
	case four == six, i == four && six < 0, i == six && four < 0:
		return s.Ports
	}
	any := netip.IPv4Unspecified()
	if i == six {
		any = netip.IPv6Unspecified()
	}
	var out []cnm.PublishedPort
	for _, p := range s.Ports {
		if !p.HostIP.IsValid() {
			p.HostIP = any
		}
		if p.HostIP.Is4() == any.Is4() {
			out = append(out, p)
		}
	}
	return out
}

// target is where ports of one family lead in a sandbox.
type target struct {
	addr   netip.Addr // zero: nowhere
	routed bool       // the host's own ports do not lead there
}

// targets are those of a sandbox.
type targets struct{ four, six target }

func (c *Controller) targets(s *cnm.Sandbox) (t targets) {
	four, six := c.serving(s)
	if four >= 0 {
		t.four = target{s.Endpoints[four].Addr4().Addr(), c.routed(&s.Endpoints[four], true)}
	}
	if six >= 0 {
		t.six = target{s.Endpoints[six].Addr6().Addr(), c.routed(&s.Endpoints[six], false)}
	}
	return t
}

func (c *Controller) routed(e *cnm.Endpoint, v4 bool) bool {
	n, err := c.Network(e.NetworkID)
	if err != nil {
		return false
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	return err == nil && !driver.Translates(d, n, v4)
}
