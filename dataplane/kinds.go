package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Namespace is a pinned network namespace: a file at Path on which the
// namespace is bind-mounted. The pin is its mark: it lies in the instance's own
// folder.
type Namespace struct {
	Meta
	Path string
}

// Bridge is a Linux bridge in the daemon's namespace.
type Bridge struct {
	Meta
	Name string
	MTU  int // bytes; 0: the kernel's default (1500)
	// MAC pins the bridge's address, so that it does not change with its first
	// port ("02:42:…"); empty: the kernel chooses.
	MAC string
	// NFCall has what is switched between its ports pass the netfilter hooks of IP,
	// whatever the host-wide bridge-nf-call switches say (needs br_netfilter).
	NFCall bool
}

// Veth is a pair: the host end in the daemon's namespace, enslaved to Master,
// the peer in the namespace pinned at PeerNS. Both are made by one message.
type Veth struct {
	Meta
	Name     string // host end
	Master   string // bridge; empty: none
	Borrowed bool   // Master was there before us and is not ours
	MTU      int    // bytes; 0: 1500
	Hairpin  bool   // bridge port flag: frames may leave by the port they came in
	Isolated bool   // bridge port flag: talks to non-isolated ports only
	PeerNS   string // pin path
	PeerName string
	PeerMAC  string // empty: random
}

// Addr is an address on a link. NS is the pin path of a sandbox, or empty for
// the daemon's namespace.
type Addr struct {
	Meta
	NS     string
	Link   string
	Prefix netip.Prefix
	// Advertise tells the neighbours of the address when it is made.
	Advertise Advertise
	// Stranded is only ever observed: the address is there, and the route to its subnet,
	// which the kernel makes with it, is not.
	Stranded bool
}

// Advertise says how often a new address is told to its neighbours (gratuitous ARP,
// RFC 5227; unsolicited neighbour advertisements, RFC 4861), so that they forget
// who had it before. Zero: never.
type Advertise struct {
	Times int
	Every time.Duration // between two of them
}

// Up says that a link is administratively up.
type Up struct {
	Meta
	NS   string
	Link string
	// Wire is set for the host's end of a veth: it comes up when all inside the
	// sandbox is made, so that one that is down says that a kill came in between.
	Wire bool
}

// Route is a unicast route. Zero Dst prefix of a family is spelt 0.0.0.0/0 or
// ::/0. Zero Via: directly connected through Link.
type Route struct {
	Meta
	NS   string
	Dst  netip.Prefix
	Via  netip.Addr
	Link string
	// OnLink: Via is taken to be on Link although no address there says so.
	OnLink bool
	// Unreachable answers "no route": what has no better route does not leave by the
	// default one. Link is then empty. It is the last resort (metric 4278198272).
	Unreachable bool
}

// Sysctl is a kernel parameter by its path below /proc/sys with slashes, e.g.
// "net/ipv4/conf/docker0/route_localnet". NS as in Addr.
type Sysctl struct {
	Meta
	NS    string
	Name  string
	Value string
	// Shared says that the parameter is not of an object of ours (ip_forward):
	// its prior value is recorded before it is changed, and it is never undone
	// by a sweep, only by uninstall.
	Shared bool
	// Optional: a kernel that lacks the parameter needs nothing.
	Optional bool
}

// Page is the static part of our nftables table: sets, maps, chains and rules
// as one text that a person can read. Its identity is Table, its version is the
// hash of Text.
type Page struct {
	Meta
	Family string // "inet" or "bridge"
	Table  string
	Text   string // nft syntax, complete: `table inet NAME { … }`
	Hash   string // of Text; the table carries it as the empty set "page_<Hash>"
}

// Element is one element of a named set or map of our table.
type Element struct {
	Meta
	Family string
	Table  string
	Set    string
	KeyRaw []byte // as the kernel stores it: concatenated fields padded to 4 bytes
	Data   []byte // map data likewise; nil in a set
	// Verdict is set instead of Data in verdict maps: "accept", "drop" or "jump X".
	Verdict string
	// KeyText and DataText are the nft syntax of the same, for people.
	KeyText  string
	DataText string
	// Guard elements close or name interfaces and come before links.
	Guard bool
	// Last, when set, is the last key that the element covers in an interval set;
	// KeyRaw is then the first.
	Last []byte
	// Each says that Last bounds every field of a concatenated key by itself (the last
	// addresses of two prefixes), instead of the whole key.
	Each bool
	// Flow, when set, is what the element translates: conntrack entries with this
	// original destination that lead elsewhere are stale once it changed.
	Flow *Flow
}

