package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/netns"
)

// Capture is what passed a switch while it ran (packet(7)).
type Capture struct {
	mu     sync.Mutex
	frames [][]byte
	stop   chan struct{}
	done   chan struct{}
}

// maxFrames bounds what a capture keeps.
const maxFrames = 200_000

// Capture records every frame that a host sends to, or gets from, the switch, until End.
func (s *Switch) Capture(h *Host) *Capture {
	t := s.host.lab.t
	t.Helper()
	c := &Capture{stop: make(chan struct{}), done: make(chan struct{})}
	var fd int
	if err := netns.Do(s.host.NS, func() (err error) { fd, err = packetSocket(s.port(h)); return err }); err != nil {
		t.Fatalf("lab: capture at %s: %v", h.Name, err)
	}
	go c.read(fd)
	t.Cleanup(func() { c.End() })
	return c
}

// packetSocket hears and sends whole frames on a device of the namespace that it is
// called in; a read waits 50 ms at most.
func packetSocket(dev string) (int, error) {
	// Protocol 0: deaf until it is bound, so that no other device is heard.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ifr, err := unix.NewIfreq(dev)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	}
	if err == nil {
		const all = unix.ETH_P_ALL
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8&0xff00 | all>>8, Ifindex: int(ifr.Uint32())})
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func (c *Capture) read(fd int) {
	defer close(c.done)
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == nil && n > 0 {
			c.mu.Lock()
			if len(c.frames) < maxFrames {
				c.frames = append(c.frames, bytes.Clone(buf[:n]))
			}
			c.mu.Unlock()
			continue
		}
		select {
		case <-c.stop:
			return
		default:
		}
	}
}

// End stops it, and returns the frames.
func (c *Capture) End() [][]byte {
	c.mu.Lock()
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.mu.Unlock()
	<-c.done
	return c.frames
}

// Packet is what a captured frame says of itself: an IPv4 or IPv6 packet, or ARP.
type Packet struct {
	ARP      bool
	Src, Dst netip.Addr
	Proto    byte // IP protocol; of fragments and IPv6 extension headers nothing more is read
	SrcPort  uint16
	DstPort  uint16
	Payload  []byte // of UDP and TCP what follows the ports' header
}

// Read takes a frame apart.
func Read(frame []byte) (p Packet, ok bool) {
	if len(frame) < 14 {
		return p, false
	}
	b := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return Packet{ARP: true}, true
	case unix.ETH_P_IP:
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return p, false
		}
		p.Src, p.Dst, p.Proto = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9]
		b = b[int(b[0]&15)*4:]
	case unix.ETH_P_IPV6:
		if len(b) < 40 {
			return p, false
		}
		p.Src, p.Dst, p.Proto = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6]
		b = b[40:]
	default:
		return p, false
	}
	head := map[byte]int{unix.IPPROTO_UDP: 8, unix.IPPROTO_TCP: 20}[p.Proto]
	if head > 0 && len(b) >= head {
		p.SrcPort, p.DstPort, p.Payload = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[head:]
	}
	return p, true
}

// VXLAN returns the network identifier and the inner frame of a VXLAN packet (RFC 7348,
// 5) to the port.
func (p Packet) VXLAN(port uint16) (vni uint32, inner []byte, ok bool) {
	if p.Proto != unix.IPPROTO_UDP || p.DstPort != port || len(p.Payload) < 8 || p.Payload[0]&8 == 0 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(p.Payload[4:]) >> 8, p.Payload[8:], true
}

// Holds says whether any captured frame holds the text.
func (c *Capture) Holds(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if bytes.Contains(f, []byte(text)) {
			return true
		}
	}
	return false
}

// Until waits until a frame that passes is captured.
func (c *Capture) Until(passes func(Packet) bool) error {
	seen := 0
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		for ; seen < len(c.frames); seen++ {
			if p, ok := Read(c.frames[seen]); ok && passes(p) {
				c.mu.Unlock()
				return nil
			}
		}
		c.mu.Unlock()
		if time.Now().After(deadline) {
			return fmt.Errorf("lab: no such packet among %d within %v", seen, Patience)
		}
	}
}
