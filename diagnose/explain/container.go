package explain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

func (m *maker) container(ctx context.Context, c diagnose.Container) error {
	m.out.Kind, m.out.ID, m.out.Name = KindContainer, c.ID, c.Name
	state := c.State
	if c.State == "exited" || c.State == "dead" {
		state = fmt.Sprintf("%s (%d)", c.State, c.ExitCode)
	} else if c.Health != "" {
		state += ", " + c.Health
	}
	m.out.Title = "container " + c.Name + ": " + state
	m.fact("id", short(c.ID))
	m.fact("image", c.Image)
	if c.PID > 0 {
		m.fact("first process", fmt.Sprintf("pid %d", c.PID))
	}
	s, lives := m.src.World.Sandbox(c.ID)
	if !lives {
		m.fact("networks", strings.Join(c.Networks, ", "))
		for _, p := range c.Published {
			if p.HostPort > 0 {
				m.fact("publishes", published(p))
			}
		}
		m.note(fmt.Sprintf("it does not run: nothing was made for it in the kernel; `linkspan start %s` makes it", c.Name))
		return nil
	}
	if c.State == "paused" {
		m.note(fmt.Sprintf("it is paused: the kernel answers for it, and its processes do not; `linkspan unpause %s`", c.Name))
	}
	if s.Owner != c.ID {
		m.note(fmt.Sprintf("it is in the network stack of %s (--network container:%s): what is below was made for that one", s.OwnerName, s.OwnerName))
	}
	if s.Host {
		m.note("it is in the host's own network stack (--network host): nothing was made for it, and nothing is published: what it listens on is the host's")
		m.group("network stack", Item{What: "the host's network namespace", Why: "--network host", Where: "pinned at " + s.Path,
			Live: There, Show: []string{in(s.Path) + "ip -br addr"}, Finds: []string{"lo"}})
		return nil
	}
	return m.sandbox(ctx, s)
}

