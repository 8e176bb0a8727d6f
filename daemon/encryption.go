package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/host"
	"linkspan/wireguard"
	"linkspan/wireguard/kernel"
)

// encryption is this host's encrypted tunnels as long as it is in a mesh: it tells the
// manager what the mesh knows.
type encryption struct {
	manager *wireguard.Manager
	// busy says whether there are encrypted networks.
	busy func() bool
	log  *slog.Logger
	// published is where the manager's key goes: the mesh that this host is in.
	target chan *mesh.Mesh
}

// lookEvery is how often it is looked whether there are encrypted networks: only how
// sessions are kept depends on it.
const lookEvery = 15 * time.Second

// newEncryption makes it; nothing is made on the host before it runs in a mesh. changed is called when what Place answers is
// another: the device is there, or is not.
func (e *engine) newEncryption(k wireguard.Keeper, port uint16, changed func()) *encryption {
	return newEncryption(wireguard.ManagerConfig{
		Dir: host.Folder(e.cfg.DataRoot), Device: "ls-w" + e.instance, Port: port,
		Kernel: kernel.New(), UserSpace: wireguard.InKeeper(k), Changed: changed, Log: e.log,
	}, e.encrypted)
}

func newEncryption(c wireguard.ManagerConfig, busy func() bool) *encryption {
	x := &encryption{busy: busy, log: c.Log, target: make(chan *mesh.Mesh, 1)}
	x.target <- nil
	c.Publish = func(k wireguard.PublicKey) {
		m := <-x.target
		x.target <- m
		if m != nil {
			m.SetKey(k.String())
		}
	}
	x.manager = wireguard.NewManager(c)
	return x
}

// encrypted says whether any network of the mesh is.
func (e *engine) encrypted() bool {
	for _, n := range e.network.Networks() {
		if _, ok := n.Options["encrypted"]; ok && n.Global() {
			return true
		}
	}
	return false
}

// Beside runs the tunnels for one mesh (host.Config.Beside).
func (x *encryption) Beside(ctx context.Context, in host.Inside) {
	<-x.target
	x.target <- in.Mesh
	defer func() { <-x.target; x.target <- nil }()
	bell := make(chan struct{}, 1)
	in.Mesh.OnHosts(func() {
		select {
		case bell <- struct{}{}:
		default:
		}
	})
	ran := make(chan struct{})
	go func() { x.manager.Run(ctx); close(ran) }()
	defer func() { <-ran }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if w, ok := x.wanted(in.Mesh, in.Ports.Encryption); ok {
			x.manager.Update(w)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-bell:
		}
	}
}

// wanted is what the mesh knows; not ok while it knows nothing.
func (x *encryption) wanted(m *mesh.Mesh, port uint16) (w wireguard.Wanted, ok bool) {
	u := m.Underlay()
	if u == nil {
		return wireguard.Wanted{Known: false, MTU: wireguard.MTU(1500, netip.Addr{})}, true // forgotten: no one is a peer
	}
	w.MTU, w.Busy = wireguard.MTU(u.PacketMTU(), u.Addr), x.busy()
	secure := m.Record().Secure
	for _, h := range m.Hosts() {
		if h.Self {
			w.Known, w.Published = true, h.Key
			continue
		}
		w.Hosts = append(w.Hosts, wireguard.Host{ID: h.ID, Name: h.Name, Key: h.Key,
			Endpoint: netip.AddrPortFrom(h.Addr, port), Addr: mesh.SecureAddr(secure, h.Number)})
	}
	return w, secure.IsValid()
}

// Place adds the device to what is known of this host's end, once it is there.
func (x *encryption) Place(p mesh.Place, addr netip.Addr) mesh.Place {
	name, userSpace, err := x.manager.Ready()
	if err != nil {
		return p
	}
	u := &cnm.Underlay{Addr: addr, MTU: p.MTU, PathMTU: p.PathMTU}
	p.Secure, p.SecureUserSpace, p.SecureMTU = name, userSpace, wireguard.MTU(u.PacketMTU(), addr)
	return p
}

// Rotate gives this host another key (host.Config.Rotate).
func (x *encryption) Rotate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return x.manager.Rotate(ctx)
}

// String is one line for `mesh status` (host.Config.Encryption).
func (x *encryption) String() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return x.manager.Report(ctx).String()
}

// Remove ends the tunnels: this host has left its mesh. Its key goes with the mesh's folder.
func (x *encryption) Remove(ctx context.Context) error { return x.manager.Remove(ctx) }
