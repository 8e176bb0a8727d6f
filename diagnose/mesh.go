package diagnose

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
)

// Mesh is what is known here of the other hosts.
type Mesh interface {
	// Underlay is this host's place; nil: it is in no mesh, or was forgotten by it.
	Underlay() *cnm.Underlay
	// Elsewhere are the endpoints of other hosts, on networks on which this one has some.
	Elsewhere() []Elsewhere
	// Tunnel is the encrypted tunnel to a host, by its id.
	Tunnel(ctx context.Context, host string) Tunnel
	// Away says why the common store cannot be reached, and since when; "": it can.
	Away() string
}

// Elsewhere is an endpoint on another host, and how it is reached from here.
type Elsewhere struct {
	Network *cnm.Network `json:"-"`
	Remote  cnm.Remote   `json:"remote"`
	Peer    cnm.Peer     `json:"peer"`
	Path    cnm.Path     `json:"path"`
	// Silent: its host is not heard of for so long that its names are not answered.
	Silent bool `json:"silent,omitempty"`
}

// Tunnel is the encrypted tunnel to one host.
type Tunnel struct {
	Device string
	// Err says why this host has no encrypted tunnels; "": it has.
	Err string
	// Key says whether the host has published a key, Known whether the device has it.
	Key, Known bool
	// Up: there is a session, or has been in the last three minutes; Handshake is when it
	// was begun.
	Up        bool
	Handshake time.Time
	// Endpoint is where packets for it are sent; Port is UDP.
	Endpoint netip.AddrPort
}

// elsewhere are all; none where there is no mesh.
func (w *World) elsewhere() []Elsewhere {
	if w.Mesh == nil {
		return nil
	}
	return w.Mesh.Elsewhere()
}

// ElsewhereAt is the endpoint of another host that has an address; nil: none.
func (w *World) ElsewhereAt(a netip.Addr) *Elsewhere {
	for _, x := range w.elsewhere() {
		if slices.ContainsFunc(x.Remote.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return &x
		}
	}
	return nil
}

// ElsewhereNamed are the endpoints of the container of another host that is called so:
// by its name, its id or the beginning of it, or a name that it has on a network.
func (w *World) ElsewhereNamed(name string) (all []Elsewhere) {
	id := ""
	for _, match := range []func(Elsewhere) bool{
		func(x Elsewhere) bool { return x.Remote.Container == name || x.Remote.ContainerName == name },
		func(x Elsewhere) bool { return len(name) > 1 && strings.HasPrefix(x.Remote.Container, name) },
		func(x Elsewhere) bool {
			return slices.ContainsFunc(x.Remote.Names, func(n string) bool { return strings.EqualFold(n, name) })
		},
	} {
		for _, x := range w.elsewhere() {
			if match(x) && (id == "" || x.Remote.Container == id) {
				id = x.Remote.Container
				all = append(all, x)
			}
		}
		if len(all) > 0 {
			return all
		}
	}
	return nil
}

// is makes an end that endpoint.
func (e *End) is(x *Elsewhere) {
	e.Kind, e.Elsewhere, e.Name = EndElsewhere, x, x.Called()
}

// Called is what people call it.
func (x *Elsewhere) Called() string {
	if x.Remote.ContainerName != "" {
		return x.Remote.ContainerName
	}
	return x.Remote.Container[:min(12, len(x.Remote.Container))]
}
