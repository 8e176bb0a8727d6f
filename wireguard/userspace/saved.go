package userspace

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"golang.zx2c4.com/wireguard/device"

	"linkspan/cnm"
	"linkspan/wireguard"
)

// Saved is a tunnel on its way into another process. Descriptors are numbers there; -1 is
// none. Sessions cannot go along (the library does not give their keys away): they are
// begun anew at once, which costs a round trip and what was under way.
type Saved struct {
	Config wireguard.Config
	Secret string // the private key
	TUN    int
	UDP4   int
	UDP6   int
	// Peers are the counters, so that they never go back.
	Peers []wireguard.PeerStatus
}

// Freeze ends the tunnel here and describes it. take copies a descriptor that shall go
// over; the network device lives on by that copy.
func (t *Tunnel) Freeze(take func(syscall.Conn) int) Saved {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.status()
	s := Saved{Config: t.config, Secret: t.config.PrivateKey.Secret(), TUN: take(t.file), UDP4: -1, UDP6: -1, Peers: st.Peers}
	sockets := t.bind.current()
	for _, f := range []struct {
		conn *net.UDPConn
		fd   *int
	}{{sockets.v4, &s.UDP4}, {sockets.v6, &s.UDP6}} {
		if f.conn != nil {
			*f.fd = take(f.conn)
		}
	}
	t.dev.Close()
	sockets.close()
	return s
}

// Resume goes on with a tunnel of another process. The files are its own, also when it errs.
func Resume(logger *slog.Logger, s Saved, tun, udp4, udp6 *os.File) (*Tunnel, error) {
	key, err := wireguard.ParsePrivateKey(s.Secret)
	if err == nil {
		s.Config.PrivateKey = key
		s.Config, err = s.Config.Normal()
	}
	if err == nil && tun == nil {
		err = cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: its TUN device did not come over", s.Config.Name)
	}
	if err != nil {
		for _, f := range []*os.File{tun, udp4, udp6} {
			if f != nil {
				f.Close()
			}
		}
		return nil, err
	}
	sockets, err := inherit(udp4, udp6)
	if err != nil {
		tun.Close()
		return nil, fmt.Errorf("tunnel %s: %w", s.Config.Name, err)
	}
	former := map[wireguard.PublicKey]wireguard.PeerStatus{}
	for _, p := range s.Peers {
		former[p.PublicKey] = p
		// Where it was heard from is better known than where it was expected.
		for i := range s.Config.Peers {
			if c := &s.Config.Peers[i]; c.PublicKey == p.PublicKey && p.Endpoint.IsValid() {
				c.Endpoint = p.Endpoint
			}
		}
	}
	t, err := begin(logger, s.Config, tun, sockets, former)
	if err != nil {
		sockets.close()
		return nil, err
	}
	// If the network device is down, the device hears of that and follows.
	if err := t.dev.Up(); err != nil {
		t.Close()
		return nil, cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: %w", s.Config.Name, err)
	}
	t.greet(func(k device.NoisePublicKey) bool { return !former[wireguard.PublicKey(k)].Handshake.IsZero() })
	return t, nil
}
