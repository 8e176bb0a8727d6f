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
