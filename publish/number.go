package publish

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// bounds is a range of ports, inclusive.
type bounds struct{ first, last uint16 }

func (b bounds) count() int { return int(b.last) - int(b.first) + 1 }

func (b bounds) String() string { return span(b.first, b.last) }

// span is how a range is written: "80", or "8000-8010".
func span(first, last uint16) string {
	s := strconv.Itoa(int(first))
	if last != first {
		s += "-" + strconv.Itoa(int(last))
	}
	return s
}

var (
	errNotNumber = errors.New("it is not a number")
	errTooLarge  = errors.New("ports end at 65535")
	errReversed  = errors.New("the range ends before it begins")
	errOpen      = errors.New("a range has two ends")
)

// parsePort takes digits only: no sign, no spaces, which strconv would partly
// accept. Leading zeros are fine, as for Docker.
func parsePort(s string) (uint16, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, errNotNumber
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, errTooLarge
	}
	return uint16(n), nil
}

// parseBounds parses "80" or "8000-8010".
func parseBounds(s string) (bounds, error) {
	first, last, isRange := strings.Cut(s, "-")
	if isRange && (first == "" || last == "") {
		return bounds{}, errOpen
	}
	var b bounds
	var err error
	if b.first, err = parsePort(first); err != nil {
		return bounds{}, err
	}
	b.last = b.first
	if isRange {
		if b.last, err = parsePort(last); err != nil {
			return bounds{}, err
		}
	}
	if b.last < b.first {
		return bounds{}, errReversed
	}
	return b, nil
}

// parseContainer parses the container's side: a port or range above 0.
func parseContainer(spec, s string) (bounds, error) {
	b, err := parseBounds(s)
	switch {
	case err != nil:
		return b, specError(spec, "invalid containerPort: "+s+": "+err.Error(), "write the container's port, like 80, or a range, like 9000-9010")
	case b.first == 0:
		return b, specError(spec, "invalid containerPort: "+s+": a container cannot listen on port 0", "write a port from 1 to 65535")
	}
	return b, nil
}

// parseHost parses the host's side. Empty and "0" both say "any free port", as
// in Docker, and give the zero bounds.
func parseHost(spec, s string) (bounds, error) {
	if s == "" {
		return bounds{}, nil
	}
	b, err := parseBounds(s)
	switch {
	case err != nil:
		return b, specError(spec, "invalid hostPort: "+s+": "+err.Error(), "write the host's port, like 8080, or a range, like 8000-8010, or nothing for any free port")
	case b.first == 0 && b.last != 0:
		return b, specError(spec, "invalid hostPort: "+s+": a range begins at 1", "leave the host's side empty for any free port")
	}
	return b, nil
}

// parseProto normalizes a protocol; empty is tcp.
func parseProto(spec, s string) (string, error) {
	switch p := strings.ToLower(s); p {
	case "":
		return "tcp", nil
	case "tcp", "udp", "sctp":
		return p, nil
	}
	return "", specError(spec, "invalid proto: "+s, "ports are published for tcp, udp or sctp")
}

// parseIP parses the address to publish on; empty is the daemon's default. An
// IPv4 address written as IPv6 is that IPv4 address.
func parseIP(spec, s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	text := s
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		text = text[1 : len(text)-1]
		if !strings.Contains(text, ":") {
			return netip.Addr{}, specError(spec, "invalid IP address: "+s, "only IPv6 addresses stand in brackets")
		}
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		cure := "write an address of this host, like 127.0.0.1 or [::1]"
		if looksLikeName(text) {
			cure = "a name can change its address: write the address itself, like 127.0.0.1"
		}
		return ip, specError(spec, "invalid IP address: "+s, cure)
	}
	if ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return ip, specError(spec, "invalid IP address: "+s+" belongs to a group, not to this host", "write an address of this host, like 127.0.0.1 or [::1]")
	}
	if ip.Zone() != "" || ip.Is6() && ip.IsLinkLocalUnicast() {
		return ip, cnm.Unsupported("invalid port specification: %q: publishing on the link-local address %s of one interface is not supported; "+
			"publish on a global address of this host", spec, ip)
	}
	return ip.Unmap(), nil
}

func looksLikeName(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 'g' && r <= 'z' || r >= 'G' && r <= 'Z' })
}

// specError begins with dockerd's words and names the specification.
func specError(spec, reason, cure string) error {
	return cnm.Invalid("invalid port specification: %q: %s; %s", spec, reason, cure)
}
