package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dns"
)

// Names that mean the host, on every network (Docker Desktop's).
const (
	hostName    = "host.docker.internal"
	gatewayName = "gateway.docker.internal"
)

// named brings the keeper's resolver from one form of a sandbox to another: its
// view, and its records in the zones of its networks. nil: it is not there.
func (c *Controller) named(ctx context.Context, was, now *cnm.Sandbox) error {
	view := doing(func() error { return c.viewed(ctx, was, now) })
	return errors.Join(c.known(ctx, was, now), <-view)
}

// viewed brings the resolver's view from one form of a sandbox to another.
func (c *Controller) viewed(ctx context.Context, was, now *cnm.Sandbox) error {
	if c.cfg.Resolver == nil {
		return nil
	}
	had, has := was != nil && was.Answers, now != nil && now.Answers
	switch {
	case has && !had:
		return c.openView(ctx, now)
	case has && !same(c.view(was), c.view(now)):
		return c.cfg.Ports.SetView(ctx, c.view(now), nil)
	case had && !has:
		return c.cfg.Ports.RemoveView(ctx, was.ID)
	}
	return nil
}

// known brings the names of a sandbox's endpoints from one form to another.
func (c *Controller) known(ctx context.Context, was, now *cnm.Sandbox) error {
	if c.cfg.Resolver == nil {
		return nil
	}
	var errs []error
	if was != nil {
		for i := range was.Endpoints {
			if e := &was.Endpoints[i]; len(e.Names) > 0 && (now == nil || !holds(now, e)) {
				errs = append(errs, c.cfg.Ports.RemoveNames(ctx, e.NetworkID, []string{e.ID}))
			}
		}
	}
	if now != nil {
		for i := range now.Endpoints {
			e := &now.Endpoints[i]
			if len(e.Names) == 0 {
				continue
			}
			rec := record(now, e)
			if was != nil {
				if old := endpointOn(was, e.NetworkID); old != nil && same(record(was, old), rec) {
					continue
				}
			}
			errs = append(errs, c.cfg.Ports.SetNames(ctx, e.NetworkID, []dns.Record{rec}, false))
		}
	}
	return errors.Join(errs...)
}

// openView opens a sandbox's resolver sockets and hands them over.
func (c *Controller) openView(ctx context.Context, s *cnm.Sandbox) error {
	sockets, err := c.cfg.Resolver(s.Path)
	if err != nil {
		return err
	}
	defer closeSockets(sockets)
	return c.cfg.Ports.SetView(ctx, c.view(s), sockets)
}

// closeSockets closes our copies: the keeper has its own.
func closeSockets(s *dns.Sockets) {
	if s.UDP != nil {
		s.UDP.Close()
	}
	if s.TCP != nil {
		s.TCP.Close()
	}
	if s.Namespace != nil {
		s.Namespace.Close()
	}
}

// record is what an endpoint is found by on its network.
func record(s *cnm.Sandbox, e *cnm.Endpoint) dns.Record {
	return dns.Record{Endpoint: e.ID, Names: e.Names, Addrs: addresses(e), Ports: s.Exposed}
}

// view is what the containers of a sandbox may ask.
func (c *Controller) view(s *cnm.Sandbox) dns.View {
	v := dns.View{Sandbox: s.ID, Search: s.Search, Closed: len(s.DNS) == 0}
	for _, a := range s.DNS {
		v.Upstreams = append(v.Upstreams, netip.AddrPortFrom(a, 53))
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		n, err := c.Network(e.NetworkID)
		if err != nil {
			continue
		}
		v.Closed = v.Closed && n.Internal
		if !n.HasNames() {
			continue
		}
		v.Zones, v.ZoneNames = append(v.Zones, n.ID), append(v.ZoneNames, n.Name)
		for _, p := range n.Pools {
			v.Subnets = append(v.Subnets, p.Subnet)
		}
		for _, l := range e.Links {
			// Containers are known by the short form of their ids.
			v.Links = append(v.Links, dns.Alias{Name: l.Alias, Zone: n.ID, Target: linkTarget(l.Target)})
		}
	}
	var host, gateway []netip.Addr
	for _, v4 := range []bool{true, false} {
		h, g := c.hostOf(s, v4)
		if h.IsValid() {
			host = append(host, h)
		}
		if g.IsValid() {
			gateway = append(gateway, g)
		}
	}
	if len(c.cfg.HostGateway) > 0 {
		host = slices.Clone(c.cfg.HostGateway)
	}
	if len(host) > 0 {
		v.Own = append(v.Own, dns.Host{Name: hostName, Addrs: host})
	}
	if len(gateway) > 0 {
		v.Own = append(v.Own, dns.Host{Name: gatewayName, Addrs: gateway})
	}
	return v
}

