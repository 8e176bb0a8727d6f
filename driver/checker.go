package driver

import "linkspan/cnm"

// EndpointChecker is implemented by drivers whose endpoints have options of their
// own (--network name=…,driver-opt=…). The endpoints of other drivers take none.
type EndpointChecker interface {
	// CheckEndpoint decodes and validates e.DriverOpts for the network. Unknown
	// options are cnm.ErrInvalid and name the nearest valid key.
	CheckEndpoint(n *cnm.Network, e *cnm.Endpoint) error
}

// CheckEndpoint holds an endpoint's options to what its driver says.
func CheckEndpoint(d Driver, n *cnm.Network, e *cnm.Endpoint) error {
	if c, ok := d.(EndpointChecker); ok {
		return c.CheckEndpoint(n, e)
	}
	return DecodeEndpoint(n, e, nil)
}

// DecodeEndpoint is Decode for an endpoint's options.
func DecodeEndpoint(n *cnm.Network, e *cnm.Endpoint, known map[string]func(string) error) error {
	return decode(e.DriverOpts, known, "an endpoint on network "+n.Name, "endpoints on "+n.Driver+" networks take no driver option")
}
