package diagnose

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/config"
)

// Words for ends that are no names.
const (
	wordHost    = "host"
	wordOutside = "outside"
)

var protocols = []string{"tcp", "udp", "sctp", "icmp"}

// ParseEnd reads "web", "web:5432", "web:53/udp", "[fd00::3]:80", "fd00::3",
// "outside:203.0.113.9", "outside:[2001:db8::1]:443". What is named is not looked up:
// Kind is only set for host and outside, and Addr for an address.
func ParseEnd(text string) (End, error) {
	e := End{Text: text}
	rest := strings.TrimSpace(text)
	if rest == "" {
		return e, cnm.Invalid("an end of the question is empty: say a container, host, outside, an address or a name")
	}
	rest, proto, hasProto := strings.Cut(rest, "/")
	if hasProto {
		if e.Proto = strings.ToLower(proto); !slices.Contains(protocols, e.Proto) {
			if near := config.Nearest(proto, protocols); near != "" {
				return e, cnm.Invalid("%q: there is no protocol %q; did you mean %s? There are tcp, udp, sctp and icmp", text, proto, near)
			}
			return e, cnm.Invalid("%q: there is no protocol %q; there are tcp, udp, sctp and icmp", text, proto)
		}
	}
	outside := false
	if after, ok := strings.CutPrefix(rest, wordOutside+":"); ok {
		outside, rest = true, after
		if _, err := strconv.ParseUint(rest, 10, 16); err == nil { // outside:443
			rest = ":" + rest
		}
	}
	name, port, err := splitPort(text, rest)
	if err != nil {
		return e, err
	}
	e.Port = port
	if a, err := netip.ParseAddr(name); err == nil {
		e.Addr = a.Unmap()
	}
	switch {
	case outside && name != "" && !e.Addr.IsValid():
		return e, cnm.Invalid("%q: what follows outside: must be an address, as in outside:203.0.113.9; a name goes without outside", text)
	case outside || name == wordOutside:
		e.Kind, e.Name = EndOutside, wordOutside
		if e.Addr.IsValid() {
			e.Name = e.Addr.String()
		}
	case name == wordHost:
		e.Kind, e.Name = EndHost, "the host"
	case name == "":
		return e, cnm.Invalid("%q: who is missing before the port: say NAME:%d", text, port)
	default:
		e.Name = name
	}
	switch {
	case e.Proto == "icmp" && e.Port != 0:
		return e, cnm.Invalid("%q: ICMP has no ports; say %s/icmp, or leave /icmp away", text, name)
	case e.Proto != "" && e.Proto != "icmp" && e.Port == 0:
		return e, cnm.Invalid("%q: which port? Say %s:PORT/%s", text, name, e.Proto)
	}
	return e, nil
}

// splitPort parts "name:port"; an IPv6 address with a port is in brackets.
func splitPort(text, s string) (name string, port uint16, err error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, 0, nil
	}
	if inside, ok := strings.CutPrefix(s, "["); ok {
		addr, after, closed := strings.Cut(inside, "]")
		if !closed {
			return "", 0, cnm.Invalid("%q: the bracket is not closed: write [fd00::3]:80", text)
		}
		if a, err := netip.ParseAddr(addr); err != nil || !a.Is6() {
			return "", 0, cnm.Invalid("%q: what is in brackets must be an IPv6 address, as in [fd00::3]:80", text)
		}
		if after == "" {
			return addr, 0, nil
		}
		s = strings.Replace(after, ":", "\x00", 1)
		if !strings.HasPrefix(s, "\x00") {
			return "", 0, cnm.Invalid("%q: after the bracket comes a colon and the port: [fd00::3]:80", text)
		}
		s = addr + s
	} else {
		i := strings.LastIndexByte(s, ':')
		if i < 0 {
			return s, 0, nil
		}
		if strings.Count(s, ":") > 1 {
			return "", 0, cnm.Invalid("%q is no address; an IPv6 address with a port is written [fd00::3]:80", text)
		}
		s = s[:i] + "\x00" + s[i+1:]
	}
	name, number, _ := strings.Cut(s, "\x00")
	p, err := strconv.ParseUint(number, 10, 16)
	if err != nil || p == 0 {
		return "", 0, cnm.Invalid("%q: %q is no port: give a number from 1 to 65535, as in %s:5432/tcp", text, number, name)
	}
	return name, uint16(p), nil
}
