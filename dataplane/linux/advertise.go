package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/netns"
)

// advertiser tells neighbours of new addresses, in the background: the first time
// when the wire has had a moment to come up. Each telling opens its own socket, so
// that nothing keeps a sandbox that went meanwhile.
type advertiser struct {
	k      *Kernel
	mu     sync.Mutex
	closed bool
	timers map[*time.Timer]bool
	busy   sync.WaitGroup
}

// firstAfter lets both ends of the wire come up.
const firstAfter = 20 * time.Millisecond

func (v *advertiser) tell(o dataplane.Addr) {
	if o.NS != "" && o.Advertise.Times > 0 {
		v.after(firstAfter, o)
	}
}

func (v *advertiser) after(d time.Duration, o dataplane.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	v.busy.Add(1)
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		defer v.busy.Done()
		v.mu.Lock()
		delete(v.timers, t)
		v.mu.Unlock()
		if err := advertise(o); err != nil {
			v.k.log.Debug("a new address is not told to its neighbours", "addr", o.Prefix, "err", err)
			if !errors.Is(err, unix.ENETDOWN) { // a busy machine may take longer to bring it up
				return // the sandbox or its link went
			}
		}
		if o.Advertise.Times--; o.Advertise.Times > 0 {
			v.after(o.Advertise.Every, o)
		}
	})
	v.timers[t] = true
}

func (v *advertiser) close() {
	v.mu.Lock()
	v.closed = true
	for t := range v.timers {
		if t.Stop() {
			v.busy.Done()
		}
	}
	v.mu.Unlock()
	v.busy.Wait()
}

// advertise sends one announcement, when the address is still there.
func advertise(o dataplane.Addr) error {
	return netns.Do(o.NS, func() error {
		link, err := net.InterfaceByName(o.Link)
		if err != nil {
			return err
		}
		addrs, err := link.Addrs()
		if err != nil {
			return err
		}
		there := false
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			there = there || err == nil && p.Addr() == o.Prefix.Addr()
		}
		if !there {
			return errors.New("the address is gone")
		}
		if len(link.HardwareAddr) != 6 {
			return fmt.Errorf("%s has no Ethernet address", o.Link)
		}
		frame, proto := announcement(link.HardwareAddr, o.Prefix.Addr())
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // receives nothing
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: link.Index})
	})
}

// announcement is an Ethernet frame that tells everyone on the wire who has the
// address now.
func announcement(mac net.HardwareAddr, a netip.Addr) (frame []byte, proto uint16) {
	if a.Is4() {
		return gratuitousARP(mac, a), unix.ETH_P_ARP
	}
	return unsolicitedNA(mac, a), unix.ETH_P_IPV6
}

// gratuitousARP is an ARP announcement (RFC 5227, 1.1 and 2.3): a request for the
// sender's own address.
func gratuitousARP(mac net.HardwareAddr, a netip.Addr) []byte {
	be := binary.BigEndian
	b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	b = be.AppendUint16(b, unix.ETH_P_ARP)
	b = be.AppendUint16(b, 1) // Ethernet
	b = be.AppendUint16(b, unix.ETH_P_IP)
	b = append(b, 6, 4)
	b = be.AppendUint16(b, 1) // request
	b = append(append(b, mac...), a.AsSlice()...)
	return append(append(b, make([]byte, 6)...), a.AsSlice()...)
}

// unsolicitedNA is a neighbour advertisement to all nodes, with the override flag
// (RFC 4861, 4.4 and 7.2.6).
func unsolicitedNA(mac net.HardwareAddr, a netip.Addr) []byte {
	be := binary.BigEndian
	all := netip.IPv6LinkLocalAllNodes()
	const icmp, hops = 32, 255 // bytes of the message; RFC 4861: what came through a router is refused
	body := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, a.AsSlice()...)
	body = append(append(body, 2, 1), mac...) // target link-layer address, in units of 8 bytes
	// The checksum covers a pseudo header (RFC 8200, 8.1).
	pseudo := append(append(a.AsSlice(), all.AsSlice()...), 0, 0, 0, icmp, 0, 0, 0, unix.IPPROTO_ICMPV6)
	be.PutUint16(body[2:], internetSum(append(pseudo, body...)))

	b := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...) // RFC 2464: all nodes
	b = be.AppendUint16(b, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0, 0, icmp, unix.IPPROTO_ICMPV6, hops)
	b = append(append(b, a.AsSlice()...), all.AsSlice()...)
	return append(b, body...)
}

// internetSum is the checksum of RFC 1071 over an even number of bytes.
func internetSum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
