package docker

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/network"

	apinetwork "github.com/moby/moby/api/types/network"
)

// networkCreateJSON is what POST /networks/create carries. Addresses are read as
// text, so that a wrong one is named with its field. CheckDuplicate, which older
// clients send, is always true, as in dockerd since 25.
type networkCreateJSON struct {
	apinetwork.CreateRequest
	IPAM *struct {
		Driver  string
		Options map[string]string
		Config  []struct {
			Subnet, IPRange, Gateway string
			AuxiliaryAddresses       map[string]string
		}
	}
}

func (s *server) networkCreate(c *call) error {
	var body networkCreateJSON
	if c.R.ContentLength == 0 {
		return cnm.Invalid("invalid JSON: got EOF while reading request body")
	}
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	w, err := body.wish(c.Version)
	if err != nil {
		return err
	}
	n, warning, err := s.Network.CreateNetwork(c.Context(), w)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, apinetwork.CreateResponse{ID: n.ID, Warning: warning})
}

func (b *networkCreateJSON) wish(v Version) (w network.NetworkWish, err error) {
	if b.Name == "" {
		return w, cnm.Invalid("invalid network name: the name is empty")
	}
	w = network.NetworkWish{
		Name: b.Name, Driver: b.Driver, Scope: b.Scope, IPv4: b.EnableIPv4, IPv6: b.EnableIPv6,
		Internal: b.Internal, Attachable: b.Attachable, Ingress: b.Ingress, ConfigOnly: b.ConfigOnly,
		Options: b.Options, Labels: b.Labels,
	}
	if w.Driver == "" {
		w.Driver = apinetwork.NetworkBridge
	}
	if v.Before(48) {
		w.IPv4 = nil // came with 1.48; what an older client sends there means nothing
	}
	if v.Before(47) && w.IPv6 != nil && !*w.IPv6 {
		w.IPv6 = nil // a plain flag until then: false is "not said"
	}
	if b.ConfigFrom != nil {
		w.ConfigFrom = b.ConfigFrom.Network
	}
	if b.IPAM == nil {
		return w, nil
	}
	w.IPAMDriver, w.IPAMOptions = b.IPAM.Driver, b.IPAM.Options
	for _, c := range b.IPAM.Config {
		p := cnm.Pool{}
		if p.Subnet, err = prefixOf("subnet", c.Subnet); err != nil {
			return w, err
		}
		if p.Range, err = prefixOf("ip-range", c.IPRange); err != nil {
			return w, err
		}
		if p.Gateway, err = addrOf("gateway", c.Gateway); err != nil {
			return w, err
		}
		for name, addr := range c.AuxiliaryAddresses {
			a, err := addrOf("aux-address "+name, addr)
			if err != nil {
				return w, err
			}
			if p.Aux == nil {
				p.Aux = map[string]netip.Addr{}
			}
			p.Aux[name] = a
		}
		w.Pools = append(w.Pools, p)
	}
	return w, nil
}

// prefixOf reads a subnet; the empty one is the zero Prefix.
func prefixOf(what, s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, cnm.Invalid("invalid %s %s: it must be an address with a length, like 172.25.0.0/16 or fd00:25::/64", what, s)
	}
	return p, nil
}

// addrOf reads an address; the empty one is the zero Addr. An address with a
// length, which people paste from `ip addr`, is told how it should be.
func addrOf(what, s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if p, perr := netip.ParsePrefix(s); perr == nil {
			return a, cnm.Invalid("invalid %s %s: it must be an address without a length: %s", what, s, p.Addr())
		}
		return a, cnm.Invalid("invalid %s %s: it must be an IP address, like 172.25.0.1 or fd00:25::1", what, s)
	}
	return a.Unmap(), nil
}

