package why

import (
	"fmt"
	"net/netip"
	"strconv"

	"linkspan/cnm"
	"linkspan/dataplane/ruleset"
)

// packet is the one that is followed, as it is at this place.
type packet struct {
	src, dst     netip.Addr
	proto        string // "tcp", "udp", "sctp", "icmp"
	sport, dport uint16
	in, out      string
	// inPort and outPort are a bridge's ports, where netfilter sees bridged packets.
	inPort, outPort string
	mark            uint32
	// answer: it goes the way back, as part of a connection that is known.
	answer bool
	// ct is the connection as this namespace knows it.
	ct *ruleset.Conntrack
}

// ephemeral is the port that A's side of the followed connection has: one of those that
// Linux gives out (net.ipv4.ip_local_port_range).
const ephemeral = 49152

func (p packet) String() string {
	if p.dport == 0 {
		return fmt.Sprintf("%s to %s", p.src, p.dst)
	}
	return fmt.Sprintf("%s to %s", p.src, at(p.dst, p.dport, p.proto))
}

// at writes an address with port and protocol as people do.
func at(a netip.Addr, port uint16, proto string) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String() + "/" + proto
}

func portOf(port uint16, proto string) string {
	if port == 0 {
		return "ping"
	}
	return strconv.Itoa(int(port)) + "/" + proto
}

// place is a network stack on the way.
type place struct {
	ns      string // pin path; "" is the host
	name    string
	sandbox *cnm.Sandbox // nil: the host
}

func (p place) host() bool { return p.ns == "" }

// of is the genitive in a sentence: "web's", "the host's".
func (p place) of() string {
	if p.host() {
		return "the host's"
	}
	return possessive(p.name)
}

func possessive(name string) string {
	if name == "" {
		return ""
	}
	if name[len(name)-1] == 's' {
		return name + "'"
	}
	return name + "'s"
}

// cmd puts a command into the place's namespace.
func (p place) cmd(command string) string {
	if p.host() {
		return command
	}
	return "nsenter --net=" + p.ns + " " + command
}

// arrival is where a packet's way ended.
type arrival struct {
	place   place
	outside bool   // it left the host
	link    string // by which it came in, or left
	p       packet
}
