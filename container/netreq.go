package container

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/container/spec"
	"linkspan/network"
	"linkspan/publish"
)

// defaultNetwork is what "default" stands for.
const defaultNetwork = "bridge"

// modeNetwork is the network that a mode names; empty with container:X.
func modeNetwork(m apicontainer.NetworkMode) string {
	switch {
	case m.IsContainer():
		return ""
	case m == "" || m.IsDefault():
		return defaultNetwork
	}
	return string(m)
}

// canonicalNetworks keys the wish by the networks' names, whatever the client
// called them, and adds the mode's own network.
func (e *Engine) canonicalNetworks(m apicontainer.NetworkMode, in map[string]*apinetwork.EndpointSettings) (map[string]*apinetwork.EndpointSettings, error) {
	if m.IsContainer() {
		if len(in) > 0 {
			return nil, cnm.Invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes: container sharing network namespace with another container cannot be connected to any other network")
		}
		return nil, nil
	}
	out := map[string]*apinetwork.EndpointSettings{}
	refs := slices.Sorted(maps.Keys(in))
	if own := modeNetwork(m); !slices.Contains(refs, own) {
		refs = append(refs, own)
	}
	for _, ref := range refs {
		name := ref
		if name == apinetwork.NetworkDefault {
			name = defaultNetwork
		}
		n, err := e.cfg.Network.Network(name)
		if err != nil {
			return nil, notImage(err)
		}
		ep := in[ref].Copy()
		if ep == nil {
			if out[n.Name] != nil {
				continue // the mode names by id what the client has by name
			}
			ep = &apinetwork.EndpointSettings{}
		}
		if out[n.Name] != nil && in[ref] != nil {
			return nil, cnm.Invalid("network %s is wished for twice: as %s and by another name", n.Name, ref)
		}
		if err := verifyEndpoint(n.Name, ep); err != nil {
			return nil, err
		}
		out[n.Name] = ep
	}
	if m.IsHost() && len(out) > 1 {
		return nil, cnm.Invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes: container sharing network namespace with the host cannot be connected to any other network")
	}
	return out, nil
}

// netDefaults are set in every network namespace that is a container's own, as
// Docker does: ping without CAP_NET_RAW, and low ports without
// CAP_NET_BIND_SERVICE.
var netDefaults = map[string]string{
	"net.ipv4.ping_group_range":           "0 2147483647",
	"net.ipv4.ip_unprivileged_port_start": "0",
}

// ownNetwork is the name of the network that a mode names, whatever the client
// called it.
func (e *Engine) ownNetwork(m apicontainer.NetworkMode) string {
	ref := modeNetwork(m)
	if ref == "" {
		return ""
	}
	if n, err := e.cfg.Network.Network(ref); err == nil {
		return n.Name
	}
	return ref
}

// numbered gives the networks that have no interface number yet the lowest free
// one: own first, the others by name. What has one keeps it, and what is not
// there any more gives its own back. Among networks of one priority the lowest
// number carries the default route, so that none comes before those that are
// there: a connect would move the route.
func numbered(networks map[string]*apinetwork.EndpointSettings, had map[string]int, own string) map[string]int {
	out, taken := map[string]int{}, map[int]bool{}
	for name := range networks {
		if n, ok := had[name]; ok {
			out[name], taken[n] = n, true
		}
	}
	first := 0
	if len(out) > 0 {
		first = slices.Min(slices.Collect(maps.Values(out)))
	}
	names := slices.SortedFunc(maps.Keys(networks), func(a, b string) int {
		return cmp.Or(behind(a, own)-behind(b, own), cmp.Compare(a, b))
	})
	for _, name := range names {
		if _, ok := out[name]; ok {
			continue
		}
		n := first
		for taken[n] {
			n++
		}
		out[name], taken[n] = n, true
	}
	return out
}

// behind orders own before all others.
func behind(name, own string) int {
	if name == own {
		return 0
	}
	return 1
}

