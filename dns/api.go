// Package dns is the resolver that containers find at 127.0.0.11: the names of
// the networks that they are on, and what the host's or their own servers say of
// the rest. It serves sockets that it is given and knows no namespace, no store
// and no policy; the keeper runs it, so that it outlives the daemon.
//
// A question is answered by the first of these that knows its name (view.go, local.go):
//
//  1. names of the sandbox alone: Own, then Links;
//  2. the networks in the view's order, by name (their containers' names, aliases,
//     hostnames and short ids), then by name.network;
//  3. the same with one of the sandbox's search domains taken off its end.
//
// A name that is known so is never asked of anyone else: what it lacks (an address of
// the family, another type) is an empty answer. What is not known stays here as well
// when it can be nobody's but ours: single labels, addresses of our networks, names
// of services of either, all of a view that is closed. The rest is the upstreams'
// (group.go, race.go): from the cache, with others who ask the same, or by asking.
//
// Whom to ask first is resolv.conf's order: who writes a VPN's server before another
// means it. Only servers that do not answer, or are much slower, go behind; nobody
// waits for them (a hedge of 50 to 300 ms), and a "does not exist" of one that stands
// behind waits for those before it.
//
// What it costs, on two cores: an answer of ours 60 to 80 ns and no garbage, whether
// 10 or 10,000 names are there; one from the cache 170 ns; the change of a record 2 to
// 6 µs (a zone is a table of small shards, of which one is copied); a sandbox that
// rests 12 KB and no thread.
package dns

import (
	"net"
	"net/netip"
	"os"
)

// Addr is where containers find their resolver, as in Docker.
var Addr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Port is what the resolver's sockets are really bound to in each sandbox; the
// sandbox's own rules lead port 53 here. Binding 53 itself would break a
// container that serves DNS on 0.0.0.0:53. It is below the ports that the kernel
// picks for connections (ip_local_port_range), so that none of them meets it.
const Port = 11053

// Record is one endpoint on a network: all its names lead to all its addresses.
// Several endpoints may share a name; they are then answered in turn.
type Record struct {
	Endpoint string       `json:"endpoint"` // its id, unique in the zone
	Names    []string     `json:"names"`    // as a person wrote them; compared without case
	Addrs    []netip.Addr `json:"addrs"`
	// Ports are what the container exposes ("80/tcp"), for SRV: _80._tcp.name.
	Ports []string `json:"ports,omitempty"`
}

// View is what the containers of one sandbox may ask, and where it leads.
type View struct {
	Sandbox string `json:"sandbox"` // id
	// Zones are the networks (ids) whose names are known, in the order in which
	// they are searched.
	Zones []string `json:"zones,omitempty"`
	// ZoneNames are the networks' own names, in the order of Zones (or empty):
	// "db.shop" is db on the network shop, and so answers PTR. Without them PTR
	// answers the name alone.
	ZoneNames []string `json:"zoneNames,omitempty"`
	// Subnets are those of the networks: what address is whose is never asked of
	// anyone else.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Own are names that only this sandbox knows, before all others:
	// host.docker.internal and the like.
	Own []Host `json:"own,omitempty"`
	// Links are names for endpoints known to this sandbox alone.
	Links []Alias `json:"links,omitempty"`
	// Upstreams are asked from within the sandbox for what is not ours; empty: the
	// host's own servers (resolv.conf, followed live), asked from the host.
	Upstreams []netip.AddrPort `json:"upstreams,omitempty"`
	// Closed: nothing is asked of anyone (internal networks): unknown names are
	// NXDOMAIN.
	Closed bool `json:"closed,omitempty"`
	// Search are the sandbox's search domains: a name of ours with one of them
	// appended never leaves the host either.
	Search []string `json:"search,omitempty"`
}

// Host is a name with fixed addresses.
type Host struct {
	Name  string       `json:"name"`
	Addrs []netip.Addr `json:"addrs"`
}

// Alias is a private name for whatever has the name Target in a zone now.
type Alias struct {
	Name   string `json:"name"`
	Zone   string `json:"zone"`
	Target string `json:"target"` // a name in the zone, such as the linked container's full id's short form
}

// Sockets are a sandbox's: opened in its namespace, bound to Addr and Port.
type Sockets struct {
	UDP *os.File // datagram socket
	TCP *os.File // listening stream socket
	// Namespace is the sandbox's network namespace, for asking Upstreams from
	// within it; nil: they are asked from where the process is.
	Namespace *os.File
}

// Dialer opens a connected socket to a server, in the namespace it belongs to.
// network is "udp" or "tcp".
type Dialer func(network string, server netip.AddrPort) (net.Conn, error)
