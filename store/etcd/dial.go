package etcd

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// cut is how long a connection stands without a word from the other side: three probes
// (tcp(7), TCP_KEEPIDLE and the rest) when nothing is under way, TCP_USER_TIMEOUT when
// something is. The kernel's own are two hours and a quarter of one.
const cut = 3 * time.Second

// dial connects to HOST:PORT and notes what goes wrong. No proxy of the environment is
// asked: the members are on the hosts' own wire.
func (s *Store) dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         s.o.DialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: int(cut/time.Second) - 1},
		Control: func(_, _ string, c syscall.RawConn) error {
			var set error
			err := c.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(cut/time.Millisecond))
			})
			return errors.Join(err, set)
		},
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil && ctx.Err() != context.Canceled {
		s.notes.set(addr, err)
	}
	return conn, err
}

func (s *Store) credentials() credentials.TransportCredentials {
	if s.o.TLS == nil {
		return &noting{insecure.NewCredentials(), &s.notes, errWantsTLS}
	}
	return &noting{credentials.NewTLS(s.o.TLS), &s.notes, errNoTLS}
}

// What it often means that a connection is closed before its first word.
var (
	errNoTLS    = errors.New("it closed the connection at the handshake: it may not speak TLS there")
	errWantsTLS = errors.New("it closed the connection at the first word: it may want TLS, with certificates")
)

// noting keeps the errors of handshakes whole: in gRPC's they are text.
type noting struct {
	credentials.TransportCredentials
	notes  *notes
	silent error // what a connection that is closed without a word means
}

func (n *noting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		switch {
		case ctx.Err() != nil:
		case closedByOther(err):
			n.notes.set(authority, n.silent)
		default:
			n.notes.set(authority, err)
		}
		return conn, info, err
	}
	return &first{Conn: conn, authority: authority, n: n}, info, nil
}

func (n *noting) Clone() credentials.TransportCredentials {
	return &noting{n.TransportCredentials.Clone(), n.notes, n.silent}
}

// first is a connection whose other side has not said anything yet, and can yet refuse
// our certificate: since TLS 1.3 it says so after the handshake, in place of its first
// bytes (RFC 8446, 4.4.2.4).
type first struct {
	net.Conn
	authority string
	n         *noting
	heard     bool // of the one goroutine that reads
}

func (f *first) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	switch {
	case err == nil:
		f.heard = true
	case alert(err) != "":
		f.n.notes.set(f.authority, err)
	case !f.heard && f.n.silent == errWantsTLS && closedByOther(err):
		f.n.notes.set(f.authority, errWantsTLS)
	}
	return n, err
}

func closedByOther(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
