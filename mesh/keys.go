package mesh

import (
	"encoding/json"
	"net/netip"
	"strings"
)

// The keys of the common store, below the prefix that the store was opened with.
const (
	recordKey      = "mesh"         // Record
	hostKeys       = "hosts/"       // <id>: Host
	hostNameKeys   = "hostnames/"   // <name>: id
	hostNumberKeys = "hostnumbers/" // <number>: id
	aliveKeys      = "alive/"       // <id>: leased
	networkKeys    = "networks/"    // <id>: cnm.Network
	netNameKeys    = "netnames/"    // <name>: id
	spaceKey       = "space"        // written by whoever claims a subnet: overlaps are checked one at a time
	vniKeys        = "vnis/"        // <number>: network's id
	memberKeys     = "members/"     // <network>: written with each new block and each new host of a network, so that who removes it sees all
	blockKeys      = "blocks/"      // <network>/<prefix>: host's id
	askKeys        = "asks/"        // <network>/<address>: ask
	presentKeys    = "present/"     // <network>/<host>
	endpointKeys   = "endpoints/"   // <network>/<host>/<id>: cnm.Remote
	sweepKeys      = "sweeps/"      // <network or host>: sweep, what a removal left to be taken away
)

func blockKey(network string, p netip.Prefix) string { return blockKeys + network + "/" + p.String() }
func askKey(network string, a netip.Addr) string     { return askKeys + network + "/" + a.String() }
func presentKey(network, host string) string         { return presentKeys + network + "/" + host }
func endpointKey(network, host, id string) string {
	return endpointKeys + network + "/" + host + "/" + id
}

// parts cuts what follows a key's kind into n parts; the last keeps its slashes.
func parts(key, kind string, n int) ([]string, bool) {
	rest, ok := strings.CutPrefix(key, kind)
	if !ok {
		return nil, false
	}
	p := strings.SplitN(rest, "/", n)
	return p, len(p) == n
}

func splitBlock(key string) (network string, p netip.Prefix, ok bool) {
	s, ok := parts(key, blockKeys, 2)
	if !ok {
		return "", p, false
	}
	p, err := netip.ParsePrefix(s[1])
	return s[0], p, err == nil
}

func splitAsk(key string) (network string, a netip.Addr, ok bool) {
	s, ok := parts(key, askKeys, 2)
	if !ok {
		return "", a, false
	}
	a, err := netip.ParseAddr(s[1])
	return s[0], a, err == nil
}

// ask is one host's wish for a single address of another's block, and, once granted,
// its title to it: it stays as long as the address is the asker's.
type ask struct {
	By   string `json:"by"`
	Name string `json:"name"` // of By, for people
	// State is "", "granted" or "refused"; Why says why refused.
	State string `json:"state,omitempty"`
	Why   string `json:"why,omitempty"`
}

const (
	granted = "granted"
	refused = "refused"
)

// sweep is what is left to do of a removal that is already true: the network's key, or
// the host's, is gone, and nothing new can be written below it.
type sweep struct {
	Network string `json:"network,omitempty"`
	Host    string `json:"host,omitempty"`
}

// encode writes one of this package's own records. None of them holds what encoding/json
// cannot write (a channel, a function, a circle, a NaN, an error of a MarshalJSON), whatever
// its values are.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // a mistake in this package that its first test meets, and nothing of the world's
		panic(err)
	}
	return b
}

func decode[T any](b []byte) (v T, ok bool) {
	return v, json.Unmarshal(b, &v) == nil
}
