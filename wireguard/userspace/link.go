package userspace

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"

	"linkspan/wireguard"
)

// link is the TUN device as the WireGuard device sees it: with a bound on how many
// packets are between it and the sockets.
type link struct {
	tun.Device
	in, out *window
	count   atomic.Uint64 // packets read
	more    func() bool   // whether there is another to read
	odd     func(error)   // hears of packets that cannot be read

	mu    sync.RWMutex
	peers map[netip.Prefix]wireguard.PublicKey
	bits  []int // lengths of prefixes that are there, longest first; IPv6 as 200 more
	up    map[wireguard.PublicKey]bool
}

func newLink(d tun.Device, in, out *window, more func() bool, odd func(error)) *link {
	return &link{Device: d, in: in, out: out, more: more, odd: odd, up: map[wireguard.PublicKey]bool{}}
}

func (l *link) packets() uint64 { return l.count.Load() }

// Write implements tun.Device.
func (l *link) Write(bufs [][]byte, offset int) (int, error) {
	n, err := l.Device.Write(bufs, offset)
	l.in.done(len(bufs))
	return n, err
}

// route learns whose the addresses are.
func (l *link) route(c wireguard.Config) {
	peers := map[netip.Prefix]wireguard.PublicKey{}
	var bits []int
	for _, p := range c.Peers {
		for _, a := range p.Allowed {
			peers[a] = p.PublicKey
			if n := length(a); !slices.Contains(bits, n) {
				bits = append(bits, n)
			}
		}
	}
	slices.SortFunc(bits, func(a, b int) int { return b - a })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers, l.bits = peers, bits
}

const length6 = 200

func length(p netip.Prefix) int {
	if p.Addr().Is6() {
		return length6 + p.Bits()
	}
	return p.Bits()
}

// sessions learns who has a session.
func (l *link) sessions(up map[wireguard.PublicKey]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = up
}

// live says whether a packet goes to a peer that has a session.
func (l *link) live(packet []byte) bool {
	dst, ok := destination(packet)
	if !ok {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, n := range l.bits {
		if n >= length6 != dst.Is6() {
			continue
		}
		p, err := dst.Prefix(n % length6)
		if err != nil {
			continue
		}
		if k, ok := l.peers[p]; ok {
			return l.up[k]
		}
	}
	return false
}

// destination is a packet's (RFC 791, RFC 8200).
func destination(p []byte) (netip.Addr, bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[16:20])), true
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[24:40])), true
	}
	return netip.Addr{}, false
}
