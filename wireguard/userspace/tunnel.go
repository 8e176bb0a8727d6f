// Package userspace runs a WireGuard device in this process, for hosts whose kernel has
// none: packets come and go by a TUN device in the process's network namespace. It lives
// in the keeper, so that it outlives the daemon, and can be handed over to another
// process.
package userspace

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"linkspan/cnm"
	"linkspan/wireguard"
)

// Tunnel is one device.
type Tunnel struct {
	logger *slog.Logger
	file   *os.File // the TUN device's, which tun has too
	bind   *bind
	link   *link
	dev    *device.Device
	closed chan struct{}

	mu     sync.Mutex
	config wireguard.Config // what dev has
	// former is what was counted by the process that had this device before.
	former map[wireguard.PublicKey]wireguard.PeerStatus
	quiet  map[wireguard.PublicKey]time.Time // since when a peer has had no session
	read   uint64                            // of the link, at the last look
}

// Open makes a tunnel. Its network device is there when Open returns, down; whoever sets
// it up begins the traffic.
func Open(logger *slog.Logger, c wireguard.Config) (*Tunnel, error) {
	c, err := c.Normal()
	if err != nil {
		return nil, err
	}
	s, err := listen(c.Port)
	if err != nil {
		return nil, err
	}
	file, err := openTUN(c.Name)
	if err == nil {
		var t *Tunnel
		if t, err = begin(logger, c, file, s, nil); err == nil {
			return t, nil
		}
	}
	s.close()
	return nil, err
}

// openTUN makes a TUN device.
func openTUN(name string) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: %s: %w; load the module tun (CONFIG_TUN)", name, path, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		// With a virtio header before each packet, the kernel hands over up to 64 KiB of a
		// TCP stream at once. IFF_TUN_EXCL: a device that is there is someone else's
		// (linux/if_tun.h; drivers/net/tun.c, tun_set_iff).
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), path), nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EINVAL):
		err = cnm.Conflict("tunnel %s: a network device of that name is there and is not ours (%w): remove or rename it", name, err)
	default:
		err = cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: the TUN device cannot be made: %w", name, err)
	}
	unix.Close(fd)
	return nil, err
}

// begin runs a tunnel on a TUN device and sockets. The file is its own, also when it errs.
func begin(logger *slog.Logger, c wireguard.Config, file *os.File, s *sockets, former map[wireguard.PublicKey]wireguard.PeerStatus) (*Tunnel, error) {
	logger = logger.With("tunnel", c.Name)
	td, err := tun.CreateTUNFromFile(file, c.MTU)
	var raw syscall.RawConn
	if err == nil {
		raw, err = file.SyscallConn()
	}
	if err != nil {
		file.Close()
		return nil, cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: its TUN device cannot be used: %w", c.Name, err)
	}
	t := &Tunnel{
		logger: logger, file: file, former: former, closed: make(chan struct{}),
		quiet: map[wireguard.PublicKey]time.Time{},
	}
	in, out := newWindow(), newWindow()
	t.bind = newBind(logger, s, in, out)
	said := deviceLogger(logger)
	t.link = newLink(td, in, out, newWaiting(raw).more, func(err error) { said.Errorf("a packet was dropped: %v", err) })
	t.dev = device.NewDevice(t.link, t.bind, said)
	if err := t.apply(wireguard.Diff(wireguard.Config{Port: c.Port}, c)); err != nil {
		t.dev.Close()
		return nil, err
	}
	t.config = c
	t.link.route(c)
	go t.watch()
	return t, nil
}

// Set makes the tunnel c's, by what is different.
func (t *Tunnel) Set(c wireguard.Config) error {
	c, err := c.Normal()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Name != t.config.Name {
		return cnm.Invalid("tunnel %s cannot become %s", t.config.Name, c.Name)
	}
	change := wireguard.Diff(t.config, c)
	if change.Port != nil {
		s, err := listen(*change.Port)
		if err != nil {
			return err
		}
		t.bind.replace(s).close() // which ends those that read them; BindUpdate waits for that
		if err := t.dev.BindUpdate(); err != nil {
			return cnm.Errorf(cnm.ErrUnavailable, "tunnel %s: port %d: %w", c.Name, c.Port, err)
		}
		t.config.Port = c.Port
	}
	if err := t.apply(change); err != nil {
		return err
	}
	c.MTU = t.config.MTU // the data plane's
	t.config = c
	t.link.route(c)
	return nil
}

