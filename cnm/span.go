package cnm

import "net/netip"

// Global says that a network belongs to the mesh: it has the same id, subnets and
// names on every host, and every host connects its own containers to it.
func (n *Network) Global() bool { return n.Scope == ScopeGlobal }

// The scopes of a network, in Docker's words. Empty means local.
const (
	ScopeLocal  = "local"
	ScopeGlobal = "global"
)

// VNI is the number of the subnet on the wire, or 0 for one that has none.
func (n *Network) VNI(subnet netip.Prefix) uint32 {
	for i, p := range n.Pools {
		if p.Subnet == subnet && i < len(n.VNIs) {
			return n.VNIs[i]
		}
	}
	return 0
}

// Underlay is this host's place on the wire that the mesh's hosts share.
type Underlay struct {
	// Host is this host's id in the mesh, Name what people call it.
	Host, Name string
	// Addr is the address that the other hosts reach it by, on device Dev, whose MTU
	// is in bytes.
	Addr netip.Addr
	Dev  string
	MTU  int
	// PathMTU is the largest packet, in bytes, that every peer's path takes; 0: as MTU.
	PathMTU int
	// VXLANPort is the UDP port of all VXLAN devices that say none (4789, RFC 7348).
	VXLANPort uint16
	// MAC is that of this host's end of the tunnels that carry routed packets (a VTEP's).
	MAC string
	// RoutedVNI numbers the VXLAN device of routed networks, one for the mesh.
	RoutedVNI uint32
	// Secure is the WireGuard device's name and address in the tunnel; zero: there is
	// none (yet). SecureMTU, in bytes, is what fits into it.
	Secure     string
	SecureAddr netip.Addr
	SecureMTU  int
	// SoftChecksums: a device on the way spoils the checksums of what is inside of tunnels
	// (package mesh/check found it), so that they are computed before packets are wrapped.
	SoftChecksums bool
	// SecureUserSpace: the keeper makes the WireGuard device, since the kernel has none.
	SecureUserSpace bool
}

// Peer is another host of the mesh, as it is seen from here.
type Peer struct {
	ID, Name string
	// Addr is its address on the underlay.
	Addr netip.Addr
	// Alive: its liveness key is there. Addresses and paths of one that is not are kept:
	// dead and cut off look alike.
	Alive bool
	// OnLink: it is reached without a router, through device Dev. MTU is that of the
	// way to it, in bytes; 0: not known.
	OnLink bool
	Dev    string
	MTU    int
	// MAC is that of its VTEP for routed packets.
	MAC string
	// SecureAddr is its address inside the WireGuard tunnel; zero: it has published no key.
	SecureAddr netip.Addr
}

// Remote is an endpoint on another host.
type Remote struct {
	ID string `json:"id"`
	// Host is the peer's id.
	Host string `json:"host"`
	// Container is its full id, and ContainerName what people call it.
	Container     string         `json:"container"`
	ContainerName string         `json:"container_name"`
	Addrs         []netip.Prefix `json:"addrs"`
	MAC           string         `json:"mac"`
	Names         []string       `json:"names,omitempty"`
	// Exposed are the ports that the container exposes ("80/tcp").
	Exposed []string `json:"exposed,omitempty"`
}

// Block is a run of addresses of one subnet that belongs to one host: it hands them
// out without asking anyone.
type Block struct {
	Prefix netip.Prefix `json:"prefix"`
	// Host is the peer's id, or this host's.
	Host string `json:"host"`
}

// RemoteChange is what changed of a network elsewhere.
type RemoteChange struct {
	// Whole: Came and Blocks are all that there is; what is not among them is gone.
	Whole bool
	// Came are new endpoints, or others of the same id; Gone are ids.
	Came []Remote
	Gone []string
	// Blocks came, or have another host; FreeBlocks are nobody's any more.
	Blocks     []Block
	FreeBlocks []netip.Prefix
}

// PathKind is a way that packets take to another host.
type PathKind string

// The paths.
const (
	PathDirect    PathKind = "direct"    // a plain route: the hosts share a link
	PathVXLAN     PathKind = "vxlan"     // wrapped in UDP
	PathWireGuard PathKind = "wireguard" // encrypted
	PathNone      PathKind = "none"
)

// Path is the way that a network's packets take to one peer, and why.
type Path struct {
	Kind PathKind `json:"kind"`
	// Dev is the device they leave by.
	Dev string `json:"dev,omitempty"`
	// MTU is the largest packet of a container that fits, in bytes.
	MTU int `json:"mtu,omitempty"`
	// Reason is a sentence in a person's words ("host2 is on the same link (eth0)").
	Reason string `json:"reason"`
}
