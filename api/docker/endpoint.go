package docker

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/container"

	apinetwork "github.com/moby/moby/api/types/network"
)

// networkSettingsJSON is what `docker inspect` shows until 1.52: the first
// bridge's endpoint is repeated in flat fields.
type networkSettingsJSON struct {
	Bridge                 string
	SandboxID              string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	Ports                  apinetwork.PortMap
	SandboxKey             string
	SecondaryIPAddresses   []apinetwork.EndpointIPAMConfig // never set; null, as Docker's
	SecondaryIPv6Addresses []apinetwork.EndpointIPAMConfig
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*endpointJSON
}

// endpointJSON is one endpoint, in Docker's order of fields.
type endpointJSON struct {
	IPAMConfig          *apinetwork.EndpointIPAMConfig
	Links               []string
	Aliases             []string
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          *int      `json:",omitempty"` // since 1.48
	DNSNames            *[]string `json:",omitempty"` // since 1.44
}

// renderNetworkSettings shows the sandbox that a container owns. A container
// that joined another's shows nothing of it, as in Docker.
func (s *server) renderNetworkSettings(v Version, ctr *container.Container) *networkSettingsJSON {
	ns := &networkSettingsJSON{Ports: apinetwork.PortMap{}, Networks: s.renderEndpoints(v, ctr)}
	sb := s.ownSandbox(ctr)
	if sb == nil {
		return ns
	}
	ns.SandboxID, ns.SandboxKey = sb.ID, sb.Path
	ns.Ports = portMap(ctr, sb)
	if ep := ns.Networks[apinetwork.NetworkBridge]; ep != nil {
		ns.EndpointID, ns.Gateway, ns.IPAddress, ns.IPPrefixLen = ep.EndpointID, ep.Gateway, ep.IPAddress, ep.IPPrefixLen
		ns.IPv6Gateway, ns.GlobalIPv6Address, ns.GlobalIPv6PrefixLen = ep.IPv6Gateway, ep.GlobalIPv6Address, ep.GlobalIPv6PrefixLen
		ns.MacAddress = ep.MacAddress
	}
	return ns
}

// ownSandbox is the sandbox of a running container that made it; nil otherwise.
// A sandbox lives on while others are in it, but what has stopped shows nothing.
func (s *server) ownSandbox(ctr *container.Container) *cnm.Sandbox {
	if ctr.HostConfig.NetworkMode.IsContainer() || !running(ctr.State.Phase) {
		return nil
	}
	sb, ok := s.Network.Sandbox(ctr.ID)
	if !ok {
		return nil
	}
	return sb
}

// renderEndpoints shows each network that the container is or will be on: the
// wish of the client, and, while it runs, what it was given.
func (s *server) renderEndpoints(v Version, ctr *container.Container) map[string]*endpointJSON {
	eps := map[string]*endpointJSON{}
	if ctr.HostConfig.NetworkMode.IsContainer() {
		return eps
	}
	for name, wish := range s.wishes(ctr) {
		eps[name] = wishJSON(v, wish)
		if ctr.State.StartedAt.IsZero() {
			continue // what a first start finds out is not there yet
		}
		if n, err := s.Network.Network(name); err == nil {
			eps[name].NetworkID = n.ID
			if n.HasNames() {
				eps[name].known(v, ctr, namesOf(ctr, wish))
			}
		}
	}
	sb := s.ownSandbox(ctr)
	if sb == nil {
		return eps
	}
	for i := range sb.Endpoints {
		ep := &sb.Endpoints[i]
		j := eps[ep.NetworkName]
		if j == nil {
			j = wishJSON(v, nil)
			eps[ep.NetworkName] = j
		}
		j.given(ep)
		if n, err := s.Network.Network(ep.NetworkID); err == nil {
			j.routers(n)
		}
		if len(ep.Names) > 0 {
			j.known(v, ctr, ep.Names)
		}
	}
	return eps
}

// namesOf are the names that a container has had on a network with names since
// its first start.
func namesOf(ctr *container.Container, wish *apinetwork.EndpointSettings) []string {
	names := []string{ctr.Name}
	if wish != nil {
		names = append(names, wish.Aliases...)
	}
	names = append(names, ctr.ID[:min(12, len(ctr.ID))])
	if ctr.Config.Hostname != "" {
		names = append(names, ctr.Config.Hostname)
	}
	return unique(names)
}

// unique keeps the first of each.
func unique(names []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		again := seen[n]
		seen[n] = true
		return again
	})
}

// known shows the names of an endpoint. Clients before 1.45 find the short id and
// the hostname among the aliases, as they did when there was no field of its own.
func (j *endpointJSON) known(v Version, ctr *container.Container, names []string) {
	if j.DNSNames != nil {
		names := slices.Clone(names)
		j.DNSNames = &names
	}
	if v.Before(45) {
		j.Aliases = append(slices.Clone(j.Aliases), ctr.ID[:min(12, len(ctr.ID))])
		if ctr.Config.Hostname != "" {
			j.Aliases = append(j.Aliases, ctr.Config.Hostname)
		}
		j.Aliases = unique(j.Aliases)
	}
}

