package container

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/container/etc"
)

// The names under which every container finds the host that it runs on. Where a
// resolver of ours answers, it knows them; on the default bridge they are lines of
// /etc/hosts.
const (
	hostInternal    = "host.docker.internal"
	gatewayInternal = "gateway.docker.internal"
)

// hosts is the content of a container's /etc/hosts.
func (e *Engine) hosts(c *Container, sb *cnm.Sandbox) ([]byte, error) {
	host, router := e.gateways(sb)
	lines, err := etc.ParseExtraHosts(c.HostConfig.ExtraHosts, e.hostGateways(c, host))
	if err != nil {
		return nil, err
	}
	if c.HostConfig.NetworkMode.IsHost() {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the host's hosts file: %w", err)
		}
		return append(own, etc.HostLines(lines, nil, "", "")...), nil
	}
	if !sb.Resolver {
		lines = append(lines, e.internalNames(lines, host, router)...)
	}
	lines = append(lines, e.linkLines(c, sb)...)
	return etc.Hosts(lines, addresses(sb), c.Config.Hostname, c.Config.Domainname), nil
}

// addresses are the sandbox's own, of its first network first.
func addresses(sb *cnm.Sandbox) (out []netip.Addr) {
	for _, ep := range sb.Endpoints {
		for _, a := range ep.Addrs {
			out = append(out, a.Addr())
		}
	}
	return out
}

// gateways are, one of each family, the host's own addresses on the networks of a
// sandbox, and the routers there: on the network that carries the default route,
// else on the first that has one.
func (e *Engine) gateways(sb *cnm.Sandbox) (hosts, routers []netip.Addr) {
	for _, v4 := range []bool{true, false} {
		var host, router netip.Addr
		for _, ep := range sb.Endpoints {
			n, err := e.cfg.Network.Network(ep.NetworkID)
			if err != nil {
				continue
			}
			h, r := hostOn(n, v4)
			carries := ep.Gateway(v4).IsValid()
			if h.IsValid() && (carries || !host.IsValid()) {
				host, router = h, r
			}
			if carries {
				break
			}
		}
		if host.IsValid() {
			hosts, routers = append(hosts, host), append(routers, router)
		}
	}
	return hosts, routers
}

// bridgeAux names the host's address on a bridge that was there before us, whose
// containers have another router (network/create.go).
const bridgeAux = "BridgeAddress"

// hostOn is the host's own address on a network, and the router there.
func hostOn(n *cnm.Network, v4 bool) (host, router netip.Addr) {
	p := n.Pool4()
	if !v4 {
		p = n.Pool6()
	}
	if p == nil {
		return host, router
	}
	host, router = p.Gateway, n.RouterOf(*p)
	if own, ok := p.Aux[bridgeAux]; ok {
		host = own
	}
	return host, router
}

// hostGateways is what host-gateway stands for in --add-host: what the daemon's
// --host-gateway-ip says, else the host on the container's own networks, else, for
// a container without any, the host on the default bridge.
func (e *Engine) hostGateways(c *Container, own []netip.Addr) []netip.Addr {
	if g := e.defaults.Load().HostGateway; len(g) > 0 {
		return g
	}
	if len(own) > 0 {
		return own
	}
	names := []string{defaultNetwork}
	if _, none := c.Networks["none"]; !none && !c.HostConfig.NetworkMode.IsHost() {
		// Before its start: whatever its networks have.
		for name := range c.Networks {
			names = append(names, name)
		}
	}
	var out []netip.Addr
	slices.Sort(names[1:])
	for _, name := range slices.Backward(names) {
		n, err := e.cfg.Network.Network(name)
		if err != nil {
			continue
		}
		for _, v4 := range []bool{true, false} {
			if a, _ := hostOn(n, v4); a.IsValid() {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return out
}

// internalNames are the lines that lead to the host, but for names that the
// container's own wish has.
func (e *Engine) internalNames(wished []etc.Line, host, router []netip.Addr) (out []etc.Line) {
	if g := e.defaults.Load().HostGateway; len(g) > 0 && len(host) > 0 {
		host = g
	}
	for _, x := range []struct {
		name  string
		addrs []netip.Addr
	}{{hostInternal, host}, {gatewayInternal, router}} {
		if slices.ContainsFunc(wished, func(l etc.Line) bool { return strings.EqualFold(l.Names, x.name) }) {
			continue
		}
		for _, a := range x.addrs {
			out = append(out, etc.Line{Addr: a, Names: x.name})
		}
	}
	return out
}

// linkLines are the lines of links on the default bridge: alias, host name and,
// where it is another, the name of the target. One that does not run has none.
func (e *Engine) linkLines(c *Container, sb *cnm.Sandbox) (out []etc.Line) {
	if !slices.ContainsFunc(sb.Endpoints, func(ep cnm.Endpoint) bool { return ep.NetworkName == defaultNetwork }) {
		return nil
	}
	for _, l := range c.Links {
		t, err := e.Get(l.Target)
		if err != nil {
			continue
		}
		names := l.Alias
		for _, n := range []string{t.Config.Hostname, t.Name} {
			if !slices.Contains(strings.Fields(names), n) {
				names += " " + n
			}
		}
		for _, a := range e.bridgeAddrs(t) {
			out = append(out, etc.Line{Addr: a, Names: names})
		}
	}
	return out
}

// bridgeAddrs are a container's addresses on the default bridge, while it has a
// place there.
func (e *Engine) bridgeAddrs(c *Container) (out []netip.Addr) {
	sb, ok := e.cfg.Network.Sandbox(c.ID)
	if !ok || sb.Owner != c.ID {
		return nil
	}
	for _, ep := range sb.Endpoints {
		if ep.NetworkName != defaultNetwork {
			continue
		}
		for _, a := range ep.Addrs {
			out = append(out, a.Addr())
		}
	}
	return out
}
