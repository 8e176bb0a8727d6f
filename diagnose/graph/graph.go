// Package graph is a host's networks as a picture: the host and its own interfaces,
// networks, containers, their endpoints and published ports; as a tree for terminals,
// as DOT for graphviz, as SVG, and as JSON.
package graph

import (
	"fmt"
	"net/netip"
	"strings"
)

// Graph is what there is. Everything in it is in a fixed order: the same host gives
// the same text.
type Graph struct {
	Host Host `json:"host"`
	// Networks by name; host and none, where nothing has an address, come last.
	Networks []Network `json:"networks"`
	// Containers by name, running or not.
	Containers []Container `json:"containers"`
}

// Host is where it all is.
type Host struct {
	Name string `json:"name"`
	// Uplinks are the host's own interfaces: what is neither loopback nor ours.
	Uplinks []Uplink `json:"uplinks"`
}

// Uplink is one of the host's own interfaces.
type Uplink struct {
	Name string `json:"name"`
	Kind string `json:"kind,omitempty"`
	MAC  string `json:"mac,omitempty"`
	MTU  int    `json:"mtu"`
	// State is "up", "no carrier" or "down".
	State string         `json:"state"`
	Addrs []netip.Prefix `json:"addrs,omitempty"`
	// Gateways are where its default routes lead.
	Gateways []netip.Addr `json:"gateways,omitempty"`
}

// Network is one of ours.
type Network struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Driver string `json:"driver"`
	// Device is the bridge, "" where the network has none.
	Device string `json:"device,omitempty"`
	Pools  []Pool `json:"pools,omitempty"`
	// Notes are what sets it apart: "internal", "borrowed bridge", "containers do not
	// reach each other", "configuration only".
	Notes []string `json:"notes,omitempty"`
	// State is the device's: "up", "no carrier", "down", "missing"; "" where it has
	// none, or the kernel was not asked.
	State string `json:"state,omitempty"`
}

// Pool is one subnet and the host's place in it.
type Pool struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Container is one container and its network stack.
type Container struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Image  string `json:"image,omitempty"`
	State  string `json:"state"`
	Health string `json:"health,omitempty"`
	// ExitCode of one that has ended.
	ExitCode int `json:"exit_code,omitempty"`
	// Sandbox is the id of its network stack; "" when it does not run.
	Sandbox string `json:"sandbox,omitempty"`
	// With is the container whose network stack it shares.
	With string `json:"with,omitempty"`
	// Host: its network stack is the host's.
	Host bool `json:"host,omitempty"`
	// Wanted are the networks that its definition names, when it does not run.
	Wanted    []string   `json:"wanted,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Ports     []Port     `json:"ports,omitempty"`
}

// Status is its state in a few words: "running, unhealthy", "exited (137)".
func (c *Container) Status() string {
	if c.State == "exited" || c.State == "dead" {
		return fmt.Sprintf("%s (%d)", c.State, c.ExitCode)
	}
	if c.Health != "" && c.State == "running" {
		return c.State + ", " + c.Health
	}
	return c.State
}

// Endpoint is a container's place on one network.
type Endpoint struct {
	ID      string         `json:"id"`
	Network string         `json:"network"` // id
	Name    string         `json:"network_name"`
	IfName  string         `json:"ifname,omitempty"`
	HostIf  string         `json:"host_if,omitempty"`
	MAC     string         `json:"mac,omitempty"`
	Addrs   []netip.Prefix `json:"addrs,omitempty"`
	// Default says that a default route of the container leads through it.
	Default bool `json:"default,omitempty"`
	// State is the host end's, as a network's.
	State string `json:"state,omitempty"`
}

// Port is one published port or range.
type Port struct {
	Proto string `json:"proto"`
	// HostIP is where it is published; unset: every address of both families.
	HostIP   netip.Addr `json:"host_ip,omitzero"`
	HostPort uint16     `json:"host_port"`
	HostEnd  uint16     `json:"host_end"` // the last of a range, else HostPort
	Port     uint16     `json:"port"`
}

// Host is the host's side as `linkspan explain` takes it: "8080/tcp",
// "127.0.0.1:8080/tcp".
func (p Port) Host() string {
	number := span(p.HostPort, p.HostEnd) + "/" + p.Proto
	switch {
	case !p.HostIP.IsValid():
		return number
	case p.HostIP.Is6():
		return "[" + p.HostIP.String() + "]:" + number
	}
	return p.HostIP.String() + ":" + number
}

// Inside is the container's side: "80".
func (p Port) Inside() string { return span(p.Port, p.Port+(p.HostEnd-p.HostPort)) }

func (p Port) String() string { return p.Host() + " → " + p.Inside() }

func span(first, last uint16) string {
	if last <= first {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// Kind is the sort of a node.
type Kind string

// The nodes of a graph.
const (
	KindHost      Kind = "host"
	KindUplink    Kind = "uplink"
	KindNetwork   Kind = "network"
	KindContainer Kind = "container"
	KindEndpoint  Kind = "endpoint"
	KindPort      Kind = "port"
)

// Node is what a picture draws one shape for.
type Node struct {
	Kind Kind
	// ID is whole. A port's is its container's id and its host side.
	ID string
	// Name is what `linkspan explain` takes: an endpoint's is its container's, a port's
	// is like "8080/tcp".
	Name string
}

// anchor is the node's id in a picture: letters, digits and dashes.
func (n Node) anchor() string {
	id := n.ID
	if len(id) > 12 && n.Kind != KindPort {
		id = id[:12]
	}
	if n.Kind == KindPort {
		id = n.ID[:min(12, len(n.ID))] + "-" + n.Name
	}
	return string(n.Kind) + "-" + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' {
			return r
		}
		return '-'
	}, id)
}

func (n *Network) node() Node   { return Node{KindNetwork, n.ID, n.Name} }
func (c *Container) node() Node { return Node{KindContainer, c.ID, c.Name} }
func (u *Uplink) node() Node    { return Node{KindUplink, u.Name, u.Name} }

func (c *Container) endpointNode(e *Endpoint) Node { return Node{KindEndpoint, e.ID, c.Name} }
func (c *Container) portNode(p Port) Node          { return Node{KindPort, c.ID + " " + p.Host(), p.Host()} }

// named finds one by name.
func (g *Graph) named(name string) *Network {
	for i := range g.Networks {
		if g.Networks[i].Name == name {
			return &g.Networks[i]
		}
	}
	return nil
}
