// Package reading is what the live kernel says to those who explain it: interfaces,
// routes, neighbours, sockets, flows. It is types and one interface; dataplane/live
// asks the kernel. Nothing here can change anything.
package reading

import (
	"context"
	"net/netip"
	"time"

	"linkspan/dataplane/ruleset"
)

// Reader reads the live kernel. ns is the path of a pinned network namespace; "" is the
// daemon's own. A namespace that is not there is fs.ErrNotExist. Methods are safe for
// concurrent use, and change nothing.
type Reader interface {
	// Interfaces are the links of a namespace with their addresses, by index.
	Interfaces(ctx context.Context, ns string) ([]Interface, error)
	// Route asks the kernel where it would send a packet (RTM_GETROUTE, as `ip route
	// get` does). That there is no route is no error but an answer: see RouteAnswer.Err.
	Route(ctx context.Context, ns string, q RouteQuery) (RouteAnswer, error)
	// Routes are all routes of a namespace's main and local tables, and of those that
	// its policy rules name.
	Routes(ctx context.Context, ns string) ([]Route, error)
	// Neighbours are the entries of ARP and neighbour discovery.
	Neighbours(ctx context.Context, ns string) ([]Neighbour, error)
	// FDB are the bridges' forwarding entries.
	FDB(ctx context.Context, ns string) ([]FDBEntry, error)
	// Sockets are who listens: TCP and SCTP listeners and bound UDP sockets.
	Sockets(ctx context.Context, ns string) ([]Socket, error)
	// Flows are conntrack's entries that the filter lets through.
	Flows(ctx context.Context, ns string, f FlowFilter) ([]Flow, error)
	// Ruleset is the whole nftables ruleset, everyone's.
	Ruleset(ctx context.Context, ns string) (*ruleset.Ruleset, error)
	// Sysctl reads one by its path below /proc/sys ("net/ipv4/ip_forward").
	Sysctl(ctx context.Context, ns, name string) (string, error)
}

// Interface is one link.
type Interface struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	Kind  string `json:"kind,omitempty"` // "veth", "bridge", …; "" for hardware
	MAC   string `json:"mac,omitempty"`
	MTU   int    `json:"mtu"` // bytes
	// Up is the administrator's wish; Carrier says that the other end is there.
	Up      bool `json:"up"`
	Carrier bool `json:"carrier"`
	// NoARP: it does not ask who has an address.
	NoARP bool `json:"noarp,omitempty"`
	// CallIPTables: a bridge that shows its packets to the IP hooks, whatever the sysctl
	// net.bridge.bridge-nf-call-iptables says.
	CallIPTables bool `json:"call_iptables,omitempty"`
	// Master is the bridge (or bond) that it is a port of.
	Master string `json:"master,omitempty"`
	// Peer is the index of the other end of a veth pair, in whatever namespace it is.
	Peer  int            `json:"peer,omitempty"`
	Group uint32         `json:"group,omitempty"`
	Addrs []netip.Prefix `json:"addrs,omitempty"`
	// Tentative are the addresses of Addrs that duplicate address detection has not let
	// through, or has refused (RFC 4862).
	Tentative []netip.Addr `json:"tentative,omitempty"`
	Stats     Counters     `json:"stats"`
	// Filters are programs that may drop or redirect what passes it, and that are not
	// read: "tc ingress", "tc egress", "xdp".
	Filters []string `json:"filters,omitempty"`
	// Port is how its bridge treats it; nil when it is no bridge's port.
	Port *BridgePort `json:"port,omitempty"`
}

// BridgePort is what a bridge knows of one of its ports.
type BridgePort struct {
	State    string `json:"state"` // of STP: "forwarding", "disabled", "blocking", …
	Hairpin  bool   `json:"hairpin,omitempty"`
	Isolated bool   `json:"isolated,omitempty"`
	Learning bool   `json:"learning,omitempty"`
}

// Counters of an interface, as its own namespace sees them.
type Counters struct {
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors,omitempty"`
	RxDropped uint64 `json:"rx_dropped,omitempty"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors,omitempty"`
	TxDropped uint64 `json:"tx_dropped,omitempty"`
}

// RouteQuery is a packet for which a route is asked. Zero fields are left away.
type RouteQuery struct {
	Src, Dst         netip.Addr
	In               string // it comes in at this interface: the answer is of forwarding
	Out              string
	Mark             uint32
	Proto            string // "tcp", "udp", "icmp"
	SrcPort, DstPort uint16
	UID              uint32 // of the sender; policy rules can ask for it
}

