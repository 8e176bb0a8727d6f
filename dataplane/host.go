package dataplane

import "net/netip"

// Facts of the host, as dataplane/linux tells them. They are no objects: nothing is
// made or judged of them.

// HostLink is what a link of the host is.
type HostLink struct {
	Exists bool
	Bridge bool
	Ours   bool // carries this instance's mark
	What   string
	Addrs  []netip.Prefix // without link-local IPv6
	MTU    int
}

// HostRoute is a prefix that the host uses, and for what.
type HostRoute struct {
	Prefix netip.Prefix
	What   string // "route via dev tun0", "address of eth0"
}

// LinkStats are the counters of one interface of a sandbox, as those inside see
// them.
type LinkStats struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Way is how packets of this host's own leave to an address.
type Way struct {
	// Dev is the device that they leave by; Local says that the address is the host's own.
	Dev   string
	Local bool
	// Via is the next router; zero: the address is on the link.
	Via netip.Addr
	// Src is the address that they leave with.
	Src netip.Addr
	// MTU is the largest packet, in bytes, that the device and the route take, what was
	// learned of the path (PMTU) included; DevMTU is the device's alone.
	MTU, DevMTU int
}

// OnLink says that no router is between.
func (w Way) OnLink() bool { return !w.Via.IsValid() && !w.Local }
