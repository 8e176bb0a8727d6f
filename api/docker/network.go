package docker

import (
	"maps"
	"net/http"
	"net/netip"
	"strconv"

	"linkspan/cnm"

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
}

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
		for _, sb := range s.Network.Sandboxes() {
			for _, ep := range sb.Endpoints {
				used[ep.NetworkID] = true
			}
		}
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
	return f.Exact("driver", n.Driver) && f.Match("name", n.Name) && f.Match("id", n.ID) &&
		f.Exact("scope", "local") && f.Exact("type", kind) && f.Labels("label", n.Labels)
}

func (s *server) networkInspect(c *call) error {
	n, err := s.Network.Network(c.Vars["id"])
	if err != nil {
		return err
	}
	if scope := c.Query("scope"); scope != "" && scope != "local" {
		return cnm.NotFound("network %s not found", c.Vars["id"])
	}
	j := renderNetwork(c.Version, n)
	for _, sb := range s.Network.Sandboxes() {
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

func renderNetwork(v Version, n *cnm.Network) *networkJSON {
	j := &networkJSON{
		Name: n.Name, ID: n.ID, Created: n.Created.Format("2006-01-02T15:04:05.999999999Z07:00"),
		Scope: "local", Driver: n.Driver, Internal: n.Internal,
		IPAM:       ipamJSON{Driver: n.IPAMDriver, Config: []apinetwork.IPAMConfig{}},
		Containers: map[string]containerOnNetwork{},
		Options:    orEmptyMap(n.Options), Labels: orEmptyMap(n.Labels),
	}
	if n.Driver == apinetwork.NetworkNone {
		j.Driver = "null" // Docker's name of the driver behind the network "none"
	}
	if j.IPAM.Driver == "" {
		j.IPAM.Driver = "default"
	}
	ipv4 := len(n.Pools) == 0
	for _, p := range n.Pools {
		ipv4 = ipv4 || p.Subnet.Addr().Is4()
		j.EnableIPv6 = j.EnableIPv6 || p.Subnet.Addr().Is6()
		j.IPAM.Config = append(j.IPAM.Config, apinetwork.IPAMConfig{
			Subnet: p.Subnet, Gateway: p.Gateway, IPRange: p.Range, AuxAddress: maps.Clone(p.Aux),
		})
	}
	if !v.Before(48) {
		j.EnableIPv4 = &ipv4
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

func (s *server) networkRemove(c *call) error {
	n, err := s.Network.Network(c.Vars["id"])
	if err != nil {
		return err
	}
	if n.Predefined {
		return cnm.Errorf(cnm.ErrForbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	return noUserNetworks("removing network " + n.Name)
}

// noUserNetworks is the answer until networks can be made by the user.
func noUserNetworks(what string) error {
	return cnm.Unsupported("not yet: %s: user-defined networks come with a later version of Linkspan; bridge, host, none and container:NAME serve now", what)
}

func (s *server) networkCreate(c *call) error {
	var body apinetwork.CreateRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if body.Name == "" {
		return cnm.Invalid("invalid network name: the name is empty")
	}
	for _, n := range s.Network.Networks() {
		switch {
		case n.Name == body.Name && n.Predefined:
			return cnm.Errorf(cnm.ErrForbidden, "operation is not permitted on predefined %s network", n.Name)
		case n.Name == body.Name:
			return cnm.Conflict("network with name %s already exists", n.Name)
		}
	}
	return noUserNetworks("creating network " + body.Name)
}

func (s *server) networkConnect(c *call) error {
	var body apinetwork.ConnectRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if err := s.networkAndContainer(c.Vars["id"], body.Container); err != nil {
		return err
	}
	return noUserNetworks("connecting container " + body.Container + " to network " + c.Vars["id"])
}

func (s *server) networkDisconnect(c *call) error {
	var body apinetwork.DisconnectRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if err := s.networkAndContainer(c.Vars["id"], body.Container); err != nil {
		return err
	}
	return noUserNetworks("disconnecting container " + body.Container + " from network " + c.Vars["id"])
}

// networkAndContainer says 404 for what does not exist before it says "not yet".
func (s *server) networkAndContainer(network, ctr string) error {
	if _, err := s.Network.Network(network); err != nil {
		return err
	}
	_, err := s.Containers.Get(ctr)
	return err
}

// networkPrune finds nothing to remove as long as all networks are predefined.
func (s *server) networkPrune(c *call) error {
	f, err := c.Filters()
	if err != nil {
		return err
	}
	old, err := f.pruneRules()
	if err != nil {
		return err
	}
	for _, n := range s.Network.Networks() {
		if !n.Predefined && old(n.Created, n.Labels) {
			return noUserNetworks("pruning network " + n.Name)
		}
	}
	return c.JSON(http.StatusOK, apinetwork.PruneReport{NetworksDeleted: []string{}})
}
