package check

import (
	"fmt"

	"linkspan/cnm"
)

const (
	// fewLost is a share of lost probes that is not worth a word: one of twenty.
	fewLost = 0.06
	// fewSpoilt packets with a wrong checksum come from anywhere.
	fewSpoilt = 3
)

// judge puts a measurement into words: what is wrong, with which object, and what to do.
func judge(from, to string, u *cnm.Underlay, w Way, m measurement) Result {
	r := Result{From: from, To: to, Kind: w.Kind, RTT: m.rtt(), Loss: m.loss(), MTU: m.mtu, Expected: m.expected}
	if m.tcp.took > 0 {
		r.TCP = 2 * volume / m.tcp.took.Seconds()
	}
	say := func(format string, args ...any) { r.Findings = append(r.Findings, fmt.Sprintf(format, args...)) }
	spoilt := m.spoilt >= fewSpoilt || m.damaged > 0
	switch {
	case m.err != nil:
		say("%s cannot be probed at %s: %s", to, w.Target, m.err)
	case m.answered == 0 && spoilt && w.Kind == cnm.PathVXLAN:
		r.Spoilt = true
		say("nothing passes %s: packets arrive at %s with a broken checksum, which %s was to compute. From now on %s computes them before, for its tunnels alone (tx-checksum-ip-generic off)", tunnel(u, w), to, u.Dev, from)
	case m.answered == 0 && spoilt:
		say("nothing passes %s: packets arrive at %s with a broken checksum, which %s was to compute: ethtool -K %s tx off", tunnel(u, w), to, u.Dev, u.Dev)
	case m.answered == 0 && m.arrived > 0:
		say("packets of %s reach %s%s, and its answers do not come back: the way from %s to %s is cut, or a firewall on it is closed", from, to, by(u, w), to, from)
	case m.answered == 0 && w.Kind == cnm.PathVXLAN:
		say("nothing passes %s although the hosts reach each other: open UDP port %d between %s and %s", tunnel(u, w), u.UDPPort(), u.Addr, to)
	case m.answered == 0 && w.Kind == cnm.PathWireGuard:
		say("nothing passes %s although the hosts reach each other: open WireGuard's UDP port between the hosts; if it is open, `linkspan mesh rotate` on both makes new keys", tunnel(u, w))
	case m.answered == 0 && m.tcp.connected:
		say("UDP packets of %s do not reach %s, and TCP does: open UDP port %d as well", from, to, m.port)
	case m.answered == 0:
		say("packets of %s do not reach %s: the way is cut, or a firewall on it is closed: open TCP and UDP port %d between the hosts", from, to, m.port)
	default:
		r.size(m, w, say)
		r.rest(from, m, w, u, spoilt, say)
	}
	return r
}

// size says what does not fit.
func (r *Result) size(m measurement, w Way, say func(string, ...any)) {
	if m.mtu >= m.expected {
		return
	}
	switch {
	case w.Kind != cnm.PathDirect:
		say("of packets in this tunnel those over %d bytes do not pass, where %d should: the way below it takes less than it says", m.mtu, m.expected)
	case m.by.IsValid():
		say("packets over %d bytes are refused by router %s, which says that %d fit: networks of the mesh are made to fit, and nothing is lost", m.mtu, m.by, m.says)
	default:
		say("packets over %d bytes vanish: a router on the way drops them silently; lower the MTU of %s to %d, or open ICMP (type 3 code 4; in IPv6 type 2) on the way. Until then networks of the mesh are made to fit, other programs are not", m.mtu, w.Dev, m.mtu)
	}
}

// rest says what else is wrong where packets do pass.
func (r *Result) rest(from string, m measurement, w Way, u *cnm.Underlay, spoilt bool, say func(string, ...any)) {
	if l := m.loss(); l > fewLost {
		there := ""
		if m.arrived >= 0 && m.sent > 0 {
			if lost := m.sent - m.arrived; lost > 0 {
				there = fmt.Sprintf(" (%d of %d on the way there, %d on the way back)", lost, m.sent, m.arrived-m.answered)
			} else {
				there = " (all of them on the way back)"
			}
		}
		say("%.0f %% of packets are lost%s: look for a full line, a bad cable, or a duplex that was set on one side", l*100, there)
	}
	switch {
	case spoilt:
		r.Spoilt = w.Kind == cnm.PathVXLAN
		say("%d packets arrived with a broken checksum: a device on the way damages them; if it is %s: ethtool -K %s tx off", max(int(m.spoilt), m.damaged), u.Dev, u.Dev)
	case m.tcp.err == nil:
	case !m.tcp.connected && w.Kind == cnm.PathDirect:
		say("UDP passes, and TCP does not: open TCP port %d between the hosts (%s)", m.port, plain(m.tcp.err))
	case !m.tcp.connected:
		say("UDP passes %s, and TCP does not (%s)", tunnel(u, w), plain(m.tcp.err))
	case r.MTU < r.Expected:
		say("TCP connects and then stands still after %d bytes: its full segments vanish, as said above", m.tcp.bytes)
	default:
		say("TCP connects, and a transfer of %d bytes ends after %d (%s; %d segments were sent again)", 2*volume, m.tcp.bytes, plain(m.tcp.err), m.tcp.again)
	}
}

func plain(err error) string {
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return "no answer in time"
	}
	return err.Error()
}

// tunnel names what a way goes through.
func tunnel(u *cnm.Underlay, w Way) string {
	switch w.Kind {
	case cnm.PathVXLAN:
		return fmt.Sprintf("VXLAN (UDP port %d, VNI %d)", u.UDPPort(), u.RoutedVNI)
	case cnm.PathWireGuard:
		return "WireGuard (" + w.Dev + ")"
	}
	return "the wire (" + w.Dev + ")"
}

func by(u *cnm.Underlay, w Way) string {
	if w.Kind == cnm.PathDirect {
		return ""
	}
	return " through " + tunnel(u, w)
}
