package bridge

import (
	"linkspan/cnm"
	"linkspan/driver/segment"
)

// endpointOptions are an endpoint's, decoded once.
type endpointOptions struct {
	shared
	segment.EndpointOptions
}

func decodeEndpoint(n *cnm.Network, o options, e *cnm.Endpoint) (eo endpointOptions, err error) {
	eo.shared = shared{times: -1}
	if len(e.DriverOpts) == 0 {
		return eo, nil // nearly always, and at every start
	}
	more := map[string]func(string) error{}
	eo.shared.known(more)
	if eo.EndpointOptions, err = segment.DecodeEndpoint(n, e, more); err != nil {
		return eo, err
	}
	for _, v4 := range []bool{true, false} {
		key, family, pool := optHost6, "IPv6", n.Pool6()
		if v4 {
			key, family, pool = optHost4, "IPv4", n.Pool4()
		}
		switch {
		case !eo.host(v4).IsValid():
		case pool == nil:
			return eo, cnm.Invalid("an endpoint on network %s: option %s: the network has no %s", n.Name, key, family)
		case n.Internal:
			return eo, cnm.Invalid("an endpoint on network %s: option %s: the network is internal, nothing leaves it", n.Name, key)
		}
	}
	return eo, nil
}
