package ruleset

import "net/netip"

// Env is what a packet's fate depends on besides the ruleset. A function that is nil
// makes rules that need it unknown.
type Env struct {
	// Route says where a packet goes now: what came in at p.In is forwarded or
	// delivered, with In "" it is our own.
	Route func(p Packet) Route
	// AddrType is "local", "unicast", "broadcast", …, as the routing table has it; of
	// one interface when dev is not "".
	AddrType func(a netip.Addr, dev string) string
	// Link tells of an interface; false when there is none of that name.
	Link func(name string) (Link, bool)
	// First is the first address of a family that is no loopback's, of all interfaces:
	// what masquerade gives where the interface itself has none.
	First func(v6 bool) netip.Addr
}

// Route is where a packet goes.
type Route struct {
	Local   bool       `json:"local,omitempty"` // it is for this host
	Out     string     `json:"out,omitempty"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Src     netip.Addr `json:"src,omitzero"` // that the kernel would choose for our own
	// Err is why the kernel refuses. Unknown says that it is no answer at all: nobody
	// could be asked.
	Err     string `json:"err,omitempty"`
	Unknown bool   `json:"unknown,omitempty"`
}

// Link is an interface.
type Link struct {
	Index int
	Kind  string
	Group uint32
	Type  uint16 // ARPHRD_…; 1 is Ethernet
	Addrs []netip.Prefix
}

// source is the address that masquerade gives: of the interface, in the network of the
// next hop if there is one (inet_select_addr), else the first that fits.
func (l Link) source(next netip.Addr) netip.Addr {
	var first netip.Addr
	for _, a := range l.Addrs {
		ip := a.Addr()
		if ip.Is4() != next.Is4() || ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast() != next.IsLinkLocalUnicast() {
			continue
		}
		if a.Contains(next) {
			return ip
		}
		if !first.IsValid() {
			first = ip
		}
	}
	return first
}
