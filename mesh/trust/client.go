package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
)

// Answer is what the gate gives a host that joins or renews.
type Answer struct {
	// CA is the mesh's, without its key; Certificate this host's.
	CA          *CA
	Certificate *x509.Certificate
	Place
	// Gate is the name of the host that answered.
	Gate string
	// Warnings are to be shown to a person: clocks that are apart.
	Warnings []string
}

// GateAddr adds the gate's port to an address or a name that has none.
func GateAddr(s string) (string, error) {
	s = strings.TrimSpace(s)
	for _, scheme := range []string{"https://", "etcd://"} {
		s = strings.TrimSuffix(strings.TrimPrefix(s, scheme), "/")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), strconv.Itoa(GatePort)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ @?#") {
		return "", cnm.Invalid("%q is no address of a gate: give a host of the mesh, such as 10.0.0.1:%d", s, GatePort)
	}
	return net.JoinHostPort(host, port), nil
}

// Join asks the gate at addr (host or host:port) to let this host in. The gate must have
// the CA that the token names: nothing of the token is sent before that is sure. It can be
// repeated with the same key and id until it answers.
func Join(ctx context.Context, addr, token string, r Request, key *ecdsa.PrivateKey, now func() time.Time) (*Answer, error) {
	tok, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if addr, err = GateAddr(addr); err != nil {
		return nil, err
	}
	c := &caller{addr: addr, now: clock(now), pin: &tok.Pin}
	warn, err := c.hello(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	var b certBody
	body := joinBody{Request: r, Token: tok.ID, Secret: tok.secret[:], CSR: csr, Clock: c.now().UTC()}
	if err := c.call(ctx, "/v1/join", body, &b); err != nil {
		return nil, err
	}
	a, err := c.answer(b, key)
	if err != nil {
		return nil, err
	}
	if pinOf(a.CA.Cert) != tok.Pin {
		return nil, cnm.Errorf(cnm.ErrForbidden, "the gate at %s answered with another CA than the token names: do not trust it", addr)
	}
	if len(a.Warnings) == 0 {
		a.Warnings = warn
	}
	return a, nil
}

// Renew gets a new certificate, with a new key, and keeps it. The first gate that answers
// does. With one that has expired no gate helps: it says at once what to do, unless this
// host has the CA's key: then it makes one itself, as nobody else may be there to ask
// (a mesh of one that was off for months).
func (i *Identity) Renew(ctx context.Context, gates []string, now func() time.Time) (*Answer, error) {
	h := i.cur.Load()
	if t := clock(now)(); t.After(h.leaf.NotAfter) {
		if ca, err := i.folder.CA(); err == nil && ca.CanSign() {
			return i.renewHere(ca, t)
		}
		return nil, expired(h.leaf, t)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	var b certBody
	c, err := i.ask(ctx, gates, now, "/v1/renew", func(c *caller) any { return renewBody{CSR: csr, Clock: c.now().UTC()} }, &b)
	if err != nil {
		return nil, err
	}
	a, err := c.answer(b, key)
	if err != nil {
		return nil, err
	}
	if !a.CA.Cert.Equal(h.ca.Cert) && pinOf(a.CA.Cert) != h.ca.Pin() {
		return nil, cnm.Errorf(cnm.ErrForbidden, "the gate at %s answered with another CA: do not trust it", c.addr)
	}
	return a, i.take(&held{a.CA, a.Certificate, key})
}

// renewHere makes the same certificate again.
func (i *Identity) renewHere(ca *CA, now time.Time) (*Answer, error) {
	h := i.cur.Load()
	if ca.Pin() != h.ca.Pin() {
		return nil, cnm.Errorf(cnm.ErrConflict, "mesh %s: the CA's key on this host is of another mesh (%s)", h.ca.Name(), ca.Mesh())
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	s := Subject{ID: h.leaf.Subject.CommonName, Name: nameOf(h.leaf)}
	for _, ip := range h.leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			s.Also = append(s.Also, a.Unmap())
		}
	}
	leaf, err := ca.Issue(s, key.Public(), now)
	if err != nil {
		return nil, err
	}
	return &Answer{CA: ca, Certificate: leaf, Gate: s.Name}, i.take(&held{ca, leaf, key})
}

// Authority fetches the CA's key: this host must be a member by its record.
func (i *Identity) Authority(ctx context.Context, gates []string, now func() time.Time) (*CA, error) {
	var b keyBody
	if _, err := i.ask(ctx, gates, now, "/v1/authority", func(*caller) any { return struct{}{} }, &b); err != nil {
		return nil, err
	}
	return ParseCA(i.CA().PEM(), b.Key)
}

// ask goes from gate to gate until one answers. A refusal is an answer.
func (i *Identity) ask(ctx context.Context, gates []string, now func() time.Time, path string, body func(*caller) any, to any) (*caller, error) {
	h := i.cur.Load()
	if len(gates) == 0 {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh %s: no gate is known to this host", h.ca.Name())
	}
	var tried []error
	for _, g := range gates {
		addr, err := GateAddr(g)
		if err != nil {
			tried = append(tried, err)
			continue
		}
		c := &caller{addr: addr, now: clock(now), ca: h.ca, show: h.tls()}
		if _, err = c.hello(ctx, nameOf(h.leaf)); err == nil {
			err = c.call(ctx, path, body(c), to)
		}
		if err == nil {
			return c, nil
		}
		tried = append(tried, err)
		if !errors.Is(err, cnm.ErrUnavailable) || ctx.Err() != nil {
			return nil, err
		}
	}
	if len(tried) == 1 {
		return nil, tried[0]
	}
	return nil, cnm.Errorf(cnm.ErrUnavailable, "none of %d gates of mesh %s helped: %w", len(gates), h.ca.Name(), errors.Join(tried...))
}
