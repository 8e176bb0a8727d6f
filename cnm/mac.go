package cnm

import (
	"net"
	"net/netip"
)

// CheckMAC errs, with ErrInvalid, for what cannot be an interface's own address: it
// is six bytes, not all zero, and not a group's (IEEE 802: the lowest bit of the
// first byte is 0).
func CheckMAC(s string) error {
	m, err := net.ParseMAC(s)
	switch {
	case err != nil:
		return Invalid("invalid MAC address: %s: write six bytes, like 02:42:ac:11:00:02", s)
	case len(m) != 6:
		return Invalid("invalid MAC address: %s: it has %d bytes, an Ethernet address has 6", s, len(m))
	case m[0]&1 != 0:
		return Invalid("invalid MAC address: %s is a group's (multicast or broadcast), not one interface's: its first byte must be even", s)
	case m.String() == "00:00:00:00:00:00":
		return Invalid("invalid MAC address: %s: it is all zero; leave it away to have one chosen", s)
	}
	return nil
}

// MACFor is the hardware address that goes with an IPv4 address: 02:42 (locally
// administered, Docker's choice) and the address, so that it is the same after
// every restart and no neighbour's ARP cache goes stale. Empty for IPv6.
func MACFor(a netip.Addr) string {
	if !a.Is4() {
		return ""
	}
	ip := a.As4()
	return net.HardwareAddr{0x02, 0x42, ip[0], ip[1], ip[2], ip[3]}.String()
}
