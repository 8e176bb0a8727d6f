package network

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"linkspan/cnm"
	"linkspan/driver"
)

// source is where compose takes addresses from.
type source interface {
	// enlist says that the sandbox comes on the network.
	enlist(n *cnm.Network, s *cnm.Sandbox) error
	// give hands out an address of each of the network's pools.
	give(n *cnm.Network, owner string, w EndpointWish) ([]netip.Prefix, error)
}

// compose fills in a sandbox for a whole wish: a new one, or was brought to it.
// Endpoints that stay keep their ids, addresses, and names of interfaces; ports are
// was's. On an error the sandbox holds what was given until then.
func (c *Controller) compose(r Request, was *cnm.Sandbox, from source) (*cnm.Sandbox, error) {
	s := &cnm.Sandbox{ID: randomID(), Owner: r.ContainerID, Members: []string{r.ContainerID}, Sysctls: r.Sysctls}
	s.Path = filepath.Join(c.cfg.PinDir, s.ID[:12])
	if was != nil {
		s = clone(was)
		s.Endpoints = nil
	}
	s.Lineage = r.Lineage
	s.OwnerName, s.DNS, s.Search, s.Exposed, s.Resolver = r.ContainerName, r.DNS, r.Search, r.Exposed, false
	for i := range r.Endpoints {
		if err := c.composeOne(s, was, r.Endpoints[i], from); err != nil {
			return s, err
		}
	}
	names := map[string]string{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.IfName == "" {
			continue
		}
		if other, twice := names[e.IfName]; twice {
			return s, cnm.Invalid("container %s: its interfaces on networks %s and %s would both be %s; choose another name with --driver-opt %s=NAME",
				s.OwnerName, other, e.NetworkName, e.IfName, driver.OptIfName)
		}
		names[e.IfName] = e.NetworkName
	}
	c.route(s, r)
	if s.Host {
		s.Resolver = false
	}
	s.Answers = s.Answers || s.Resolver
	return s, nil
}

func (c *Controller) composeOne(s, was *cnm.Sandbox, w EndpointWish, from source) error {
	n, err := c.Network(w.Network)
	if err != nil {
		return cnm.NotFound("network %s not found: it was removed, or never there; make it with `docker network create %[1]s`, or take container %s off it with `docker network disconnect -f %[1]s %[2]s`",
			w.Network, s.OwnerName)
	}
	if n.ConfigOnly {
		return cnm.Errorf(cnm.ErrForbidden, "network %s is a configuration network, which only lends its settings to others (--config-from): no container can be on it", n.Name)
	}
	if endpointOn(s, n.ID) != nil {
		return cnm.Invalid("container %s wishes for network %s twice: as %s too", s.OwnerName, n.Name, w.Network)
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return err
	}
	t := d.Traits()
	if t.HostSandbox {
		s.Host, s.Path, s.Sysctls = true, c.cfg.HostPath, nil
	}
	e, err := c.endpoint(s, was, n, t, w, from)
	if err != nil {
		return err
	}
	e.NetworkName, e.GwPriority, e.Aliases, e.DriverOpts, e.Gateways = n.Name, w.GwPriority, w.Aliases, w.DriverOpts, nil
	e.LinkLocal, e.Names = w.LinkLocal, nil
	if n.HasNames() {
		e.Names = w.Names
		s.Resolver = c.cfg.Resolver != nil
	}
	e.Links = c.links(n, w.Links)
	s.Endpoints = append(s.Endpoints, *e)
	return nil
}

