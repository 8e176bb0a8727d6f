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

	Internal bool `json:"internal,omitempty"`
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
	Gateways   []netip.Addr      `json:"gateways,omitempty"`
	Aliases    []string          `json:"aliases,omitempty"`
	DriverOpts map[string]string `json:"driver_opts,omitempty"`
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

// RouterOf is the containers' default gateway in a pool: the bridge itself, or
// the router that the daemon's --default-gateway named.
func (n *Network) RouterOf(p Pool) netip.Addr {
	if r, ok := p.Aux[DefaultGatewayAux]; ok {
		return r
	}
	return p.Gateway
}

// DefaultGatewayAux names, among a pool's auxiliary addresses, a router that
// containers use instead of the bridge (Docker's key).
const DefaultGatewayAux = "DefaultGatewayIPv4"