// networkRequest is a container's whole wish on the network.
func (e *Engine) networkRequest(c *Container) (network.Request, error) {
	r := network.Request{ContainerID: c.ID, ContainerName: c.Name, Target: c.Target, Lineage: lineage(c.Config.Labels)}
	hc := c.HostConfig
	shared := hc.NetworkMode.IsContainer() || hc.NetworkMode.IsHost()
	net, _, err := spec.SplitSysctls(hc.Sysctls, shared, hc.IpcMode.IsHost(), hc.UTSMode.IsHost())
	if err != nil || c.Target != "" {
		return r, err
	}
	if !shared {
		r.Sysctls = over(netDefaults, net)
	}
	r.DNS, r.Search, r.Exposed = e.dnsWish(hc).DNS, e.searchDomains(hc), exposedPorts(c.Config)
	own := e.ownNetwork(hc.NetworkMode)
	numbers := numbered(c.Networks, c.Numbers, own)
	for name, ep := range c.Networks {
		w := wish(name, ep)
		w.Number = numbers[name]
		if n, err := e.cfg.Network.Network(name); err != nil || n.HasNames() {
			w.Names = knownAs(c, w.Aliases)
		}
		w.Links = e.linkWishes(c, name)
		r.Endpoints = append(r.Endpoints, w)
	}
	slices.SortFunc(r.Endpoints, func(a, b network.EndpointWish) int {
		return cmp.Or(behind(a.Network, own)-behind(b.Network, own), cmp.Compare(a.Number, b.Number))
	})
	r.Publish, err = requests(c.Config, hc)
	return r, err
}

// lineage is what Compose's labels say that a container is a version of.
func lineage(labels map[string]string) string {
	const compose = "com.docker.compose."
	project, service, number := labels[compose+"project"], labels[compose+"service"], labels[compose+"container-number"]
	if project == "" || service == "" || number == "" {
		return ""
	}
	return compose + project + "/" + service + "/" + number
}

func wish(name string, ep *apinetwork.EndpointSettings) network.EndpointWish {
	w := network.EndpointWish{Network: name}
	if ep == nil {
		return w
	}
	if ep.IPAMConfig != nil {
		w.IPv4, w.IPv6, w.LinkLocal = ep.IPAMConfig.IPv4Address, ep.IPAMConfig.IPv6Address, ep.IPAMConfig.LinkLocalIPs
	}
	w.MAC = strings.ToLower(ep.MacAddress.String())
	w.Aliases, w.DriverOpts, w.GwPriority = ep.Aliases, ep.DriverOpts, ep.GwPriority
	return w
}

// networksThere tells which network of a definition was removed while the container
// was at rest, and what to do.
func (e *Engine) networksThere(c *Container) error {
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		if _, err := e.cfg.Network.Network(name); errors.Is(err, cnm.ErrNotFound) {
			return cnm.NotFound("network %s not found: it was removed while container %s, which belongs on it, did not run: make it again with `docker network create %s`, or take the container off it with `docker network disconnect %s %s`", name, c.Name, name, name, c.Name)
		}
	}
	return nil
}

// knownAs are a container's names on a network with names, in Docker's order
// and each once: its name, its aliases there, its short id, its host name. The
// first is what an address is resolved to.
func knownAs(c *Container, aliases []string) []string {
	var out []string
	for _, n := range slices.Concat([]string{c.Name}, aliases, []string{shortID(c.ID), c.Config.Hostname}) {
		same := func(o string) bool { return strings.EqualFold(o, n) }
		if n != "" && !slices.ContainsFunc(out, same) {
			out = append(out, n)
		}
	}
	return out
}

// verifyEndpoint refuses what can never work on any network.
func verifyEndpoint(network string, ep *apinetwork.EndpointSettings) error {
	for _, a := range ep.Aliases {
		if a == "" || strings.ContainsAny(a, " \t\n\r\x00") {
			return cnm.Invalid("invalid endpoint settings: network %s: the alias %q is no name: it must have no spaces and not be empty", network, a)
		}
	}
	for _, l := range ep.Links {
		if _, _, err := parseLink(l); err != nil {
			return err
		}
	}
	return nil
}

// requests puts the published ports in order, so that one wish has one form.
func requests(c *apicontainer.Config, hc *apicontainer.HostConfig) ([]publish.Request, error) {
	exposed := exposedPorts(c)
	ports := slices.SortedFunc(maps.Keys(hc.PortBindings), func(a, b apinetwork.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
	var bindings []publish.Binding
	for _, p := range ports {
		list := hc.PortBindings[p]
		if len(list) == 0 {
			// Docker takes a port with no binding for one with any host port.
			list = []apinetwork.PortBinding{{}}
		}
		for _, b := range list {
			x := publish.Binding{ContainerPort: p.String(), HostPort: b.HostPort}
			if b.HostIP.IsValid() {
				x.HostIP = b.HostIP.String()
			}
			bindings = append(bindings, x)
		}
	}
	return publish.FromBindings(exposed, bindings, hc.PublishAllPorts)
}

// exposedPorts are a configuration's as strings ("80/tcp"), sorted.
func exposedPorts(c *apicontainer.Config) []string {
	var out []string
	for p := range c.ExposedPorts {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}
