package bridge

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

// endpointOptions are an endpoint's, decoded once.
type endpointOptions struct {
	shared
	// sysctls are values by path below /proc/sys, of the endpoint's interface.
	sysctls map[string]string
}

// CheckEndpoint implements driver.EndpointChecker.
func (Driver) CheckEndpoint(n *cnm.Network, e *cnm.Endpoint) error {
	o, err := decode(n)
	if err != nil {
		return err
	}
	_, err = decodeEndpoint(n, o, e)
	return err
}

func decodeEndpoint(n *cnm.Network, o options, e *cnm.Endpoint) (endpointOptions, error) {
	eo := endpointOptions{shared: shared{times: -1}, sysctls: map[string]string{}}
	if len(e.DriverOpts) == 0 {
		return eo, nil // nearly always, and at every start
	}
	known := map[string]func(string) error{
		driver.OptIfName: func(v string) error {
			if v == "lo" {
				return fmt.Errorf("lo is the loopback: choose another name")
			}
			return driver.CheckLinkName(v)
		},
		optSysctls: func(v string) error { return eo.parameters(v, e.IfName) },
	}
	eo.shared.known(known)
	if err := driver.DecodeEndpoint(n, e, known); err != nil {
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

// parameters reads "KEY=VALUE,KEY=VALUE". The docker command writes the options of
// --network name=…,driver-opt=… in small letters, IFNAME too.
func (eo *endpointOptions) parameters(list, ifname string) error {
	for item := range strings.SplitSeq(list, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		part := strings.Split(key, ".")
		if !ok || len(part) != 5 || part[0] != "net" || !strings.EqualFold(part[3], "IFNAME") ||
			slices.Contains(part, "") || slices.Contains(part, "..") || strings.ContainsAny(key, "/ ") || value == "" {
			return fmt.Errorf("%q is no parameter of an interface: write net.ipv4.conf.IFNAME.log_martians=1, with the word IFNAME, several parted by commas", item)
		}
		part[3] = ifname
		eo.sysctls[strings.Join(part, "/")] = value
	}
	return nil
}

// names of the parameters, in order.
func (eo *endpointOptions) names() []string { return slices.Sorted(maps.Keys(eo.sysctls)) }
