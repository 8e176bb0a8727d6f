package cnm

import (
	"net"
	"net/netip"
)

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
