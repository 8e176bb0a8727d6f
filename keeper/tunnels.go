package keeper

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"linkspan/cnm"
	"linkspan/wireguard"
	"linkspan/wireguard/userspace"
)

// tunnels are the encrypted tunnels of a host whose kernel has no WireGuard.
type tunnels struct {
	logger *slog.Logger

	mu   sync.Mutex // one change at a time
	held map[string]*userspace.Tunnel
}

func newTunnels(logger *slog.Logger) *tunnels {
	return &tunnels{logger: logger, held: map[string]*userspace.Tunnel{}}
}

// set makes a tunnel, or changes one.
func (t *tunnels) set(c wireguard.Config) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.held[c.Name]; x != nil {
		select {
		case <-x.Ended(): // someone deleted its device
			t.logger.Warn("a tunnel's device was deleted; it is made again", "tunnel", c.Name)
			x.Close()
			delete(t.held, c.Name)
		default:
			return x.Set(c)
		}
	}
	x, err := userspace.Open(t.logger, c)
	if err == nil {
		t.held[c.Name] = x
	}
	return err
}

func (t *tunnels) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.held[name]; x != nil {
		x.Close()
		delete(t.held, name)
	}
}

// list is what is held, by name.
func (t *tunnels) list() []wireguard.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []wireguard.Status{}
	for _, x := range t.held {
		out = append(out, x.Status())
	}
	slices.SortFunc(out, func(a, b wireguard.Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (t *tunnels) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held) == 0
}

func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.held {
		x.Close()
	}
	clear(t.held)
}

// freeze describes the tunnels and ends them here. Their devices stay, with their
// addresses and routes; packets wait in them and in the sockets for the next process.
func (t *tunnels) freeze(b *bag) []userspace.Saved {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []userspace.Saved
	for _, x := range t.held {
		out = append(out, x.Freeze(b.take))
	}
	clear(t.held)
	return out
}

// thaw goes on with them. One that cannot is lost and said: the daemon compares Tunnels
// with what it wants.
func (t *tunnels) thaw(saved []userspace.Saved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range saved {
		x, err := userspace.Resume(t.logger, s, file(s.TUN, "tun"), file(s.UDP4, "udp4"), file(s.UDP6, "udp6"))
		if err != nil {
			t.logger.Error("an encrypted tunnel was lost in the upgrade", "tunnel", s.Config.Name, "err", err)
			continue
		}
		t.held[s.Config.Name] = x
	}
}

// tunnelBody is SetTunnel's. A configuration has no encoding of its key, so that it is
// in no log; this socket, which only root and the keeper's user may speak on, has to.
type tunnelBody struct {
	Config wireguard.Config `json:"config"`
	Secret string           `json:"secret"`
}

func (s *server) setTunnel(b tunnelBody) (any, error) {
	key, err := wireguard.ParsePrivateKey(b.Secret)
	if err != nil {
		return nil, cnm.Invalid("tunnel %s: %w", b.Config.Name, err)
	}
	b.Config.PrivateKey = key
	return nil, s.tunnels.set(b.Config)
}

// SetTunnel makes an encrypted tunnel, or changes one.
func (c *Client) SetTunnel(ctx context.Context, cfg wireguard.Config) error {
	return c.call(ctx, opSetTunnel, tunnelBody{cfg, cfg.PrivateKey.Secret()}, nil)
}

// RemoveTunnel ends one.
func (c *Client) RemoveTunnel(ctx context.Context, name string) error {
	return c.call(ctx, opRemoveTunnel, idBody{name}, nil)
}

// Tunnels lists what the keeper holds, by name.
func (c *Client) Tunnels(ctx context.Context) (all []wireguard.Status, err error) {
	err = c.call(ctx, opTunnels, nil, &all)
	return all, err
}
