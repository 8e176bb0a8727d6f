package bridge

import (
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// ports plans the elements of the published ports: per port and family that the
// endpoint has, one that translates, or one that opens the port to who routes to
// the container, or both.
func (p *plan) ports(env driver.Env, s *cnm.Sandbox, e *cnm.Endpoint, o options, ports []cnm.PublishedPort) {
	open := map[string]bool{} // two host ports may lead to one
	for _, pub := range ports {
		for _, to := range leadsTo(pub, e) {
			m := o.mode(to.Is4())
			direct := m == modeRouted || m.translates() && (env.DirectRouting || len(o.trusted) > 0)
			for i := range pub.Count() {
				host, port := pub.HostPort+uint16(i), pub.Port+uint16(i)
				if m.translates() && !(to.Is6() && pub.HostIP.IsLoopback()) {
					p.add(dataplane.PublishElement(p.because("host port %d/%s leads to port %d of %s", host, pub.Proto, port, s.OwnerName),
						p.table, pub.Proto, pub.HostIP, host, netip.AddrPortFrom(to, port)))
				}
				// What is published on the host's loopback is for the host alone.
				if direct && !pub.HostIP.IsLoopback() {
					el := dataplane.OpenElement(p.because("port %d/%s of %s is published, and open to who routes to its address", port, pub.Proto, s.OwnerName),
						p.table, pub.Proto, netip.AddrPortFrom(to, port))
					if !open[el.Key()] {
						open[el.Key()] = true
						p.add(el)
					}
				}
			}
		}
	}
}

// leadsTo are the container addresses that a port is for. [::1] cannot be
// translated, nor IPv6 to an IPv4-only container: the keeper forwards those.
func leadsTo(pub cnm.PublishedPort, e *cnm.Endpoint) []netip.Addr {
	four, six := e.Addr4().Addr(), e.Addr6().Addr()
	var to []netip.Addr
	if four.IsValid() && (!pub.HostIP.IsValid() || pub.HostIP.Is4()) {
		to = append(to, four)
	}
	if six.IsValid() && (!pub.HostIP.IsValid() || pub.HostIP.Is6()) {
		to = append(to, six)
	}
	return to
}
