package segment

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

// Publishing says how published ports of one address family reach containers.
type Publishing struct {
	// Translated: the host's ports lead to them.
	Translated bool
	// Open: they are open to who routes to the container's own address.
	Open bool
}

// Translated is how ports are published on networks that translate both families.
func Translated(env driver.Env) func(v4 bool) Publishing {
	return func(bool) Publishing { return Publishing{Translated: true, Open: env.DirectRouting} }
}

// Ports plans the elements of the published ports: what translates, what opens them
// to who routes to the container, or both, for each family that the endpoint has. They
// belong to the sandbox's ports.
func (p *Plan) Ports(s *cnm.Sandbox, e *cnm.Endpoint, ports []cnm.PublishedPort, how func(v4 bool) Publishing) {
	p.Owner = dataplane.Owner{Kind: dataplane.OwnerPort, ID: s.ID, Name: s.OwnerName}
	open := map[string]bool{} // two host ports may lead to one
	for _, pub := range ports {
		for _, to := range leadsTo(pub, e) {
			h := how(to.Is4())
			if h.Translated && !(to.Is6() && pub.HostIP.IsLoopback()) {
				p.translate(s, pub, to)
			}
			// What is published on the host's loopback is for the host alone.
			if !h.Open || pub.HostIP.IsLoopback() {
				continue
			}
			last := pub.Port + uint16(pub.Count()-1)
			why := p.Because("published %s of %s, open to who routes to its address", numbers(pub.Port, last, pub.Proto), s.OwnerName)
			for _, el := range dataplane.OpenElements(why, p.Table, pub.Proto, netip.AddrPortFrom(to, pub.Port), last) {
				if !open[el.Key()] {
					open[el.Key()] = true
					p.Add(el)
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
func (p *Plan) translate(s *cnm.Sandbox, pub cnm.PublishedPort, to netip.Addr) {
	any := !pub.HostIP.IsValid() || pub.HostIP.IsUnspecified()
	if any && pub.HostPort == pub.Port && pub.Count() >= rangeMin {
		p.Add(dataplane.PublishRangeElement(p.Because("host %s lead to the same ports of %s", numbers(pub.HostPort, pub.HostPortEnd, pub.Proto), s.OwnerName),
			p.Table, pub.Proto, pub.HostPort, pub.HostPortEnd, to))
		return
	}
	for i := range pub.Count() {
		host, port := pub.HostPort+uint16(i), pub.Port+uint16(i)
		p.Add(dataplane.PublishElement(p.Because("host port %d/%s leads to port %d of %s", host, pub.Proto, port, s.OwnerName),
			p.Table, pub.Proto, pub.HostIP, host, netip.AddrPortFrom(to, port)))
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
