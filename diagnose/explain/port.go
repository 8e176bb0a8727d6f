package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

func (m *maker) port(ctx context.Context, r portRef) error {
	m.out.Kind, m.out.Name = KindPort, r.text
	var found []*cnm.Sandbox
	for _, s := range m.src.World.Declared.Sandboxes() {
		if slices.ContainsFunc(s.Ports, r.matches) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return m.unpublished(ctx, r)
	}
	var names []string
	for _, s := range found {
		names = append(names, s.OwnerName)
	}
	slices.Sort(names)
	m.out.Title = fmt.Sprintf("host port %s: published by container %s", r.text, strings.Join(names, " and "))
	for _, s := range found {
		m.out.ID = s.Owner
		c := owner(m.src.World, s)
		m.fact("container", strings.TrimSpace(c.Name+"  "+c.State))
		if err := m.ports(ctx, s, &r); err != nil {
			return err
		}
		if err := m.wayThere(ctx, s); err != nil {
			return err
		}
		if err := m.wayBack(ctx, s, r); err != nil {
			return err
		}
	}
	return nil
}

// wayThere is what a translated packet needs to arrive.
func (m *maker) wayThere(ctx context.Context, s *cnm.Sandbox) error {
	to := m.servers(s)
	items, err := m.items(ctx, m.pick(func(o dataplane.Object) bool {
		own := o.About().Owner
		switch o := o.(type) {
		case dataplane.Veth:
			return own.Kind == dataplane.OwnerEndpoint && to[own.ID]
		case dataplane.Addr:
			return own.Kind == dataplane.OwnerEndpoint && to[own.ID]
		case dataplane.Sysctl:
			return own.Kind == dataplane.OwnerNetwork && to[own.ID] && strings.HasSuffix(o.Name, "/route_localnet") ||
				own.Kind == dataplane.OwnerHost && strings.HasSuffix(o.Name, "forward")
		}
		return false
	}))
	if err != nil {
		return err
	}
	m.group("the way to "+s.OwnerName, items...)
	return nil
}

// servers are the ids of the endpoints that carry default routes, and of their
// networks: published ports lead there.
func (m *maker) servers(s *cnm.Sandbox) map[string]bool {
	ids := map[string]bool{}
	for _, e := range s.Endpoints {
		if len(e.Gateways) > 0 || len(s.Endpoints) == 1 {
			ids[e.ID], ids[e.NetworkID] = true, true
		}
	}
	return ids
}

// wayBack is what brings answers back: the hairpin's address, and the connections that
// the kernel keeps.
func (m *maker) wayBack(ctx context.Context, s *cnm.Sandbox, r portRef) error {
	to := m.servers(s)
	items, err := m.items(ctx, m.pick(func(o dataplane.Object) bool {
		e, ok := o.(dataplane.Element)
		return ok && strings.HasPrefix(e.Set, "endpoints") && to[e.About().Owner.ID]
	}))
	if err != nil {
		return err
	}
	proto := r.proto
	for _, p := range s.Ports {
		if proto == "" && r.matches(p) {
			proto = p.Proto
		}
	}
	n, err := m.connections(ctx, proto, r.port)
	if err != nil {
		return err
	}
	items = append(items, Item{What: n + " to it", Why: "conntrack remembers what each was translated to, and translates the answers back",
		Where: "the host, conntrack", Show: []string{fmt.Sprintf("conntrack -L -p %s --orig-port-dst %d", proto, r.port)}})
	m.group("the way back", items...)
	return nil
}

// connections counts what came to a host port and is not forgotten yet.
func (m *maker) connections(ctx context.Context, proto string, port uint16) (string, error) {
	if m.src.World.Kernel == nil {
		return "open connections", nil
	}
	flows, err := m.src.World.Kernel.Flows(ctx, "", reading.FlowFilter{Proto: proto, Port: port})
	if err != nil {
		return "", fmt.Errorf("the host's connections: %w", err)
	}
	n := 0
	for _, f := range flows {
		if f.Original.Dst.Port() == port && f.DNAT {
			n++
		}
	}
	switch n {
	case 0:
		return "no open connections", nil
	case 1:
		return "one open connection", nil
	}
	return fmt.Sprintf("%d open connections", n), nil
}

// atStart tells of a port that a container will publish once it runs.
func (m *maker) atStart(c diagnose.Container, r portRef) error {
	m.out.ID, m.out.Title = c.ID, fmt.Sprintf("host port %s: to be published by container %s, which does not run", r.text, c.Name)
	m.fact("container", c.Name+"  "+c.State)
	for _, p := range c.Published {
		if r.matches(p) {
			m.fact("published", published(p))
		}
	}
	m.note(fmt.Sprintf("nothing was made for it in the kernel; `linkspan start %s` makes it", c.Name))
	return nil
}

// unpublished is the answer about a port that no running container publishes: who
// has it, or what is published.
func (m *maker) unpublished(ctx context.Context, r portRef) error {
	var all []string
	for _, s := range m.src.World.Declared.Sandboxes() {
		for _, p := range s.Ports {
			if p.HostPort <= r.port && r.port <= p.HostPortEnd {
				return cnm.NotFound("port %s is not published; %s of container %s is: `linkspan explain %[2]s`", r.text, hostPort(p), s.OwnerName)
			}
			all = append(all, hostPort(p))
		}
	}
	for _, c := range m.src.World.Declared.Containers() {
		if _, lives := m.src.World.Sandbox(c.ID); !lives && slices.ContainsFunc(c.Published, r.matches) {
			return m.atStart(c, r)
		}
	}
	if m.src.World.Kernel != nil {
		socks, err := m.src.World.Kernel.Sockets(ctx, "")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(socks, func(s reading.Socket) bool {
			return s.Port == r.port && (r.proto == "" || r.proto == s.Proto) && (!r.addr.IsValid() || s.Addr.IsUnspecified() || s.Addr == r.addr)
		})
		if i >= 0 {
			s := socks[i]
			return cnm.NotFound("port %s is published by no running container: a program of the host has it, at %s/%s; `ss -lpn 'sport = :%d'` tells which one",
				r.text, netip.AddrPortFrom(s.Addr, s.Port), s.Proto, r.port)
		}
	}
	if len(all) == 0 {
		return cnm.NotFound("port %s is published by no running container, nor is any other; publish it with `linkspan run -p %d:PORT …`", r.text, r.port)
	}
	slices.Sort(all)
	more := ""
	if len(all) > 10 {
		all, more = all[:10], fmt.Sprintf(" and %d more", len(all)-10)
	}
	return cnm.NotFound("port %s is published by no running container; these are: %s%s", r.text, strings.Join(all, ", "), more)
}