// wishes are the endpoints as asked for, by the network's real name: the
// network mode's own, unless the client named it, and those beside it.
func (s *server) wishes(ctr *container.Container) map[string]*apinetwork.EndpointSettings {
	w := map[string]*apinetwork.EndpointSettings{}
	for name, ep := range ctr.Networks {
		w[s.networkName(name)] = ep
	}
	// A container that was disconnected from its mode's network is not on it any more;
	// nil is a definition that says nothing.
	mode := s.networkName(string(ctr.HostConfig.NetworkMode))
	if ctr.Networks == nil && !ctr.Config.NetworkDisabled {
		w[mode] = nil
	}
	return w
}

// networkName resolves "default", the empty mode and ids to a name.
func (s *server) networkName(ref string) string {
	if ref == "" || ref == apinetwork.NetworkDefault {
		return apinetwork.NetworkBridge
	}
	if n, err := s.Network.Network(ref); err == nil {
		return n.Name
	}
	return ref
}

func wishJSON(v Version, wish *apinetwork.EndpointSettings) *endpointJSON {
	j := &endpointJSON{}
	priority, names := 0, []string(nil)
	if wish != nil {
		j.IPAMConfig, j.Links, j.Aliases, j.DriverOpts = wish.IPAMConfig, wish.Links, wish.Aliases, wish.DriverOpts
		priority = wish.GwPriority
	}
	if !v.Before(48) {
		j.GwPriority = &priority
	}
	if !v.Before(44) {
		j.DNSNames = &names
	}
	return j
}

// given fills what the endpoint has been given.
func (j *endpointJSON) given(ep *cnm.Endpoint) {
	j.NetworkID, j.EndpointID, j.MacAddress = ep.NetworkID, ep.ID, ep.MAC
	j.IPAddress, j.IPPrefixLen = prefixJSON(ep.Addr4())
	j.GlobalIPv6Address, j.GlobalIPv6PrefixLen = prefixJSON(ep.Addr6())
	j.Gateway, j.IPv6Gateway = addrJSON(ep.Gateway(true)), addrJSON(ep.Gateway(false))
}

// routers shows the network's own gateways where the endpoint does not carry the
// default route: Docker tells them of every network that has one, internal ones
// included.
func (j *endpointJSON) routers(n *cnm.Network) {
	for _, f := range []struct {
		at   *string
		addr string
		pool *cnm.Pool
		mode string
	}{
		{&j.Gateway, j.IPAddress, n.Pool4(), n.Options["com.docker.network.bridge.gateway_mode_ipv4"]},
		{&j.IPv6Gateway, j.GlobalIPv6Address, n.Pool6(), n.Options["com.docker.network.bridge.gateway_mode_ipv6"]},
	} {
		if *f.at == "" && f.addr != "" && f.pool != nil && f.mode != "isolated" {
			*f.at = addrJSON(n.RouterOf(*f.pool))
		}
	}
}

// addrJSON writes an address, the zero one as the empty string.
func addrJSON(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func prefixJSON(p netip.Prefix) (addr string, bits int) {
	if !p.IsValid() {
		return "", 0
	}
	return p.Addr().String(), p.Bits()
}

// portMap shows published ports one by one and, with null, those that are only
// exposed. Only networks that publish (bridges) show any.
func portMap(ctr *container.Container, sb *cnm.Sandbox) apinetwork.PortMap {
	m := apinetwork.PortMap{}
	if !publishes(sb) {
		return m
	}
	for port := range ctr.Config.ExposedPorts {
		m[port] = nil
	}
	for _, p := range sb.Ports {
		for i := range p.Count() {
			port, ok := apinetwork.PortFrom(p.Port+uint16(i), apinetwork.IPProtocol(p.Proto))
			if !ok {
				continue
			}
			for _, ip := range hostIPs(p) {
				m[port] = append(m[port], apinetwork.PortBinding{HostIP: ip, HostPort: strconv.Itoa(int(p.HostPort) + i)})
			}
		}
	}
	return m
}

// publishes says whether the sandbox is on a network with addresses of ours:
// host and none have none, and there Docker shows no ports at all.
func publishes(sb *cnm.Sandbox) bool {
	return !sb.Host && slices.ContainsFunc(sb.Endpoints, func(e cnm.Endpoint) bool { return len(e.Addrs) > 0 })
}

// hostIPs are the addresses that a port is published on: "every address" is
// shown as one entry per family, as Docker has done since 20.10.
func hostIPs(p cnm.PublishedPort) []netip.Addr {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// portSummary is one entry of the list that `docker ps` prints.
type portSummary struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

// portList is portMap as `docker ps` wants it, in the order of ports.
func portList(ctr *container.Container, sb *cnm.Sandbox) []portSummary {
	list := []portSummary{}
	m := portMap(ctr, sb)
	for _, port := range sortedPorts(m) {
		if len(m[port]) == 0 {
			list = append(list, portSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range m[port] {
			public, _ := strconv.ParseUint(b.HostPort, 10, 16)
			list = append(list, portSummary{
				IP: addrJSON(b.HostIP), PrivatePort: port.Num(), PublicPort: uint16(public), Type: string(port.Proto()),
			})
		}
	}
	return list
}

func sortedPorts(m apinetwork.PortMap) []apinetwork.Port {
	ports := make([]apinetwork.Port, 0, len(m))
	for p := range m {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b apinetwork.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return strings.Compare(string(a.Proto()), string(b.Proto()))
	})
	return ports
}