// RouteAnswer is the kernel's.
type RouteAnswer struct {
	// Type is "unicast", "local", "broadcast", "multicast", "blackhole",
	// "unreachable" or "prohibit"; "" when there is no route at all.
	Type string `json:"type"`
	// Link is the interface that it leaves by.
	Link    string     `json:"link,omitempty"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Src     netip.Addr `json:"src,omitzero"` // preferred source
	Table   int        `json:"table,omitempty"`
	MTU     int        `json:"mtu,omitempty"` // of the route or its cached exception; 0: the link's
	// Err is the kernel's errno in words when it refuses: "network is unreachable",
	// "invalid cross-device link" (reverse path filter).
	Err string `json:"err,omitempty"`
}

// Route is one entry of a routing table.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Link    string       `json:"link,omitempty"`
	Src     netip.Addr   `json:"src,omitzero"`
	Table   int          `json:"table"`
	Metric  int          `json:"metric,omitempty"`
	Proto   int          `json:"proto"`
	// Type is "unicast", "local", "blackhole", …; a policy rule that refuses is among
	// routes as "rule prohibit", "rule blackhole" or "rule unreachable": Dst and Link are
	// to whom and from where, Metric its priority.
	Type string `json:"type"`
}

// Neighbour is one entry of ARP (RFC 826) or neighbour discovery (RFC 4861).
type Neighbour struct {
	Link  string     `json:"link"`
	Addr  netip.Addr `json:"addr"`
	MAC   string     `json:"mac,omitempty"`
	State string     `json:"state"` // "reachable", "stale", "failed", "permanent", …
	// Updated is how long ago it changed.
	Updated time.Duration `json:"updated,omitempty"`
}

// FDBEntry is one entry of a bridge's forwarding database.
type FDBEntry struct {
	MAC    string `json:"mac"`
	Link   string `json:"link"` // the port
	Bridge string `json:"bridge,omitempty"`
	// Static entries are a person's or a program's, the others are learned.
	Static bool `json:"static,omitempty"`
	// Local entries are the bridge's own addresses and its ports': what is sent to them
	// is for this host and not forwarded.
	Local bool       `json:"local,omitempty"`
	VLAN  int        `json:"vlan,omitempty"`
	Dst   netip.Addr `json:"dst,omitzero"` // a VTEP
}

// Socket is one that waits for others.
type Socket struct {
	Proto string     `json:"proto"` // "tcp", "udp", "sctp"
	Addr  netip.Addr `json:"addr"`  // unspecified: every address of the family (and of IPv4, on a dual-stack IPv6 socket)
	Port  uint16     `json:"port"`
	// V6Only: an IPv6 socket that does not take IPv4.
	V6Only bool `json:"v6only,omitempty"`
	// Link, when the socket is bound to a device.
	Link string `json:"link,omitempty"`
	// Queue and Backlog are connections that wait to be accepted, and how many may (tcp).
	Queue   int    `json:"queue,omitempty"`
	Backlog int    `json:"backlog,omitempty"`
	Inode   uint64 `json:"inode,omitempty"`
	UID     uint32 `json:"uid"`
}

// FlowFilter lets through what matches all of its set fields, in either direction.
type FlowFilter struct {
	Proto string     // "tcp", "udp", …
	Addr  netip.Addr // of any end, before or after translation
	Port  uint16     // likewise
}

// Tuple is one direction of a flow.
type Tuple struct {
	Src netip.AddrPort `json:"src"` // port 0 where the protocol has none
	Dst netip.AddrPort `json:"dst"`
	// ID is an echo request's (ICMP): what ports are to others.
	ID uint16 `json:"id,omitempty"`
}

// Flow is one conntrack entry.
type Flow struct {
	ID    uint32 `json:"id,omitempty"`
	Proto string `json:"proto"`
	// Original is as the first packet came; Reply is what answers look like: where the
	// two are no mirror images, addresses were translated.
	Original Tuple  `json:"original"`
	Reply    Tuple  `json:"reply"`
	State    string `json:"state,omitempty"` // of TCP: "ESTABLISHED", …
	// Assured: both sides have spoken. Unreplied: only one has.
	Assured   bool   `json:"assured,omitempty"`
	Unreplied bool   `json:"unreplied,omitempty"`
	SNAT      bool   `json:"snat,omitempty"`
	DNAT      bool   `json:"dnat,omitempty"`
	Mark      uint32 `json:"mark,omitempty"`
	Zone      uint16 `json:"zone,omitempty"`
	// Counters need net.netfilter.nf_conntrack_acct; Counted says whether they are there.
	Counted                bool          `json:"counted,omitempty"`
	OutPackets, OutBytes   uint64        `json:",omitempty"`
	BackPackets, BackBytes uint64        `json:",omitempty"`
	Timeout                time.Duration `json:"timeout,omitempty"`
	// Started is known with net.netfilter.nf_conntrack_timestamp.
	Started time.Time `json:"started,omitzero"`
}