// linkTarget is the name by which a zone knows what is linked to: the short form of an id,
// or, of a container that is on another host, its name as it was written.
func linkTarget(target string) string {
	if strings.Trim(target, "0123456789abcdef") == "" {
		return target[:min(12, len(target))]
	}
	return target
}

// hostOf is where a sandbox reaches the host, and its router: on the network that
// carries its default route of the family, else on the first that has one.
func (c *Controller) hostOf(s *cnm.Sandbox, v4 bool) (host, router netip.Addr) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		n, err := c.Network(e.NetworkID)
		if err != nil || !has(e, v4) {
			continue
		}
		p := n.Pool6()
		if v4 {
			p = n.Pool4()
		}
		if p == nil || !p.Gateway.IsValid() {
			continue
		}
		carries := e.Gateway(v4).IsValid()
		if h := hostOn(n, *p, v4); carries || !host.IsValid() && h.IsValid() {
			host, router = h, n.RouterOf(*p)
		}
		if carries {
			break
		}
	}
	return host, router
}

// hostOn is the host's address on a network, where it has one.
func hostOn(n *cnm.Network, p cnm.Pool, v4 bool) netip.Addr {
	if own, ok := p.Aux[bridgeAux]; ok {
		return own
	}
	mode := n.Options["com.docker.network.bridge.gateway_mode_ipv6"]
	if v4 {
		mode = n.Options["com.docker.network.bridge.gateway_mode_ipv4"]
		if inhibited, _ := strconv.ParseBool(n.Options["com.docker.network.bridge.inhibit_ipv4"]); inhibited {
			return netip.Addr{}
		}
	}
	if mode == "isolated" {
		return netip.Addr{}
	}
	return p.Gateway
}

// holdNames has the keeper resolve exactly for the living sandboxes, with exactly
// the names there are: after a keeper's death it knows none, after the daemon's it
// may know too many.
func (c *Controller) holdNames(ctx context.Context) error {
	if c.cfg.Resolver == nil {
		return nil
	}
	ids, err := c.cfg.Ports.Views(ctx)
	if err != nil {
		return err
	}
	held := map[string]bool{}
	for _, id := range ids {
		held[id] = true
	}
	var errs []error
	zones := map[string][]dns.Record{}
	var order []string
	for _, n := range c.Networks() {
		if n.HasNames() {
			zones[n.ID] = nil
			order = append(order, n.ID)
		}
	}
	for _, n := range c.Networks() {
		if _, ok := c.spanner(n); ok && c.used(n.ID) {
			sp := c.span(n.ID)
			sp.mu.Lock()
			zones[n.ID] = c.remoteRecords(sp)
			sp.mu.Unlock()
		}
	}
	alive := map[string]bool{}
	for _, s := range c.Sandboxes() {
		for i := range s.Endpoints {
			if e := &s.Endpoints[i]; len(e.Names) > 0 {
				zones[e.NetworkID] = append(zones[e.NetworkID], record(s, e))
			}
		}
		if !s.Answers {
			continue
		}
		alive[s.ID] = true
		if held[s.ID] {
			errs = append(errs, c.cfg.Ports.SetView(ctx, c.view(s), nil))
		} else if err := c.openView(ctx, s); err != nil {
			errs = append(errs, cnm.Errorf(cnm.ErrUnavailable, "names do not work in %s: %w", s.OwnerName, err))
		}
	}
	for id := range held {
		if !alive[id] {
			errs = append(errs, c.cfg.Ports.RemoveView(ctx, id))
		}
	}
	for _, z := range order {
		if len(zones[z]) > 0 {
			errs = append(errs, c.cfg.Ports.SetNames(ctx, z, zones[z], true))
		}
	}
	order = slices.DeleteFunc(order, func(z string) bool { return len(zones[z]) == 0 })
	errs = append(errs, c.cfg.Ports.KeepZones(ctx, order))
	return errors.Join(errs...)
}
