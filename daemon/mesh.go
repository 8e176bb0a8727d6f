package daemon

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/driver"
	"linkspan/mesh"
	"linkspan/mesh/host"
	"linkspan/network"
)

// openMesh takes up this host's part in its mesh from what it remembers: etcd may be dead,
// and nothing here waits for it.
func (e *engine) openMesh(ctx context.Context) (err error) {
	e.span = &span{}
	e.span.encryption = e.newEncryption(hooked(e.keeper, e.hook), e.cfg.MeshPort("wireguard"), func() { e.mesh.Replace() })
	e.mesh, err = host.Open(ctx, e.meshConfig())
	if err != nil {
		return err
	}
	e.later(e.mesh.Close)
	return nil
}

// beginMesh lets what belongs to the mesh run in the background: the controller knows by now
// what this host has.
func (e *engine) beginMesh() {
	if m := e.mesh.Mesh(); m != nil {
		m.SetSink(e.network.Sink())
	}
	e.mesh.Begin()
}

// meshConfig hands the daemon's options to this host's part in the mesh.
func (e *engine) meshConfig() host.Config {
	c := e.cfg
	return host.Config{
		DataRoot: c.DataRoot, Hostname: hostname(), Version: e.Version, Ports: meshPorts(c), External: externalMesh(c), Local: e.store,
		Attach: func(ctx context.Context, m *mesh.Mesh) error {
			if m == nil {
				e.network.SetMesh(ctx, nil) // an interface that is nil
				return e.span.encryption.Remove(ctx)
			}
			m.SetSink(e.network.Sink())
			e.network.SetMesh(ctx, m)
			return nil
		},
		Place: e.meshPlace, Way: e.meshWay, Used: e.meshUsed, Busy: e.meshBusy,
		Beside: []func(context.Context, host.Inside){e.span.encryption.Beside, e.span.check(e), e.span.watch(e)},
		Paths:  e.meshPaths, Measure: e.span.measure, Check: e.span.checked,
		Rotate: e.span.encryption.Rotate, Encryption: e.span.encryption.String,
		Log: e.log, Hook: e.hook,
	}
}

func meshPorts(c *config.Config) host.Ports {
	return host.Ports{Gate: c.MeshPort("gate"), Etcd: c.MeshPort("etcd"), Peer: c.MeshPort("etcd-peer"), Check: c.MeshPort("check"),
		VXLAN: c.MeshPort("vxlan"), Secure: c.MeshPort("vxlan-secure"), Encryption: c.MeshPort("wireguard")}
}

func externalMesh(c *config.Config) *host.External {
	if c.Mesh == "" {
		return nil
	}
	return &host.External{Endpoints: c.MeshEndpoints(), CA: c.MeshCA, Cert: c.MeshCert, Key: c.MeshKey, User: c.MeshUser, PasswordFile: c.MeshPasswordFile, Listen: c.MeshListen, Name: c.MeshName}
}

// meshPlace is where this host's address on the wire of the mesh is, and what was found
// out about it.
func (e *engine) meshPlace(at netip.Addr) mesh.Place {
	dev, _, mtu, _, err := e.kernel.Place(context.Background(), at)
	if err != nil {
		e.log.Warn("the device of this host's address in the mesh is not known", "address", at, "err", err)
	}
	s := e.span
	s.mu.Lock()
	p := mesh.Place{Dev: dev, MTU: mtu, PathMTU: s.pathMTU, SoftChecksums: s.spoilt}
	s.mu.Unlock()
	return s.encryption.Place(p, at)
}

// meshWay is how packets leave to a peer. Without a route there is none.
func (e *engine) meshWay(peer netip.Addr) mesh.Way {
	w, err := e.kernel.Way(context.Background(), peer)
	if err != nil {
		return mesh.Way{}
	}
	return mesh.Way{Dev: w.Dev, OnLink: w.OnLink(), MTU: w.MTU}
}

// networkMesh is the mesh that this host is in already, or nil.
func (e *engine) networkMesh() network.Mesh {
	if m := e.mesh.Mesh(); m != nil {
		return m
	}
	return nil
}

// meshUsed are the prefixes that this host uses itself, outside of the mesh's networks:
// its routes, and its own networks.
func (e *engine) meshUsed(ctx context.Context) (out []mesh.Used) {
	var global []netip.Prefix
	for _, n := range e.network.Networks() {
		for _, p := range n.Pools {
			if n.Global() {
				global = append(global, p.Subnet)
			} else if p.Subnet.IsValid() {
				out = append(out, mesh.Used{Prefix: p.Subnet, What: "network " + n.Name})
			}
		}
	}
	routes, err := e.kernel.HostRoutes(ctx)
	if err != nil {
		e.log.Debug("what this host uses itself is not told to the mesh", "err", err)
		return out
	}
	for _, r := range routes {
		inMesh := slices.ContainsFunc(global, func(g netip.Prefix) bool { return g.Bits() <= r.Prefix.Bits() && g.Contains(r.Prefix.Addr()) })
		loop := r.Prefix.Addr().IsLoopback() || r.Prefix.Addr().IsLinkLocalUnicast() || r.Prefix.Addr().IsMulticast()
		if !inMesh && !loop && !slices.ContainsFunc(out, func(u mesh.Used) bool { return u.Prefix == r.Prefix }) {
			out = append(out, mesh.Used{Prefix: r.Prefix, What: r.What})
		}
	}
	slices.SortFunc(out, func(a, b mesh.Used) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return out
}

// meshBusy names the containers that are on networks of the mesh.
func (e *engine) meshBusy() (out []string) {
	for _, n := range e.network.Networks() {
		if !n.Global() {
			continue
		}
		for _, s := range e.network.On(n.ID) {
			if !slices.Contains(out, s.OwnerName) {
				out = append(out, s.OwnerName)
			}
		}
	}
	slices.Sort(out)
	return out
}

// meshPaths are the ways that packets of each kind of network take to a peer: what the
// drivers answer for a network of theirs without options, and for an encrypted one.
func (e *engine) meshPaths(p cnm.Peer) (out []host.PathStatus) {
	m := e.mesh.Mesh()
	if m == nil {
		return nil
	}
	env := e.env(e.cfg)
	if env.Underlay = m.Underlay(); env.Underlay == nil {
		return nil
	}
	subnet := netip.MustParsePrefix("192.0.2.0/24") // RFC 5737
	add := func(kind string, d driver.Spanner, options map[string]string) {
		n := &cnm.Network{ID: strings.Repeat("0", 64), Name: "(any)", Driver: d.Name(), Scope: cnm.ScopeGlobal, Options: options,
			Pools: []cnm.Pool{{Subnet: subnet, Gateway: subnet.Addr().Next()}}, VNIs: []uint32{1}}
		path := d.Path(env, n, p)
		if path.Kind == cnm.PathVXLAN {
			path.Dev = cmp.Or(p.Dev, env.Underlay.Dev) // that of the network's own has its id in its name
		}
		for i := range out {
			if out[i].Kind == path.Kind && out[i].Dev == path.Dev && out[i].MTU == path.MTU {
				out[i].For = append(out[i].For, kind)
				return
			}
		}
		out = append(out, host.PathStatus{For: []string{kind}, Path: path})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Drivers)) {
		if d, ok := e.Drivers[name].(driver.Spanner); ok {
			add(name, d, nil)
		}
	}
	if d, ok := e.Drivers["overlay"].(driver.Spanner); ok {
		add("encrypted", d, map[string]string{"encrypted": ""})
	}
	return out
}