// networkRemove: a network in use is 403, as dockerd answers, unless its users are to
// be taken off first.
func (s *server) networkRemove(c *call) error {
	if c.Bool("force") {
		if err := s.evacuate(c.Context(), c.Vars["id"]); err != nil {
			return err
		}
	}
	err := s.Network.RemoveNetwork(c.Context(), c.Vars["id"])
	if errors.Is(err, cnm.ErrConflict) {
		err = cnm.Errorf(cnm.ErrForbidden, "%w", err)
	}
	return c.done(err)
}

func (s *server) networkConnect(c *call) error {
	var body apinetwork.ConnectRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if err := s.networkAndContainer(c.Vars["id"], body.Container); err != nil {
		return err
	}
	c.Version.endpoint(body.EndpointConfig)
	if err := s.Containers.Connect(c.Context(), body.Container, c.Vars["id"], body.EndpointConfig); err != nil {
		return err
	}
	return c.Empty(http.StatusOK)
}

// endpoint takes out of a wish what its version did not know, and what only the
// server says: clients send back what they had inspected.
func (v Version) endpoint(ep *apinetwork.EndpointSettings) {
	if ep == nil {
		return
	}
	if v.Before(44) {
		ep.MacAddress = nil
	}
	if v.Before(48) {
		ep.GwPriority = 0
	}
	*ep = apinetwork.EndpointSettings{
		IPAMConfig: ep.IPAMConfig, Links: ep.Links, Aliases: ep.Aliases, DriverOpts: ep.DriverOpts,
		MacAddress: ep.MacAddress, GwPriority: ep.GwPriority,
	}
}

func (s *server) networkDisconnect(c *call) error {
	var body apinetwork.DisconnectRequest
	if err := c.ReadJSON(&body); err != nil {
		return err
	}
	if body.Container == "" {
		return cnm.Invalid("the request names no container to disconnect from network %s", c.Vars["id"])
	}
	if _, err := s.Network.Network(c.Vars["id"]); err != nil && !body.Force {
		return err
	}
	if err := s.Containers.Disconnect(c.Context(), body.Container, c.Vars["id"], body.Force); err != nil {
		return err
	}
	return c.Empty(http.StatusOK)
}

// networkAndContainer says 404 for what does not exist, the network first.
func (s *server) networkAndContainer(network, ctr string) error {
	if _, err := s.Network.Network(network); err != nil {
		return err
	}
	if ctr == "" {
		return cnm.Invalid("the request names no container to connect to network %s", network)
	}
	_, err := s.Containers.Get(ctr)
	return err
}

// networkPrune removes the networks that nobody is on and the filters name.
// Networks that only hold a configuration stay, as in dockerd: they are never
// used themselves; and so do those of the mesh: whether containers of other hosts, which
// may not run now, mean to be on them is not known here.
func (s *server) networkPrune(c *call) error {
	old, err := c.pruneRules()
	if err != nil {
		return err
	}
	used := s.usedNetworks()
	report := apinetwork.PruneReport{NetworksDeleted: []string{}}
	for _, n := range s.Network.Networks() {
		if n.Predefined || n.ConfigOnly || n.Global() || used[n.ID] || !old(n.Created, n.Labels) {
			continue
		}
		if c.Context().Err() != nil {
			break // the client is gone: what it does not see is not removed
		}
		if err := s.Network.RemoveNetwork(c.Context(), n.ID); err != nil {
			s.log.Warn("a network could not be pruned", "network", n.Name, "error", err)
			continue
		}
		report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
	}
	s.pruned("network", 0)
	return c.JSON(http.StatusOK, report)
}

// usedNetworks are the ids of the networks that a sandbox is on.
func (s *server) usedNetworks() map[string]bool {
	used := map[string]bool{}
	for _, sb := range s.Network.Sandboxes() {
		for _, ep := range sb.Endpoints {
			used[ep.NetworkID] = true
		}
	}
	return used
}

// pruned is the event after a prune.
func (s *server) pruned(kind string, bytes uint64) {
	s.Events.Publish(events.Event{Type: kind, Action: "prune", Attributes: map[string]string{"reclaimed": fmt.Sprint(bytes)}})
}