// sandbox explains a network stack, with all that leads to it.
func (m *maker) sandbox(ctx context.Context, s *cnm.Sandbox) error {
	items, err := m.items(ctx, m.pick(ownedBy(dataplane.OwnerSandbox, s.ID)))
	if err != nil {
		return err
	}
	names, err := m.resolver(ctx, s)
	if err != nil {
		return err
	}
	m.group("network stack of "+s.OwnerName, append(items, names...)...)
	for i := range s.Endpoints {
		if err := m.endpoint(ctx, s, &s.Endpoints[i]); err != nil {
			return err
		}
	}
	if err := m.ports(ctx, s, nil); err != nil {
		return err
	}
	for i := range s.Endpoints {
		if err := m.shared(ctx, &s.Endpoints[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) endpoint(ctx context.Context, s *cnm.Sandbox, e *cnm.Endpoint) error {
	if e.IfName != "" {
		m.fact("on "+e.NetworkName, strings.Join([]string{e.IfName, prefixes(e.Addrs), e.MAC}, "  "))
	} else {
		m.fact("on "+e.NetworkName, "without an interface")
	}
	for _, g := range e.Gateways {
		m.fact("default route", fmt.Sprintf("%s on %s", g, e.NetworkName))
	}
	if len(e.Names) > 0 {
		m.fact("names on "+e.NetworkName, strings.Join(e.Names, ", "))
	}
	for _, l := range e.Links {
		m.fact("linked to", l.Alias+" "+strings.Join(l.Ports, ", "))
	}
	items, err := m.items(ctx, m.pick(ownedBy(dataplane.OwnerEndpoint, e.ID)))
	if err != nil {
		return err
	}
	m.group(fmt.Sprintf("%s on network %s", s.OwnerName, e.NetworkName), items...)
	return nil
}

// ports explains what is published of a sandbox: all, or what ref names.
func (m *maker) ports(ctx context.Context, s *cnm.Sandbox, ref *portRef) error {
	var wanted []cnm.PublishedPort
	for _, p := range s.Ports {
		if ref == nil || ref.matches(p) {
			wanted = append(wanted, p)
			m.fact("published", published(p))
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	objs := m.pick(func(o dataplane.Object) bool {
		return ownedBy(dataplane.OwnerPort, s.ID)(o) && (ref == nil || leads(o, wanted, ref))
	})
	items, err := m.items(ctx, objs)
	if err != nil {
		return err
	}
	held, err := m.reserved(ctx, s, wanted)
	if err != nil {
		return err
	}
	m.group("published ports of "+s.OwnerName, append(items, held...)...)
	return nil
}

// leads says that an element of a port's owner is for one of these ports: it
// translates the port in question, or opens what that one leads to.
func leads(o dataplane.Object, ports []cnm.PublishedPort, ref *portRef) bool {
	e, ok := o.(dataplane.Element)
	if !ok {
		return true
	}
	if f := e.Flow; f != nil {
		last := max(f.Port, f.PortEnd)
		return ref.port >= f.Port && ref.port <= last && (ref.proto == "" || ref.proto == f.Proto) &&
			(!ref.addr.IsValid() || !f.Addr.IsValid() && ref.addr.Is4() == f.To.Addr().Is4() || f.Addr == ref.addr)
	}
	parts := strings.Split(e.KeyText, " . ")
	if len(parts) != 3 || !strings.HasPrefix(e.Set, "open") {
		return false
	}
	first, err := strconv.ParseUint(parts[2], 10, 16)
	if err != nil {
		return false
	}
	block := uint16(1)
	if strings.HasSuffix(e.Set, "_64") {
		block = dataplane.OpenBlock
	}
	for _, p := range ports {
		inside := p.Port + ref.port - p.HostPort
		if parts[1] == p.Proto && inside >= uint16(first) && inside-uint16(first) < block {
			return true
		}
	}
	return false
}

// shared are a network's objects, for one who is on it.
func (m *maker) shared(ctx context.Context, e *cnm.Endpoint) error {
	items, err := m.items(ctx, m.pick(ownedBy(dataplane.OwnerNetwork, e.NetworkID)))
	if err != nil {
		return err
	}
	m.group("shared with everyone on network "+e.NetworkName, items...).Shared = true
	return nil
}

// resolver is what answers for names in a sandbox, besides the redirect to it.
func (m *maker) resolver(ctx context.Context, s *cnm.Sandbox) (out []Item, err error) {
	if !s.Answers {
		return nil, nil
	}
	it := Item{What: fmt.Sprintf("the resolver's sockets, port %d of %s", dataplane.ResolverBound, dataplane.ResolverAddr),
		Why:   "the keeper holds them, so that names are answered while the daemon is away",
		Where: "inside " + s.OwnerName,
		Show:  []string{in(s.Path) + fmt.Sprintf("ss -Hlnu 'sport = :%d'", dataplane.ResolverBound)}, Finds: []string{dataplane.ResolverAddr.String()}}
	if m.src.World.Kernel != nil {
		socks, err := m.src.World.Kernel.Sockets(ctx, s.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the sockets of %s: %w", s.OwnerName, err)
		}
		if it.Live, it.Cure = Missing, "linkspan reconcile"; slices.ContainsFunc(socks, func(k reading.Socket) bool {
			return k.Addr == dataplane.ResolverAddr && k.Port == dataplane.ResolverBound
		}) {
			it.Live, it.Cure = There, ""
		}
	}
	out = append(out, it)
	for _, e := range s.Endpoints {
		if len(e.Names) == 0 {
			continue
		}
		var addrs []string
		for _, a := range e.Addrs {
			addrs = append(addrs, a.Addr().String())
		}
		line := in(s.Path) + "dig +short @" + dataplane.ResolverAddr.String() + " " + e.Names[0] + "." + e.NetworkName
		if !e.Addr4().IsValid() {
			line += " AAAA"
		}
		out = append(out, Item{What: "names " + strings.Join(e.Names, ", "), Why: "others on " + e.NetworkName + " find it by these",
			Where: "the keeper's table of network " + e.NetworkName + ": " + strings.Join(addrs, " "), Show: []string{line}, Finds: addrs[:min(1, len(addrs))]})
	}
	return out, nil
}

func prefixes(all []netip.Prefix) string {
	var out []string
	for _, p := range all {
		out = append(out, p.String())
	}
	return strings.Join(out, " ")
}

func short(id string) string { return id[:min(12, len(id))] }