// Flow is one published port as conntrack knows it, or a range of them. A zero Addr
// means any.
type Flow struct {
	Proto   string
	Addr    netip.Addr
	Port    uint16
	PortEnd uint16 // of a range, inclusive; 0: Port alone
	// To is where Port leads; what follows it in a range leads to what follows there.
	To netip.AddrPort
}

// Overlaps says that two elements cover a key in common, which the kernel's
// interval sets do not hold.
func (o Element) Overlaps(p Element) bool {
	return o.Family == p.Family && o.Table == p.Table && o.Set == p.Set && o.Last != nil && p.Last != nil &&
		bytes.Compare(o.KeyRaw, p.Last) <= 0 && bytes.Compare(p.KeyRaw, o.Last) <= 0
}

func (m Meta) About() Meta { return m }

func (o Namespace) Key() string { return "netns " + o.Path }
func (o Bridge) Key() string    { return "link " + o.Name }
func (o Veth) Key() string      { return "link " + o.Name }
func (o Addr) Key() string      { return "addr " + at(o.NS, o.Link) + " " + o.Prefix.String() }
func (o Up) Key() string        { return "up " + at(o.NS, o.Link) }
func (o Route) Key() string {
	if o.Unreachable {
		return "unreachable " + at(o.NS, o.Dst.String())
	}
	return "route " + at(o.NS, o.Link) + " " + o.Dst.String()
}
func (o Sysctl) Key() string { return "sysctl " + at(o.NS, o.Name) }
func (o Page) Key() string   { return "table " + o.Family + " " + o.Table }
func (o Element) Key() string {
	return fmt.Sprintf("element %s %s %s { %s }", o.Family, o.Table, o.Set, o.KeyText)
}

func (o Namespace) Spec() string { return "" }
func (o Bridge) Spec() string {
	return words("bridge", mtu(o.MTU), opt("mac", o.MAC), flag("nf-call", o.NFCall))
}
func (o Veth) Spec() string {
	return words("veth", mtu(o.MTU), opt("master", o.Master), flag("borrowed", o.Borrowed), flag("hairpin", o.Hairpin), flag("isolated", o.Isolated),
		"peer", at(o.PeerNS, o.PeerName), opt("mac", o.PeerMAC))
}
func (o Addr) Spec() string {
	if o.Stranded {
		return "without the route to its subnet"
	}
	return ""
}
func (o Up) Spec() string { return "" }
func (o Route) Spec() string {
	if o.Via.IsValid() {
		return words("via "+o.Via.String(), flag("onlink", o.OnLink))
	}
	return ""
}
func (o Sysctl) Spec() string { return "= " + o.Value }
func (o Page) Spec() string   { return "page " + o.Hash }
func (o Element) Spec() string {
	if o.Verdict != "" {
		return o.Verdict
	}
	return o.DataText
}

func (o Namespace) Phase() Phase { return PhaseNamespace }
func (o Bridge) Phase() Phase    { return PhaseLink }
func (o Veth) Phase() Phase      { return PhaseLink }
func (o Addr) Phase() Phase      { return PhaseAddr }
func (o Route) Phase() Phase     { return PhaseRoute }
func (o Sysctl) Phase() Phase    { return PhaseSysctl }
func (o Page) Phase() Phase      { return PhasePage }
func (o Up) Phase() Phase {
	if o.Wire {
		return PhaseWire
	}
	return PhaseUp
}
func (o Element) Phase() Phase {
	if o.Guard {
		return PhaseGuardElement
	}
	return PhaseElement
}

// InSandbox returns the pin path when the object lies inside a sandbox and is
// only reported, never repaired, once the sandbox's interface exists: what
// someone changed in there (a VPN container, wiring by hand) is theirs.
func InSandbox(o Object) string {
	switch o := o.(type) {
	case Addr:
		return o.NS
	case Up:
		return o.NS
	case Route:
		return o.NS
	case Sysctl:
		return o.NS
	case Redirect:
		return o.NS
	}
	return ""
}

func at(ns, name string) string {
	if ns == "" {
		return name
	}
	return ns[strings.LastIndexByte(ns, '/')+1:] + ":" + name
}

func words(w ...string) string {
	out := w[:0]
	for _, s := range w {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

func opt(k, v string) string {
	if v == "" {
		return ""
	}
	return k + " " + v
}

func flag(k string, on bool) string {
	if on {
		return k
	}
	return ""
}

func mtu(n int) string {
	if n == 0 {
		n = 1500
	}
	return fmt.Sprintf("mtu %d", n)
}
