package userspace

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"linkspan/wireguard"
)

// The device is spoken to in WireGuard's configuration protocol
// (wireguard.com/xplatform): lines of key=value, keys in hexadecimal.

// uapi renders a change; empty when there is nothing in it for the device. The port is
// not: the sockets are opened here.
func uapi(c wireguard.Change) string {
	var b strings.Builder
	line := func(key, format string, args ...any) { fmt.Fprintf(&b, key+"="+format+"\n", args...) }
	if c.Key != nil {
		key := c.Key.Bytes()
		line("private_key", "%s", hex.EncodeToString(key[:]))
	}
	for _, p := range c.Peers {
		line("public_key", "%s", hex.EncodeToString(p.PublicKey[:]))
		switch {
		case p.Remove:
			line("remove", "true")
			continue
		case !p.New:
			line("update_only", "true")
		}
		if p.Endpoint.IsValid() {
			line("endpoint", "%s", p.Endpoint)
		}
		for _, a := range p.Add {
			line("allowed_ip", "%s", a)
		}
		for _, a := range p.Drop {
			line("allowed_ip", "-%s", a)
		}
		if p.Keepalive != nil {
			line("persistent_keepalive_interval", "%d", int(p.Keepalive.Seconds()))
		}
	}
	return b.String()
}

// parseState reads what the device says of itself. What is not ours to know is passed over.
func parseState(text string) (st wireguard.Status, err error) {
	bad := func(line string, err error) (wireguard.Status, error) {
		key, _, _ := strings.Cut(line, "=") // never the value: it may be the private key
		return st, fmt.Errorf("what the device says of %q: %w", key, err)
	}
	var p *wireguard.PeerStatus
	var sec int64
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, "=")
		if key == "public_key" {
			raw, err := hex.DecodeString(value)
			if err != nil || len(raw) != len(wireguard.PublicKey{}) {
				return bad(line, fmt.Errorf("not a key"))
			}
			st.Peers = append(st.Peers, wireguard.PeerStatus{PublicKey: wireguard.PublicKey(raw)})
			p = &st.Peers[len(st.Peers)-1]
			continue
		}
		if p == nil {
			continue
		}
		switch key {
		case "endpoint":
			p.Endpoint, err = netip.ParseAddrPort(value)
		case "last_handshake_time_sec":
			sec, err = strconv.ParseInt(value, 10, 64)
		case "last_handshake_time_nsec":
			var nsec int64
			if nsec, err = strconv.ParseInt(value, 10, 64); err == nil && sec+nsec > 0 {
				p.Handshake = time.Unix(sec, nsec)
			}
		case "tx_bytes":
			p.Sent, err = strconv.ParseUint(value, 10, 64)
		case "rx_bytes":
			p.Received, err = strconv.ParseUint(value, 10, 64)
		case "allowed_ip":
			var a netip.Prefix
			if a, err = netip.ParsePrefix(value); err == nil {
				p.Allowed = append(p.Allowed, a)
			}
		}
		if err != nil {
			return bad(line, err)
		}
	}
	slices.SortFunc(st.Peers, func(a, b wireguard.PeerStatus) int { return slices.Compare(a.PublicKey[:], b.PublicKey[:]) })
	for i := range st.Peers {
		slices.SortFunc(st.Peers[i].Allowed, netip.Prefix.Compare)
	}
	return st, nil
}
