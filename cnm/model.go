// Package cnm is the container network model: networks, endpoints, sandboxes
// and published ports, their validation and the classes of errors. It imports
// the standard library only and touches nothing.
package cnm

import (
	"net/netip"
	"time"
)

// Network is a driver plus options plus address pools; it collects endpoints
// and connects them. It is stored whole under networks/<ID>.
type Network struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Created time.Time `json:"created"`

	// Pools are the address pools, IPv4 first. Empty for host and none.
	Pools []Pool `json:"pools,omitempty"`
	// IPAMDriver names who hands out addresses; "default" unless told.
	IPAMDriver string `json:"ipam_driver,omitempty"`
	// IPAMOptions are that driver's own.
	IPAMOptions map[string]string `json:"ipam_options,omitempty"`
	// NoIPv4 and IPv6 say which families endpoints have: Docker's networks have
	// IPv4 unless refused, and IPv6 only when asked for.
	NoIPv4 bool `json:"no_ipv4,omitempty"`
	IPv6   bool `json:"ipv6,omitempty"`

	// Scope is ScopeGlobal for networks of the mesh; see Global.
	Scope string `json:"scope,omitempty"`
	// VNIs number the subnets of a global network on the wire (VXLAN network
	// identifiers, 24 bits, RFC 7348), in the order of Pools.
	VNIs []uint32 `json:"vnis,omitempty"`

	// Internal networks reach neither the outside nor are reached from it.
	Internal bool `json:"internal,omitempty"`
	// Attachable is kept and shown; every network of one host is attachable.
	Attachable bool `json:"attachable,omitempty"`
	// ConfigOnly networks have no kernel objects: others copy their settings and
	// name them in ConfigFrom.
	ConfigOnly bool   `json:"config_only,omitempty"`
	ConfigFrom string `json:"config_from,omitempty"`
	// Borrowed says that the network's device was there before us (-b br0): it is
	// used and never made, changed or deleted.
	Borrowed bool `json:"borrowed,omitempty"`
	// Predefined networks (bridge, host, none) cannot be removed.
	Predefined bool              `json:"predefined,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Pool is one subnet of a network.
type Pool struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	// Range bounds dynamic allocation inside Subnet; zero means all of it.
	Range netip.Prefix `json:"range,omitzero"`
	// Aux are addresses that are never handed out, by name.
	Aux map[string]netip.Addr `json:"aux,omitempty"`
}

// Sandbox is one network stack with its own life: it outlives a container's
// restart, and several containers can share one. It is stored whole, with its
// endpoints and ports, under sandboxes/<ID>: one commit makes or ends them
// all, so that no address, port or endpoint can outlive its sandbox.
type Sandbox struct {
	ID string `json:"id"`
	// Owner is the container whose definition made the sandbox.
	Owner     string `json:"owner"`
	OwnerName string `json:"owner_name"`
	// Lineage, unless empty, is what the owner is a version of.
	Lineage string `json:"lineage,omitempty"`
	// Members are the ids of the containers that are in it now, owner included.
	// A sandbox without members is released.
	Members []string `json:"members"`
	// Path is where the namespace is pinned; what runtimes are handed.
	Path string `json:"path"`
	// Host says that Path is the daemon's own namespace: never made, swept or
	// changed by us.
	Host      bool            `json:"host,omitempty"`
	Endpoints []Endpoint      `json:"endpoints,omitempty"`
	Ports     []PublishedPort `json:"ports,omitempty"`
	// Sysctls are set inside the sandbox when it is made.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Resolver says that a resolver of ours answers at 127.0.0.11 in the sandbox:
	// one of its endpoints is on a network with names.
	Resolver bool `json:"resolver,omitempty"`
	// Answers says that the resolver's sockets and redirect are in the sandbox: made
	// with its first network with names, and kept until it ends, since taking them out
	// of a kernel takes 15 ms and leaving them nothing.
	Answers bool `json:"answers,omitempty"`
	// DNS are the servers that --dns named, in order; empty: the host's.
	DNS []netip.Addr `json:"dns,omitempty"`
	// Search are the search domains of the containers' resolv.conf.
	Search []string `json:"search,omitempty"`
	// Exposed are the ports that the owner exposes ("80/tcp"), for SRV records.
	Exposed []string `json:"exposed,omitempty"`
}

// Endpoint is a sandbox's place on one network.
type Endpoint struct {
	ID          string `json:"id"`
	NetworkID   string `json:"network_id"`
	NetworkName string `json:"network_name"`
	// IfName is the interface's name inside the sandbox ("eth0"), declared once
	// and kept for the endpoint's life.
	IfName string `json:"ifname,omitempty"`
	// HostIf is the host-side device's name ("veth1a2b3c4").
	HostIf string `json:"host_if,omitempty"`
	// MAC is derived from the IPv4 address (02:42 + address) unless chosen.
	MAC string `json:"mac,omitempty"`
	// Addrs are the addresses with their subnet's length, IPv4 first.
	Addrs []netip.Prefix `json:"addrs,omitempty"`
	// Gateways are the default gateways, one per address family, when this
	// endpoint carries the sandbox's default route for that family.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// GwPriority ranks the endpoint as carrier of the default routes: the highest
	// wins, and among equals the one that was connected first.
	GwPriority int `json:"gw_priority,omitempty"`
	// LinkLocal are additional addresses, as --link-local-ip gives them.
	LinkLocal []netip.Addr `json:"link_local,omitempty"`
	// Names are all that the endpoint is known by on its network, besides its
	// addresses: container name, aliases, hostname, short id. Empty on networks
	// without names (the default bridge).
	Names   []string `json:"names,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
	// Links are names that this endpoint alone knows others by.
	Links      []Link            `json:"links,omitempty"`
	DriverOpts map[string]string `json:"driver_opts,omitempty"`
}

