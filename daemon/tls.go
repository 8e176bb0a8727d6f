package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/config"
)

// certificates are what TLS sockets show and ask for. They are read again at a
// reload: connections that are open keep what they began with.
type certificates struct {
	current atomic.Pointer[tls.Config]
}

// loadCertificates reads the files that the configuration names; nil without TLS.
func loadCertificates(c *config.Config) (*certificates, error) {
	if !c.TLS {
		return nil, nil
	}
	s := &certificates{}
	return s, s.load(c)
}

func (s *certificates) load(c *config.Config) error {
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return cnm.Invalid("the TLS certificate (--tlscert %s) and its key (--tlskey %s) cannot be used: %w", c.TLSCert, c.TLSKey, err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if pair.Leaf != nil && time.Now().After(pair.Leaf.NotAfter) {
		return cnm.Invalid("the TLS certificate (--tlscert %s) has expired on %s: make a new one", c.TLSCert, pair.Leaf.NotAfter.Format(time.DateTime))
	}
	if c.TLSVerify {
		pem, err := os.ReadFile(c.TLSCACert)
		if err != nil {
			return cnm.Invalid("the CA of client certificates (--tlscacert): %w", err)
		}
		t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return cnm.Invalid("the CA of client certificates (--tlscacert %s) has no certificate in PEM form", c.TLSCACert)
		}
	}
	s.current.Store(t)
	return nil
}

// listenTCP listens for the API on an address.
func listenTCP(h config.Host) (net.Listener, error) {
	l, err := net.Listen("tcp", h.Addr)
	if err != nil {
		return nil, cnm.Conflict("cannot listen on %s: %w: another program may hold the port, or the address may not be this host's", h, err)
	}
	return l, nil
}

// tlsListener gives out connections that are TLS outside and a socket of the
// kernel's inside: attach and exec hand a descriptor to the keeper, which outlives
// this process, and a TLS session cannot be handed over. So each connection has a
// relay in this process: what the keeper holds is its near end.
type tlsListener struct {
	net.Listener
	certs *certificates
}

const (
	// handshake is how long a client may take to agree on keys.
	handshake = 10 * time.Second
	// lastWords is how long a client that has read everything may stay.
	lastWords = 10 * time.Second
)

func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	near, far, err := socketPair()
	if err != nil {
		c.Close()
		return nil, err
	}
	outer := tls.Server(c, l.certs.current.Load())
	go relay(outer, far)
	return &relayed{UnixConn: near, remote: c.RemoteAddr(), local: c.LocalAddr()}, nil
}

// relayed is the near end, under the names of the far one.
type relayed struct {
	*net.UnixConn
	remote, local net.Addr
}

func (c *relayed) RemoteAddr() net.Addr { return c.remote }
func (c *relayed) LocalAddr() net.Addr  { return c.local }

// relay carries both directions until both have ended. One direction's end is told
// as such: a client that has sent all its stdin still wants to read.
func relay(outer *tls.Conn, inner *net.UnixConn) {
	defer outer.Close()
	defer inner.Close()
	ctx, cancel := context.WithTimeout(context.Background(), handshake)
	err := outer.HandshakeContext(ctx)
	cancel()
	if err != nil {
		return // the client reads why in its own TLS library's words
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := io.Copy(inner, outer)
		_ = inner.CloseWrite()
		if err != nil && !errors.Is(err, io.EOF) {
			inner.Close() // cut off, not finished: what is running behind must learn it
		}
	})
	wg.Go(func() {
		if _, err := io.Copy(outer, inner); err != nil {
			outer.Close()
			return
		}
		_ = outer.CloseWrite()
		_ = outer.SetReadDeadline(time.Now().Add(lastWords))
	})
	wg.Wait()
}

// socketPair makes two connected sockets.
func socketPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a pair of sockets for a TLS connection: %w", err)
	}
	conns := [2]*net.UnixConn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "tls")
		c, ferr := net.FileConn(f)
		f.Close()
		if ferr != nil {
			err = errors.Join(err, ferr)
			continue
		}
		conns[i] = c.(*net.UnixConn)
	}
	if err != nil {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	return conns[0], conns[1], nil
}
