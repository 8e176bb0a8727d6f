package daemon

import (
	"linkspan/dns"
	"linkspan/netns"
)

// resolverSockets opens what a sandbox's resolver serves, in the namespace at path.
func resolverSockets(path string) (*dns.Sockets, error) {
	udp, tcp, ns, err := netns.ResolverSockets(path, dns.Addr, dns.Port)
	if err != nil {
		return nil, err
	}
	return &dns.Sockets{UDP: udp, TCP: tcp, Namespace: ns}, nil
}
