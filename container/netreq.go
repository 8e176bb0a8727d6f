package container

import (
	"cmp"
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

// networkRequest is a container's whole wish on the network.
func (e *Engine) networkRequest(c *Container) (network.Request, error) {
	r := network.Request{ContainerID: c.ID, ContainerName: c.Name, Target: c.Target}
	hc := c.HostConfig
	shared := hc.NetworkMode.IsContainer() || hc.NetworkMode.IsHost()
	net, _, err := spec.SplitSysctls(hc.Sysctls, shared, hc.IpcMode.IsHost(), hc.UTSMode.IsHost())
	if err != nil || c.Target != "" {
		return r, err
	}
	if !shared {
		r.Sysctls = over(netDefaults, net)
	}
	own := modeNetwork(hc.NetworkMode)
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		w := wish(name, c.Networks[name])
		if name == own {
			r.Endpoints = slices.Insert(r.Endpoints, 0, w) // eth0 is the mode's
		} else {
			r.Endpoints = append(r.Endpoints, w)
		}
	}
	r.Publish, err = requests(c.Config, hc)
	return r, err
}

func wish(name string, ep *apinetwork.EndpointSettings) network.EndpointWish {
	w := network.EndpointWish{Network: name}
	if ep == nil {
		return w
	}
	if ep.IPAMConfig != nil {
		w.IPv4, w.IPv6 = ep.IPAMConfig.IPv4Address, ep.IPAMConfig.IPv6Address
	}
	w.MAC = strings.ToLower(ep.MacAddress.String())
	w.Aliases, w.DriverOpts = ep.Aliases, ep.DriverOpts
	return w
}

// requests puts the published ports in order, so that one wish has one form.
func requests(c *apicontainer.Config, hc *apicontainer.HostConfig) ([]publish.Request, error) {
	var exposed []string
	for p := range c.ExposedPorts {
		exposed = append(exposed, p.String())
	}
	slices.Sort(exposed)
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
