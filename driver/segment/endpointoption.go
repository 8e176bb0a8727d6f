package segment

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/driver"
)

// optSysctls of an endpoint: parameters of its interface, parted by commas, with
// IFNAME for its name ("net.ipv4.conf.IFNAME.log_martians=1").
const optSysctls = "com.docker.network.endpoint.sysctls"

// EndpointOptions are those that endpoints of every such network have.
type EndpointOptions struct {
	// Sysctls are values by path below /proc/sys, of the endpoint's interface.
	Sysctls map[string]string
}

// DecodeEndpoint reads an endpoint's options: those that all have, and what more a
// driver knows (nil: nothing).
func DecodeEndpoint(n *cnm.Network, e *cnm.Endpoint, more map[string]func(string) error) (EndpointOptions, error) {
	if len(e.DriverOpts) == 0 {
		return EndpointOptions{}, nil // nearly always, and at every start
	}
	eo := EndpointOptions{Sysctls: map[string]string{}}
	known := map[string]func(string) error{
		driver.OptIfName: func(v string) error {
			if v == "lo" {
				return fmt.Errorf("lo is the loopback: choose another name")
			}
			return driver.CheckLinkName(v)
		},
		optSysctls: func(v string) error { return eo.parameters(v, e.IfName) },
	}
	maps.Copy(known, more)
	return eo, driver.DecodeEndpoint(n, e, known)
}

// parameters reads "KEY=VALUE,KEY=VALUE". The docker command writes the options of
// --network name=…,driver-opt=… in small letters, IFNAME too.
func (eo *EndpointOptions) parameters(list, ifname string) error {
	for item := range strings.SplitSeq(list, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		part := strings.Split(key, ".")
		if !ok || len(part) != 5 || part[0] != "net" || !strings.EqualFold(part[3], "IFNAME") ||
			slices.Contains(part, "") || slices.Contains(part, "..") || strings.ContainsAny(key, "/ ") || value == "" {
			return fmt.Errorf("%q is no parameter of an interface: write net.ipv4.conf.IFNAME.log_martians=1, with the word IFNAME, several parted by commas", item)
		}
		part[3] = ifname
		eo.Sysctls[strings.Join(part, "/")] = value
	}
	return nil
}

// names of the parameters, in order.
func (eo *EndpointOptions) names() []string { return slices.Sorted(maps.Keys(eo.Sysctls)) }