// apply hands a change to the device.
func (t *Tunnel) apply(c wireguard.Change) error {
	text := uapi(c)
	if text == "" {
		return nil
	}
	if err := t.dev.IpcSet(text); err != nil {
		return fmt.Errorf("tunnel: the device refuses its configuration: %w", err)
	}
	if c.Key != nil {
		// Sessions of the former key send nothing more: the next are begun at once, not
		// with the next packet.
		t.greet(func(device.NoisePublicKey) bool { return true })
	}
	return nil
}

// greet begins sessions with peers by sending them an empty packet.
func (t *Tunnel) greet(whom func(device.NoisePublicKey) bool) {
	for _, line := range t.state().Peers {
		key := device.NoisePublicKey(line.PublicKey)
		if p := t.dev.LookupPeer(key); p != nil && whom(key) {
			p.SendKeepalive()
		}
	}
}

// state is the device's own state.
func (t *Tunnel) state() wireguard.Status {
	text, err := t.dev.IpcGet()
	if err != nil {
		t.logger.Error("the tunnel's state cannot be read", "err", err)
		return wireguard.Status{}
	}
	st, err := parseState(text)
	if err != nil {
		t.logger.Error("the tunnel's state cannot be read", "err", err)
	}
	return st
}

// Status is how the tunnel is.
func (t *Tunnel) Status() wireguard.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status()
}

func (t *Tunnel) status() wireguard.Status {
	st := t.state()
	st.Name, st.Port, st.UserSpace = t.config.Name, t.config.Port, true
	st.PublicKey = t.config.PrivateKey.Public()
	select {
	case <-t.closed:
		st.Err = "its TUN device was removed"
	default:
	}
	for i := range st.Peers {
		p := &st.Peers[i]
		f, ok := t.former[p.PublicKey]
		if !ok {
			continue
		}
		p.Received, p.Sent = p.Received+f.Received, p.Sent+f.Sent
		if p.Handshake.IsZero() {
			p.Handshake = f.Handshake
		}
	}
	return st
}

// Ended is closed when the TUN device is gone, because it was closed or because someone
// deleted it.
func (t *Tunnel) Ended() <-chan struct{} { return t.closed }

// Close ends the tunnel, and its network device with it.
func (t *Tunnel) Close() {
	t.dev.Close()
	t.bind.current().close()
}

// lookEvery is how often it is looked which peers have no session.
const lookEvery = time.Second

// patience is how long packets to a peer without a session are kept at most, from when it
// had none. The library keeps 90 s of them, each in a buffer of 64 KiB; who has no session
// after ten seconds is away, and a TCP segment that comes too late is only a copy of one
// that was sent again.
const patience = 10 * time.Second

// watch keeps who is without a session from filling the memory.
func (t *Tunnel) watch() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.dev.Wait():
			close(t.closed)
			return
		case now := <-tick.C:
			t.look(now)
		}
	}
}

func (t *Tunnel) look(now time.Time) {
	read := t.link.packets()
	t.mu.Lock()
	defer t.mu.Unlock()
	if read == t.read {
		return // nothing was sent: nothing waits
	}
	t.read = read
	up := map[wireguard.PublicKey]bool{}
	for _, p := range t.state().Peers {
		if p.Up(now) {
			up[p.PublicKey] = true
			delete(t.quiet, p.PublicKey)
			continue
		}
		since, ok := t.quiet[p.PublicKey]
		if !ok {
			t.quiet[p.PublicKey] = now
		} else if peer := t.dev.LookupPeer(device.NoisePublicKey(p.PublicKey)); peer != nil && now.Sub(since) > patience {
			peer.FlushStagedPackets()
		}
	}
	t.link.sessions(up)
}
