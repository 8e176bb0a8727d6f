package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
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

// caller speaks to one gate.
type caller struct {
	addr string // host:port
	now  func() time.Time
	// pin or ca say whom to trust; show is this host's certificate, if it has one.
	pin  *Pin
	ca   *CA
	show *tls.Certificate

	seen *x509.Certificate // the gate's, in the last handshake
	said hello
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

func clock(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}

func request(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

func (c *caller) answer(b certBody, key *ecdsa.PrivateKey) (*Answer, error) {
	leaf, err := x509.ParseCertificate(b.Certificate)
	var cert *x509.Certificate
	if err == nil {
		cert, err = x509.ParseCertificate(b.CA)
	}
	if err == nil && (!cert.IsCA || meshOf(cert) == "") {
		err = errors.New("its CA is none")
	}
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "the gate at %s answered with a damaged certificate: %w", c.addr, err)
	}
	h := &held{&CA{Cert: cert}, leaf, key}
	if err := h.check(); err != nil {
		return nil, err
	}
	return &Answer{CA: h.ca, Certificate: leaf, Place: b.Place, Gate: b.Host, Warnings: b.Warnings}, nil
}

// hello asks who is there and what the time is, before anything is said.
func (c *caller) hello(ctx context.Context, name string) (warn []string, err error) {
	began := c.now()
	if err := c.call(ctx, "/v1/hello", nil, &c.said); err != nil {
		return nil, err
	}
	now := c.now()
	mid := began.Add(now.Sub(began) / 2) // as NTP does
	if warn, err = skew(name, mid, c.said.Host, c.said.Clock); err != nil {
		return nil, err
	}
	if leaf := c.seen; leaf != nil && c.said.Clock.After(leaf.NotAfter) {
		return nil, cnm.Errorf(cnm.ErrForbidden, "the certificate of host %s, the gate at %s, expired on %s: join at another member, or restart the daemon there", nameOf(leaf), c.addr, day(leaf.NotAfter))
	}
	return warn, nil
}

const (
	dialing = 5 * time.Second
	calling = 30 * time.Second
)

// call is one question on a connection of its own.
func (c *caller) call(ctx context.Context, path string, body, to any) error {
	ctx, cancel := context.WithTimeout(ctx, calling)
	defer cancel()
	method, in := http.MethodGet, io.Reader(nil)
	if body != nil {
		method, in = http.MethodPost, bytes.NewReader(encode(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.addr+path, in)
	if err != nil {
		return cnm.Invalid("gate %s: %w", c.addr, err)
	}
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: dialing}).DialContext, TLSHandshakeTimeout: dialing, TLSClientConfig: c.config(), DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return c.words(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return c.words(err)
	}
	if resp.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(b, &p) != nil || p.Error == "" {
			return cnm.Errorf(cnm.ErrUnavailable, "what answers at %s is no gate of a mesh (HTTP %d): the gate is on TCP port %d of the mesh's members", c.addr, resp.StatusCode, GatePort)
		}
		return p.err()
	}
	if err := json.Unmarshal(b, to); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "what answers at %s is no gate of a mesh (%w): the gate is on TCP port %d of the mesh's members", c.addr, err, GatePort)
	}
	return nil
}

func (c *caller) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		// The names of the certificate are not what counts, the CA is: see verify. It runs
		// before anything is sent.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return c.verify(cs.PeerCertificates) },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.show == nil {
				return &tls.Certificate{}, nil
			}
			return c.show, nil
		},
	}
}

// verify looks at the certificates that a gate shows: the CA's must be the pinned one, and
// it must have made the first. The time is judged later, with the gate's clock at hand.
func (c *caller) verify(chain []*x509.Certificate) error {
	ca := c.ca
	if ca == nil {
		for _, cert := range chain[1:] {
			if cert.IsCA && pinOf(cert) == *c.pin {
				ca = &CA{Cert: cert}
			}
		}
	}
	leaf := chain[0]
	if ca == nil || leaf.CheckSignatureFrom(ca.Cert) != nil {
		return stranger{leaf}
	}
	if err := ca.check(leaf, leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore)/2), x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	c.seen = leaf
	return nil
}

// stranger is who shows a certificate of another mesh, or of none.
type stranger struct{ leaf *x509.Certificate }

func (s stranger) Error() string {
	if m := meshOf(s.leaf); m != "" {
		return fmt.Sprintf("it shows the certificate of host %s of mesh %s", nameOf(s.leaf), m)
	}
	return fmt.Sprintf("it shows a certificate of %q, which is of no mesh", s.leaf.Subject)
}

// words says of a call that failed which address, how, and what to look at.
func (c *caller) words(err error) error {
	var s stranger
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var op *net.OpError
	_, port, _ := net.SplitHostPort(c.addr)
	open := fmt.Sprintf("is the daemon there and TCP port %s open?", port)
	switch {
	case errors.As(err, &s) && c.pin != nil:
		return cnm.Errorf(cnm.ErrForbidden, "the host at %s is not of the mesh that the token is for: %s: nothing was sent to it: use the token of that mesh, or another address", c.addr, s)
	case errors.As(err, &s):
		return cnm.Errorf(cnm.ErrForbidden, "the host at %s is of another mesh than this host (%s, %s): %s: `linkspan mesh leave` before joining another", c.addr, c.ca.Name(), c.ca.Mesh(), s)
	case errors.As(err, &dns):
		return cnm.NotFound("the name %s is not known here (%w): give an address, such as 10.0.0.1:%d", dns.Name, err, GatePort)
	case errors.As(err, &record):
		return cnm.Errorf(cnm.ErrUnavailable, "what answers at %s does not speak TLS, so it is no gate of a mesh: the gate is on TCP port %d of the mesh's members", c.addr, GatePort)
	case errors.Is(err, syscall.ECONNREFUSED):
		return cnm.Errorf(cnm.ErrUnavailable, "nothing listens at %s (connection refused): %s: %w", c.addr, open, err)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return cnm.Errorf(cnm.ErrUnavailable, "there is no way to %s: %w: check the address, and the routes of this host (`ip route get`)", c.addr, err)
	case errors.As(err, &op) && op.Op == "dial" && op.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return cnm.Errorf(cnm.ErrUnavailable, "%s does not answer (timed out): %s: %w", c.addr, open, err)
	case errors.Is(err, context.Canceled):
		return cnm.Errorf(cnm.ErrUnavailable, "the gate at %s was not waited for: %w", c.addr, err)
	case strings.Contains(err.Error(), "tls: certificate required"), strings.Contains(err.Error(), "tls: bad certificate"):
		return cnm.Errorf(cnm.ErrUnavailable, "%s is no gate but wants a certificate (%w): the gate is on TCP port %d of the mesh's members", c.addr, err, GatePort)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "the gate at %s broke off: %w: %s", c.addr, err, open)
}