// Link is one --link: another container on the same network under a name that
// only the linking one knows.
type Link struct {
	// Target is the full id of the container that is linked to.
	Target string `json:"target"`
	Alias  string `json:"alias"`
	// Ports are what the target exposes ("3306/tcp"): on a network whose containers
	// do not reach each other (icc=false), the link opens these and nothing else.
	Ports []string `json:"ports,omitempty"`
	// Addrs are the target's addresses on the network, none while it does not run.
	Addrs []netip.Addr `json:"addrs,omitempty"`
}

// PublishedPort is one published port or range: one object to people, to the
// API and to the store, however many map elements it becomes.
type PublishedPort struct {
	Proto string `json:"proto"` // "tcp", "udp" or "sctp"
	// HostIP is the address published on; the zero Addr means every address of
	// both families.
	HostIP netip.Addr `json:"host_ip,omitzero"`
	// HostPort and HostPortEnd bound the host's side, inclusive.
	HostPort    uint16 `json:"host_port"`
	HostPortEnd uint16 `json:"host_port_end"`
	// Port is the first port inside the sandbox; the range is as long as the
	// host's.
	Port uint16 `json:"port"`
}

// Count is the number of ports in the range.
func (p PublishedPort) Count() int { return int(p.HostPortEnd) - int(p.HostPort) + 1 }

// Addr4 returns the endpoint's IPv4 address, or the zero Prefix.
func (e *Endpoint) Addr4() netip.Prefix { return e.family(true) }

// Addr6 returns the endpoint's IPv6 address, or the zero Prefix.
func (e *Endpoint) Addr6() netip.Prefix { return e.family(false) }

func (e *Endpoint) family(v4 bool) netip.Prefix {
	for _, a := range e.Addrs {
		if a.Addr().Is4() == v4 {
			return a
		}
	}
	return netip.Prefix{}
}

// Gateway returns the endpoint's default gateway of the family, or the zero Addr.
func (e *Endpoint) Gateway(v4 bool) netip.Addr {
	for _, g := range e.Gateways {
		if g.Is4() == v4 {
			return g
		}
	}
	return netip.Addr{}
}

// Pool4 returns the network's IPv4 pool, or nil.
func (n *Network) Pool4() *Pool {
	for i := range n.Pools {
		if n.Pools[i].Subnet.Addr().Is4() {
			return &n.Pools[i]
		}
	}
	return nil
}

// Pool6 returns the network's IPv6 pool, or nil.
func (n *Network) Pool6() *Pool {
	for i := range n.Pools {
		if n.Pools[i].Subnet.Addr().Is6() {
			return &n.Pools[i]
		}
	}
	return nil
}

// HasNames says whether endpoints of the network find each other by name, with
// the resolver in their sandboxes: on all that a person made. The default bridge
// has none, as in Docker: its containers have the host's servers and --link.
func (n *Network) HasNames() bool { return !n.Predefined && !n.ConfigOnly }

// RouterOf is the containers' default gateway in a pool: the bridge itself, or
// the router that the daemon's --default-gateway named.
func (n *Network) RouterOf(p Pool) netip.Addr {
	key := DefaultGatewayAux
	if p.Subnet.Addr().Is6() {
		key = DefaultGatewayAux6
	}
	if r, ok := p.Aux[key]; ok {
		return r
	}
	return p.Gateway
}

// DefaultGatewayAux names, among a pool's auxiliary addresses, a router that
// containers use instead of the bridge (Docker's keys).
const (
	DefaultGatewayAux  = "DefaultGatewayIPv4"
	DefaultGatewayAux6 = "DefaultGatewayIPv6"
)
