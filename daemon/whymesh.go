package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/diagnose"
	"linkspan/wireguard"
)

// others shows those who explain what is known of other hosts.
type others struct{ e *engine }

// Underlay implements diagnose.Mesh.
func (o others) Underlay() *cnm.Underlay {
	if m := o.e.mesh.Mesh(); m != nil {
		return m.Underlay()
	}
	return nil
}

// Elsewhere implements diagnose.Mesh.
func (o others) Elsewhere() (all []diagnose.Elsewhere) {
	for _, s := range o.e.network.Spans() {
		of := map[string][]cnm.Remote{}
		for _, r := range o.e.network.Remotes(s.Network.ID) {
			of[r.Host] = append(of[r.Host], r)
		}
		for _, h := range s.Hosts {
			for _, r := range of[h.Peer.ID] {
				all = append(all, diagnose.Elsewhere{Network: s.Network, Remote: r, Peer: h.Peer, Path: h.Path, Silent: h.Silent})
			}
		}
	}
	return all
}

// Tunnel implements diagnose.Mesh.
func (o others) Tunnel(ctx context.Context, hostID string) (t diagnose.Tunnel) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return tunnelOf(o.e.span.encryption.manager.Report(ctx), hostID)
}

func tunnelOf(r wireguard.Report, hostID string) diagnose.Tunnel {
	t := diagnose.Tunnel{Device: r.Device, Err: r.Err}
	for _, h := range r.Hosts {
		if h.ID == hostID {
			t.Key, t.Known, t.Up, t.Handshake = h.Key, h.Peer, h.Up, h.Handshake
			t.Endpoint, _ = netip.ParseAddrPort(h.Endpoint)
		}
	}
	return t
}

// Away implements diagnose.Mesh.
func (o others) Away() string {
	m := o.e.mesh.Mesh()
	if m == nil {
		return ""
	}
	s := m.Status()
	if s.Reachable || s.Err == nil {
		return ""
	}
	return fmt.Sprintf("%v (since %s)", s.Err, s.Since.Format(time.TimeOnly))
}
