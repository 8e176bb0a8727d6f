package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
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
	// Lax is only ever observed: it learns or, as a port, floods or asks on the wire, which
	// somebody switched on.
	Lax bool
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
	return words("vxlan", fmt.Sprintf("id %d local %s", o.VNI, o.Local), opt("dev", o.Dev), fmt.Sprintf("dstport %d", o.UDPPort()), mtu(o.InnerMTU()), opt("mac", o.MAC),
		opt("master", o.Master), flag("lax", o.Lax))
}

// UDPPort is Port, or what it is when none is said (RFC 7348).
func (o VXLAN) UDPPort() uint16 {
	if o.Port == 0 {
		return 4789
	}
	return o.Port
}

// InnerMTU is MTU, or what is left of an Ethernet underlay over IPv4, in bytes.
func (o VXLAN) InnerMTU() int {
	if o.MTU == 0 {
		return 1450
	}
	return o.MTU
}

// Remade says that what is there (have) can only become o by being made anew: the kernel
// changes no VXLAN device's number or port, and what it knows of the underlay is
// better asked again.
func (o VXLAN) Remade(have VXLAN) bool {
	return o.VNI != have.VNI || o.Local != have.Local || o.Dev != have.Dev || o.UDPPort() != have.UDPPort()
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
func (o VXLAN) Commands() (create, remove []string) {
	create = []string{words("ip link add", o.Name, mtu(o.InnerMTU()), opt("address", o.MAC), "type vxlan id", fmt.Sprint(o.VNI),
		"local", o.Local.String(), opt("dev", o.Dev), "dstport", fmt.Sprint(o.UDPPort()), "nolearning"),
		"ip link set " + o.Name + " addrgenmode none"}
	if o.Master != "" {
		create = append(create, "ip link set "+o.Name+" master "+o.Master,
			"bridge link set dev "+o.Name+" neigh_suppress on learning off flood off")
	}
	return create, []string{"ip link del " + o.Name}
}

// Commands implements Object.
func (o WireGuard) Commands() (create, remove []string) {
	if o.UserSpace {
		return []string{words("ip link set", o.Name, mtu(o.MTU))}, []string{"ip link set " + o.Name + " down"}
	}
	return []string{words("ip link add", o.Name, mtu(o.MTU), "type wireguard")}, []string{"ip link del " + o.Name}
}

// Commands implements Object.
func (o FDB) Commands() (create, remove []string) {
	e := o.MAC + " dev " + o.Dev
	if !o.Dst.IsValid() {
		return []string{"bridge fdb replace " + e + " master static sticky"}, []string{"bridge fdb del " + e + " master"}
	}
	e += " dst " + o.Dst.String()
	if o.MAC == FDBDefault {
		return []string{"bridge fdb append " + e}, []string{"bridge fdb del " + e}
	}
	return []string{"bridge fdb replace " + e}, []string{"bridge fdb del " + e}
}

// Commands implements Object.
func (o Neighbour) Commands() (create, remove []string) {
	a := o.Addr.String()
	// The number marks it as ours, as it does routes.
	return []string{"ip neigh replace " + a + " lladdr " + o.MAC + " nud permanent protocol 76 dev " + o.Link}, []string{"ip neigh del " + a + " dev " + o.Link}
}

// Commands implements Object.
func (o Offload) Commands() (create, remove []string) {
	return []string{"ethtool -K " + o.Link + " " + o.Feature + " " + offOn(o.On)}, nil
}

const offloadSetting = "offload/"

// Setting is the name by which an offload's prior value is recorded, next to those of
// sysctls ("offload/eth0/tx-checksum-ip-generic"); the value is "on" or "off".
func (o Offload) Setting() string { return offloadSetting + o.Link + "/" + o.Feature }

// OffloadOf is the offload that a recorded setting is of, as it was; ok is false for
// settings of other kinds (sysctls).
func OffloadOf(setting, value string) (o Offload, ok bool) {
	rest, ok := strings.CutPrefix(setting, offloadSetting)
	link, feature, two := strings.Cut(rest, "/")
	return Offload{Link: link, Feature: feature, On: value == "on"}, ok && two
}
