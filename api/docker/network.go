package docker

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/network"

	apinetwork "github.com/moby/moby/api/types/network"
)

func (s *server) networkRoutes() []route {
	return []route{
		get("/networks", s.networkList),
		get("/networks/", s.networkList),
		post("/networks/create", s.networkCreate),
		post("/networks/prune", s.networkPrune),
		get("/networks/{id}", s.networkInspect),
		del("/networks/{id}", s.networkRemove),
		post("/networks/{id}/connect", s.networkConnect),
		post("/networks/{id}/disconnect", s.networkDisconnect),
	}
}

// networkJSON is one network, in Docker's order of fields.
type networkJSON struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv4 *bool `json:",omitempty"` // since 1.48
	EnableIPv6 bool
	IPAM       ipamJSON
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom apinetwork.ConfigReference
	ConfigOnly bool
	Containers map[string]containerOnNetwork
	Options    map[string]string
	Labels     map[string]string
	Peers      []peerJSON   `json:",omitempty"`
	Services   servicesJSON `json:",omitempty"`
}

// peerJSON is a host that has containers on a network.
type peerJSON struct{ Name, IP string }

type ipamJSON struct {
	Driver  string
	Options map[string]string
	Config  []apinetwork.IPAMConfig
}

type containerOnNetwork struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

func (s *server) networkList(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	if err := f.Only("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return err
	}
	for _, t := range f.Values("type") {
		if t != "custom" && t != "builtin" {
			return badFilter("type", t)
		}
	}
	for _, t := range f.Values("scope") {
		if t != "local" && t != "global" && t != "swarm" {
			return badFilter("scope", t)
		}
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	if f.Has("dangling") {
		used = s.usedNetworks()
	}
	list := []*networkJSON{}
	for _, n := range s.Network.Networks() {
		if f.Has("dangling") && dangling == (used[n.ID] || n.Predefined) || !f.network(n) {
			continue
		}
		list = append(list, renderNetwork(c.Version, n))
	}
	return c.JSON(http.StatusOK, list)
}

// network says whether a network is wanted, dangling aside.
func (f filters) network(n *cnm.Network) bool {
	kind := "custom"
	if n.Predefined {
		kind = "builtin"
	}
	return f.Exact("driver", driverName(n)) && f.Match("name", n.Name) && f.Match("id", n.ID) &&
		f.Exact("scope", scopeOf(n)) && f.Exact("type", kind) && f.Labels("label", n.Labels)
}

func (s *server) networkInspect(c *call) error {
	n, err := s.Network.Network(c.Vars["id"])
	if err != nil {
		return err
	}
	switch scope := c.Query("scope"); {
	case scope == "", scope == scopeOf(n):
	case scope == "swarm" && n.Global(): // as clients of a dockerd in a swarm ask
	default:
		return cnm.NotFound("network %s not found", c.Vars["id"])
	}
	j := renderNetwork(c.Version, n)
	if on, ok := s.Network.(network.Spanning); ok && n.Global() {
		for _, p := range on.HostsOn(n.ID) {
			j.Peers = append(j.Peers, peerJSON{p.Name, p.Addr.String()})
		}
		if c.Bool("verbose") {
			j.Services = s.services(n, on)
		}
	}
	for _, sb := range s.Network.On(n.ID) {
		for i := range sb.Endpoints {
			if ep := &sb.Endpoints[i]; ep.NetworkID == n.ID {
				j.Containers[sb.Owner] = s.renderMember(sb, ep)
			}
		}
	}
	return c.JSON(http.StatusOK, j)
}

func (s *server) renderMember(sb *cnm.Sandbox, ep *cnm.Endpoint) containerOnNetwork {
	m := containerOnNetwork{Name: sb.OwnerName, EndpointID: ep.ID, MacAddress: ep.MAC}
	// The owner may have been renamed since its sandbox was made.
	if ctr, err := s.Containers.Get(sb.Owner); err == nil {
		m.Name = ctr.Name
	}
	if a := ep.Addr4(); a.IsValid() {
		m.IPv4Address = a.String()
	}
	if a := ep.Addr6(); a.IsValid() {
		m.IPv6Address = a.String()
	}
	return m
}

// scopeOf is what Docker calls the reach of a network: of this host, or of all.
func scopeOf(n *cnm.Network) string {
	if n.Global() {
		return cnm.ScopeGlobal
	}
	return cnm.ScopeLocal
}

func renderNetwork(v Version, n *cnm.Network) *networkJSON {
	j := &networkJSON{
		Name: n.Name, ID: n.ID, Created: n.Created.Format("2006-01-02T15:04:05.999999999Z07:00"),
		Scope: scopeOf(n), Driver: driverName(n), EnableIPv6: n.IPv6,
		Internal: n.Internal, Attachable: n.Attachable, ConfigOnly: n.ConfigOnly,
		IPAM:       ipamJSON{Driver: n.IPAMDriver, Options: n.IPAMOptions, Config: []apinetwork.IPAMConfig{}},
		Containers: map[string]containerOnNetwork{},
		Options:    maps.Clone(orEmptyMap(n.Options)), Labels: orEmptyMap(n.Labels),
	}
	j.ConfigFrom.Network = n.ConfigFrom
	if j.IPAM.Driver == "" {
		j.IPAM.Driver = "default"
	}
	if j.IPAM.Options == nil && !n.Predefined {
		j.IPAM.Options = map[string]string{} // the CLI sends an empty one with every network
	}
	for _, p := range n.Pools {
		j.EnableIPv6 = j.EnableIPv6 || p.Subnet.Addr().Is6()
		j.IPAM.Config = append(j.IPAM.Config, apinetwork.IPAMConfig{
			Subnet: p.Subnet, Gateway: p.Gateway, IPRange: p.Range, AuxAddress: maps.Clone(p.Aux),
		})
	}
	if !v.Before(48) {
		ipv4 := !n.NoIPv4
		j.EnableIPv4 = &ipv4
	}
	if len(n.VNIs) > 0 { // chosen ones too
		j.Options[optVNIs] = numbers(n.VNIs)
	}
	if n.Predefined && n.Driver == apinetwork.NetworkBridge {
		for k, val := range defaultBridgeOptions {
			if _, ok := j.Options[k]; !ok {
				j.Options[k] = val
			}
		}
	}
	return j
}

// optVNIs is where dockerd shows the numbers of a network on the wire.
const optVNIs = "com.docker.network.driver.overlay.vxlanid_list"

// numbers are parted by commas; subnets that share one say it once.
func numbers(vnis []uint32) string {
	var out []string
	for _, v := range slices.Compact(slices.Clone(vnis)) {
		out = append(out, strconv.FormatUint(uint64(v), 10))
	}
	return strings.Join(out, ",")
}

// driverName is the driver as Docker calls it: "null" is behind the network
// "none", and behind those that only hold a configuration.
func driverName(n *cnm.Network) string {
	if n.ConfigOnly || n.Driver == apinetwork.NetworkNone {
		return "null"
	}
	return n.Driver
}

// defaultBridgeOptions are what dockerd shows of the default bridge, for those
// that the network does not say itself.
var defaultBridgeOptions = map[string]string{
	"com.docker.network.bridge.default_bridge":       "true",
	"com.docker.network.bridge.enable_icc":           "true",
	"com.docker.network.bridge.enable_ip_masquerade": "true",
	"com.docker.network.bridge.host_binding_ipv4":    netip.IPv4Unspecified().String(),
	"com.docker.network.bridge.name":                 "docker0",
	"com.docker.network.driver.mtu":                  strconv.Itoa(1500),
}