// endpoint is the one that was there, if it is as wished, or a new one. Given
// addresses are in s only once it is: on an error they are given back here.
func (c *Controller) endpoint(s, was *cnm.Sandbox, n *cnm.Network, t driver.Traits, w EndpointWish, from source) (*cnm.Endpoint, error) {
	if was != nil {
		if old := endpointOn(was, n.ID); old != nil && serves(old, w) {
			e := *old
			return &e, nil
		}
	}
	if err := c.usable(n); err != nil {
		return nil, err
	}
	e := &cnm.Endpoint{ID: randomID(), NetworkID: n.ID, MAC: w.MAC}
	if t.IfPrefix != "" {
		var err error
		if e.IfName, err = ifName(n, t, w); err != nil {
			return nil, err
		}
		e.HostIf = "veth" + e.ID[:7]
	}
	if err := from.enlist(n, s); err != nil {
		return nil, err
	}
	if !t.Addresses {
		return e, nil
	}
	var err error
	if e.Addrs, err = from.give(n, s.Owner, w); err != nil {
		// The endpoint is in nobody's list yet, and so its network.
		if was == nil || endpointOn(was, n.ID) == nil {
			c.unlist(&cnm.Sandbox{ID: s.ID, Endpoints: []cnm.Endpoint{*e}}, nil)
		}
		return nil, err
	}
	if e.MAC == "" {
		if e.MAC = cnm.MACFor(e.Addr4().Addr()); e.MAC == "" {
			// Without an IPv4 address the endpoint's own id makes it unique.
			b, _ := hex.DecodeString(e.ID[:8])
			e.MAC = net.HardwareAddr(append([]byte{0x02, 0x42}, b...)).String()
		}
	}
	return e, nil
}

// serves says whether an endpoint that is there is what is wished: with other
// addresses it is another endpoint.
func serves(e *cnm.Endpoint, w EndpointWish) bool {
	for _, a := range []netip.Addr{w.IPv4, w.IPv6} {
		if a.IsValid() && !slices.Contains(addresses(e), a.Unmap()) {
			return false
		}
	}
	if name := w.DriverOpts[driver.OptIfName]; name != "" && name != e.IfName {
		return false
	}
	return w.MAC == "" || w.MAC == e.MAC
}

// ifName is an interface's name: chosen, or prefix and number.
func ifName(n *cnm.Network, t driver.Traits, w EndpointWish) (string, error) {
	name, said := w.DriverOpts[driver.OptIfName]
	if !said {
		prefix := t.IfPrefix
		if p := n.Options[driver.OptIfPrefix]; p != "" {
			prefix = p
		}
		name = fmt.Sprint(prefix, w.Number)
	}
	err := driver.CheckLinkName(name)
	if err == nil && name == "lo" {
		err = errors.New("lo is the loopback interface, which every container has")
	}
	if err != nil {
		return "", cnm.Invalid("interface on network %s: %w", n.Name, err)
	}
	return name, nil
}

// route chooses, for each address family, the endpoint that carries the default
// route: of those whose network leads anywhere the one of the highest priority, and
// among equals the one of the lowest number. Connecting another network with no
// higher priority never moves it.
func (c *Controller) route(s *cnm.Sandbox, r Request) {
	for _, v4 := range []bool{true, false} {
		best, number := -1, 0
		var via netip.Addr
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			n, err := c.Network(e.NetworkID)
			if err != nil {
				continue
			}
			g := routerOf(n, e, v4)
			if !g.IsValid() {
				continue
			}
			num := r.Endpoints[i].Number
			if best < 0 || e.GwPriority > s.Endpoints[best].GwPriority || e.GwPriority == s.Endpoints[best].GwPriority && num < number {
				best, number, via = i, num, g
			}
		}
		if best >= 0 {
			e := &s.Endpoints[best]
			e.Gateways = append(slices.Clone(e.Gateways), via)
		}
	}
}

// routerOf is where an endpoint's default route of a family would go; the zero Addr
// where its network leads nowhere.
func routerOf(n *cnm.Network, e *cnm.Endpoint, v4 bool) netip.Addr {
	if n.Internal || !has(e, v4) {
		return netip.Addr{}
	}
	p := n.Pool6()
	if v4 {
		p = n.Pool4()
	}
	if p == nil {
		return netip.Addr{}
	}
	return n.RouterOf(*p)
}

// has says whether an endpoint has an address of the family.
func has(e *cnm.Endpoint, v4 bool) bool {
	if v4 {
		return e.Addr4().IsValid()
	}
	return e.Addr6().IsValid()
}
