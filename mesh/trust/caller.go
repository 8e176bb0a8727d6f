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
	"strings"
	"syscall"
	"time"

	"linkspan/cnm"
)

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
