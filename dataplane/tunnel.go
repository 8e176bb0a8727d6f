package dataplane

import (
	"fmt"
	"net/netip"
)

// VXLAN is the end of a tunnel (a VTEP, RFC 7348) in the daemon's namespace, made with
// learning off: what it knows of the other ends is declared, one FDB entry each.
type VXLAN struct {
	Meta
	Name string
	VNI  uint32
	// Local is the outer source address, Dev the device of the underlay.
	Local netip.Addr
	Dev   string
	Port  uint16 // UDP; 0: 4789
	MTU   int    // bytes, of the inner packets; 0: 1450
	MAC   string // empty: the kernel chooses
	// Master is the bridge that it is a port of: then ARP and ND for its MACs are answered
	// by the bridge (neigh_suppress), the port does not learn, and unicast to unknown MACs
	// is not flooded to it. Empty: it carries routed packets.
	Master string
}

// WireGuard is the device of the encrypted tunnels: made by the kernel, or, where the
// kernel has none, made by the keeper (a TUN device) and only marked and sized here. Its
// keys and peers are package wireguard's.
type WireGuard struct {
	Meta
	Name      string
	MTU       int
	UserSpace bool
}

// FDB is an entry of a forwarding database. On a VXLAN device it leads a MAC to the host
// at Dst, and the MAC 00:00:00:00:00:00 (FDBDefault) replicates broadcast, multicast and
// unknown unicast to every Dst it has. On a bridge it pins a MAC to the port Dev (static,
// "master").
type FDB struct {
	Meta
	Dev string
	MAC string
	Dst netip.Addr // of the VTEP; zero: an entry of Dev's bridge
}

// FDBDefault is the MAC of a VXLAN device's entries for broadcast and multicast.
const FDBDefault = "00:00:00:00:00:00"

// Neighbour is a permanent neighbour entry (ARP, ND) on a link of the daemon's namespace.
type Neighbour struct {
	Meta
	Link string
	Addr netip.Addr
	MAC  string
}

// Offload is a feature of a network device that is off because it damages packets there
// (ethtool's names: "tx-checksum-ip-generic", …). Its prior value is recorded first, and
// given back when it is no longer declared.
type Offload struct {
	Meta
	Link    string
	Feature string
	On      bool
}

func (o VXLAN) Key() string     { return "link " + o.Name }
func (o WireGuard) Key() string { return "link " + o.Name }
func (o FDB) Key() string {
	switch {
	case !o.Dst.IsValid():
		return "fdb " + o.Dev + " " + o.MAC + " master"
	case o.MAC == FDBDefault:
		return "fdb " + o.Dev + " " + o.MAC + " " + o.Dst.String()
	}
	return "fdb " + o.Dev + " " + o.MAC
}
func (o Neighbour) Key() string { return "neigh " + o.Link + " " + o.Addr.String() }
func (o Offload) Key() string   { return "offload " + o.Link + " " + o.Feature }

func (o VXLAN) Spec() string {
	port := o.Port
	if port == 0 {
		port = 4789
	}
	n := o.MTU
	if n == 0 {
		n = 1450
	}
	return words("vxlan", fmt.Sprintf("id %d local %s", o.VNI, o.Local), opt("dev", o.Dev), fmt.Sprintf("dstport %d", port), mtu(n), opt("mac", o.MAC), opt("master", o.Master))
}
func (o WireGuard) Spec() string {
	return words("wireguard", mtu(o.MTU), flag("user-space", o.UserSpace))
}
func (o FDB) Spec() string {
	if !o.Dst.IsValid() || o.MAC == FDBDefault {
		return ""
	}
	return "dst " + o.Dst.String()
}
func (o Neighbour) Spec() string { return "lladdr " + o.MAC }
func (o Offload) Spec() string   { return offOn(o.On) }

func (o VXLAN) Phase() Phase     { return PhaseLink }
func (o WireGuard) Phase() Phase { return PhaseLink }
func (o FDB) Phase() Phase       { return PhaseRoute }
func (o Neighbour) Phase() Phase { return PhaseAddr }
func (o Offload) Phase() Phase   { return PhaseSysctl }

// Commands implements Object.
func (o VXLAN) Commands() (create, remove []string) { return nil, nil }

// Commands implements Object.
func (o WireGuard) Commands() (create, remove []string) { return nil, nil }

// Commands implements Object.
func (o FDB) Commands() (create, remove []string) { return nil, nil }

// Commands implements Object.
func (o Neighbour) Commands() (create, remove []string) { return nil, nil }

// Commands implements Object.
func (o Offload) Commands() (create, remove []string) { return nil, nil }

// The elements of a mesh (page.nft).

// MeshElement says that packets between two containers of subnet, of which one is on
// another host, are of one network: let in, and never masqueraded.
func MeshElement(m Meta, table string, subnet netip.Prefix) Element { return Element{Meta: m} }

// PeerElement lets tunnelled packets in from another host of the mesh: those of our VNIs
// from any other address are dropped.
func PeerElement(m Meta, table string, addr netip.Addr) Element { return Element{Meta: m} }

// VNIElement names a VNI on a UDP port as ours; secure is the one device by which its
// packets may come and go ("" for any): plain text of an encrypted network is dropped.
func VNIElement(m Meta, table string, port uint16, vni uint32, secure string) Element {
	return Element{Meta: m}
}

// TunnelElement names a VXLAN device that is a bridge's port: ARP requests and neighbour
// solicitations never leave by it, since the bridge knows all answers.
func TunnelElement(m Meta, table, link string) Element { return Element{Meta: m} }
