package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// subject finds what a person means, and explains it.
func (m *maker) subject(ctx context.Context, s string, kind Kind) error {
	w := m.src.World
	port, portErr := parsePort(s)
	switch kind {
	case KindAny:
	case KindContainer:
		c, err := w.Container(s)
		return m.then(err, func() error { return m.container(ctx, c) })
	case KindNetwork:
		n, err := w.Network(s)
		return m.then(err, func() error { return m.network(ctx, n) })
	case KindPort:
		return m.then(portErr, func() error { return m.port(ctx, port) })
	case KindHost:
		return m.host(ctx)
	default:
		return cnm.Invalid("there is no kind %q to explain: container, network, port and host are", kind)
	}
	c, cErr := w.Container(s)
	n, nErr := w.Network(s)
	exact := func(name, id string) bool { return name == strings.TrimPrefix(s, "/") || id == s }
	switch {
	case cErr == nil && exact(c.Name, c.ID):
		if nErr == nil && n.Name == s {
			m.note(fmt.Sprintf("a network is called %s too: --type network explains it", s))
		}
		return m.container(ctx, c)
	case nErr == nil && exact(n.Name, n.ID):
		if s == "host" {
			m.note("this is the network; what was made for the host itself: --type host")
		}
		return m.network(ctx, n)
	case portErr == nil: // before beginnings of ids: 8080 is a port
		return m.port(ctx, port)
	case cErr == nil:
		return m.container(ctx, c)
	case nErr == nil:
		return m.network(ctx, n)
	}
	for _, other := range []func(context.Context, string) (bool, error){m.elsewhere, m.whose} {
		if done, err := other(ctx, s); done || err != nil {
			return err
		}
	}
	if strings.ContainsAny(s, ":/") { // no name has these
		return portErr
	}
	return unknown(s, cErr, nErr)
}

func (m *maker) then(err error, f func() error) error {
	if err != nil {
		return err
	}
	return f()
}

// unknown is the answer about a word that is nobody's: the nearest name of both sorts.
func unknown(s string, cErr, nErr error) error {
	if !errors.Is(cErr, cnm.ErrNotFound) { // the beginning of several ids
		return cErr
	}
	if !errors.Is(nErr, cnm.ErrNotFound) {
		return nErr
	}
	near := ""
	for _, err := range []error{cErr, nErr} {
		if _, after, ok := strings.Cut(err.Error(), "did you mean "); ok {
			name, _, _ := strings.Cut(after, "?")
			near = "; did you mean " + name + "?"
			break
		}
	}
	return cnm.NotFound("there is no container, network or published port %q%s; `linkspan graph` shows what there is", s, near)
}

// portRef is a port as a person writes it.
type portRef struct {
	text  string
	addr  netip.Addr // unset: any
	port  uint16
	proto string // "": any
}

// parsePort reads "8080", "8080/udp", "127.0.0.1:8080", "[::1]:8080/tcp" and ":8080".
func parsePort(s string) (portRef, error) {
	r := portRef{text: s}
	bad := func() (portRef, error) {
		return portRef{}, cnm.Invalid("%q is no port: write one like 8080, 8080/udp, 127.0.0.1:8080 or [::1]:8080", s)
	}
	rest, proto, said := strings.Cut(s, "/")
	if r.proto = strings.ToLower(proto); said && r.proto != "tcp" && r.proto != "udp" && r.proto != "sctp" {
		return bad()
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host := rest[:i]
		if rest = rest[i+1:]; host != "" {
			plain := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
			a, err := netip.ParseAddr(plain)
			if err != nil || a.Zone() != "" || strings.Contains(plain, ":") != (len(plain)+2 == len(host)) {
				return bad()
			}
			if a = a.Unmap(); !a.IsUnspecified() {
				r.addr = a
			}
		}
	}
	for _, c := range rest {
		if c < '0' || c > '9' {
			return bad()
		}
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || n == 0 {
		return bad()
	}
	r.port = uint16(n)
	return r, nil
}

// matches says that a published port covers it.
func (r portRef) matches(p cnm.PublishedPort) bool {
	return r.port >= p.HostPort && r.port <= p.HostPortEnd && (r.proto == "" || r.proto == p.Proto) &&
		(!r.addr.IsValid() || !p.HostIP.IsValid() || p.HostIP.IsUnspecified() || p.HostIP == r.addr)
}

// hostPort writes a published port's host side as a person does.
func hostPort(p cnm.PublishedPort) string {
	n := span(p.HostPort, p.HostPortEnd) + "/" + p.Proto
	if p.HostIP.IsValid() {
		return strings.TrimSuffix(netip.AddrPortFrom(p.HostIP, 0).String(), "0") + n
	}
	return n
}

func published(p cnm.PublishedPort) string {
	return hostPort(p) + " → " + span(p.Port, p.Port+(p.HostPortEnd-p.HostPort))
}

func span(first, last uint16) string {
	if last <= first {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// owner of a sandbox, as the world has it.
func owner(w *diagnose.World, s *cnm.Sandbox) diagnose.Container {
	for _, c := range w.Declared.Containers() {
		if c.ID == s.Owner {
			return c
		}
	}
	return diagnose.Container{ID: s.Owner, Name: s.OwnerName}
}
