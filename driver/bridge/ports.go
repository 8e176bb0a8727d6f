package bridge

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// rangeMin is how many ports a range must have to be one element of an interval map,
// which takes 17 µs whatever its length, and 0.14 ms beside 5,000 others; hash elements
// take 3 µs each (BenchmarkRanges in dataplane/linux).
const rangeMin = 16

// ports plans the elements of the published ports: what translates, what opens them
// to who routes to the container, or both, for each family that the endpoint has.
func (p *plan) ports(env driver.Env, s *cnm.Sandbox, e *cnm.Endpoint, o options, ports []cnm.PublishedPort) {
	open := map[string]bool{} // two host ports may lead to one
	for _, pub := range ports {
		for _, to := range leadsTo(pub, e) {
			m := o.mode(to.Is4())
			if m.translates() && !(to.Is6() && pub.HostIP.IsLoopback()) {
				p.translate(s, pub, to)
			}
			// What is published on the host's loopback is for the host alone.
			if direct := m == modeRouted || m.translates() && (env.DirectRouting || len(o.trusted) > 0); !direct || pub.HostIP.IsLoopback() {
				continue
			}
			last := pub.Port + uint16(pub.Count()-1)
			why := p.because("published %s of %s, open to who routes to its address", numbers(pub.Port, last, pub.Proto), s.OwnerName)
			for _, el := range dataplane.OpenElements(why, p.table, pub.Proto, netip.AddrPortFrom(to, pub.Port), last) {
				if !open[el.Key()] {
					open[el.Key()] = true
					p.add(el)
				}
			}
		}
	}
}

// translate plans one published port, or range: the same numbers on both sides and
// on any address are one element whatever their count. A shifted range is one for
// each port, since an interval's data cannot say a port that moves along; so is one
// on a certain address, since the kernel's intervals of several fields are rebuilt
// whole at each change (57 ms with 10,000 elements).
func (p *plan) translate(s *cnm.Sandbox, pub cnm.PublishedPort, to netip.Addr) {
	any := !pub.HostIP.IsValid() || pub.HostIP.IsUnspecified()
	if any && pub.HostPort == pub.Port && pub.Count() >= rangeMin {
		p.add(dataplane.PublishRangeElement(p.because("host %s lead to the same ports of %s", numbers(pub.HostPort, pub.HostPortEnd, pub.Proto), s.OwnerName),
			p.table, pub.Proto, pub.HostPort, pub.HostPortEnd, to))
		return
	}
	for i := range pub.Count() {
		host, port := pub.HostPort+uint16(i), pub.Port+uint16(i)
		p.add(dataplane.PublishElement(p.because("host port %d/%s leads to port %d of %s", host, pub.Proto, port, s.OwnerName),
			p.table, pub.Proto, pub.HostIP, host, netip.AddrPortFrom(to, port)))
	}
}

func numbers(first, last uint16, proto string) string {
	if first == last {
		return fmt.Sprintf("port %d/%s", first, proto)
	}
	return fmt.Sprintf("ports %d-%d/%s", first, last, proto)
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
