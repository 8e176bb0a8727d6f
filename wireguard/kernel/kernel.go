// Package kernel sets keys and peers of the kernel's WireGuard devices. The devices are
// made, sized and removed by the data plane.
package kernel

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"linkspan/cnm"
	"linkspan/wireguard"
)

// control is the part of wgctrl.Client that is used.
type control interface {
	Device(name string) (*wgtypes.Device, error)
	ConfigureDevice(name string, c wgtypes.Config) error
	Close() error
}

// Devices is the kernel's, in the network namespace of who calls it.
type Devices struct {
	open func() (control, error)

	mu sync.Mutex // one change at a time
	// set is what was last set, by name: a peer's endpoint may have become another since.
	set map[string]wireguard.Config
}

var _ wireguard.Device = (*Devices)(nil)

// New makes it. Nothing is opened before it is needed.
func New() *Devices {
	return &Devices{open: func() (control, error) { return wgctrl.New() }, set: map[string]wireguard.Config{}}
}

// with opens the kernel's door for one call: a socket that is kept would miss nothing, but
// calls are rare.
func (d *Devices) with(use func(control) error) error {
	c, err := d.open()
	if err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "WireGuard in the kernel cannot be spoken to: %w", err)
	}
	defer c.Close()
	return use(c)
}

// Set implements wireguard.Device.
func (d *Devices) Set(_ context.Context, c wireguard.Config) error {
	c, err := c.Normal()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.with(func(k control) error {
		dev, err := k.Device(c.Name)
		if err != nil {
			return deviceError(c.Name, err)
		}
		has := observed(dev, d.set[c.Name])
		change := wireguard.Diff(has, c)
		if !change.Empty() {
			if err := k.ConfigureDevice(c.Name, config(change, c)); err != nil {
				return deviceError(c.Name, err)
			}
		}
		d.set[c.Name] = c
		return nil
	})
}

// Status implements wireguard.Device.
func (d *Devices) Status(_ context.Context, name string) (st wireguard.Status, err error) {
	err = d.with(func(k control) error {
		dev, err := k.Device(name)
		if err != nil {
			return deviceError(name, err)
		}
		st = status(dev)
		return nil
	})
	return st, err
}

// Remove implements wireguard.Device.
func (d *Devices) Remove(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.set, name)
	return d.with(func(k control) error {
		var none wgtypes.Key // takes the device's key away (WGDEVICE_A_PRIVATE_KEY, linux/wireguard.h)
		err := k.ConfigureDevice(name, wgtypes.Config{PrivateKey: &none, ReplacePeers: true})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return deviceError(name, err)
		}
		return nil
	})
}

func deviceError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cnm.NotFound("the kernel has no WireGuard device %s (yet)", name)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "WireGuard device %s: %w", name, err)
}

// observed is what the device has. An endpoint that differs from what was set last has
// moved with its peer: it counts as what was set, so that it is left alone.
func observed(dev *wgtypes.Device, last wireguard.Config) wireguard.Config {
	c := wireguard.Config{Name: dev.Name, Port: uint16(dev.ListenPort)}
	if dev.PrivateKey != (wgtypes.Key{}) {
		// Only compared with what shall be; a key that is none of ours is replaced.
		c.PrivateKey, _ = wireguard.ParsePrivateKey(dev.PrivateKey.String())
	}
	wished := map[wireguard.PublicKey]netip.AddrPort{}
	for _, p := range last.Peers {
		wished[p.PublicKey] = p.Endpoint
	}
	for _, p := range dev.Peers {
		peer := wireguard.Peer{PublicKey: wireguard.PublicKey(p.PublicKey), Keepalive: p.PersistentKeepaliveInterval}
		peer.Endpoint = endpoint(p.Endpoint)
		if w, ok := wished[peer.PublicKey]; ok {
			peer.Endpoint = w
		}
		peer.Allowed = prefixes(p.AllowedIPs)
		c.Peers = append(c.Peers, peer)
	}
	return c
}

// config renders a change. The library cannot take a single prefix from a peer: all it
// shall have replace those it has.
func config(ch wireguard.Change, c wireguard.Config) wgtypes.Config {
	var out wgtypes.Config
	if ch.Key != nil {
		key := wgtypes.Key(ch.Key.Bytes())
		out.PrivateKey = &key
	}
	if ch.Port != nil {
		port := int(*ch.Port)
		out.ListenPort = &port
	}
	for _, p := range ch.Peers {
		pc := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey), Remove: p.Remove, UpdateOnly: !p.New}
		if p.Remove {
			out.Peers = append(out.Peers, pc)
			continue
		}
		if p.Endpoint.IsValid() {
			pc.Endpoint = net.UDPAddrFromAddrPort(p.Endpoint)
		}
		pc.PersistentKeepaliveInterval = p.Keepalive
		add := p.Add
		if len(p.Drop) > 0 {
			pc.ReplaceAllowedIPs, add = true, p.All
		}
		for _, a := range add {
			pc.AllowedIPs = append(pc.AllowedIPs, ipNet(a))
		}
		out.Peers = append(out.Peers, pc)
	}
	if ch.Key != nil {
		// With another key the sessions are over, and the kernel begins the next with the
		// next packet. A keepalive that is turned on anew is such a packet
		// (drivers/net/wireguard/netlink.c, set_peer).
		for _, p := range c.Peers {
			if p.Keepalive > 0 {
				off, on := time.Duration(0), p.Keepalive
				key := wgtypes.Key(p.PublicKey)
				out.Peers = append(out.Peers, wgtypes.PeerConfig{PublicKey: key, UpdateOnly: true, PersistentKeepaliveInterval: &off},
					wgtypes.PeerConfig{PublicKey: key, UpdateOnly: true, PersistentKeepaliveInterval: &on})
			}
		}
	}
	return out
}

func status(dev *wgtypes.Device) wireguard.Status {
	st := wireguard.Status{Name: dev.Name, PublicKey: wireguard.PublicKey(dev.PublicKey), Port: uint16(dev.ListenPort), UserSpace: dev.Type == wgtypes.Userspace}
	for _, p := range dev.Peers {
		st.Peers = append(st.Peers, wireguard.PeerStatus{
			PublicKey: wireguard.PublicKey(p.PublicKey), Endpoint: endpoint(p.Endpoint), Handshake: when(p.LastHandshakeTime),
			Received: uint64(max(p.ReceiveBytes, 0)), Sent: uint64(max(p.TransmitBytes, 0)), Allowed: prefixes(p.AllowedIPs),
		})
	}
	slices.SortFunc(st.Peers, func(a, b wireguard.PeerStatus) int { return slices.Compare(a.PublicKey[:], b.PublicKey[:]) })
	return st
}

// when is zero for never, which the kernel tells as second 0.
func when(t time.Time) time.Time {
	if t.IsZero() || t.UnixNano() == 0 {
		return time.Time{}
	}
	return t
}

func endpoint(a *net.UDPAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func prefixes(nets []net.IPNet) (out []netip.Prefix) {
	for _, n := range nets {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			ones, _ := n.Mask.Size()
			out = append(out, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
