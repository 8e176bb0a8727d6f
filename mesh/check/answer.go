package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"

	"linkspan/cnm"
)

// The requests of the conversation on TCP: a line of JSON each way.
type request struct {
	// Op is "hello", "tally", "take" (Bytes follow), "give" (Bytes come back), "run" or
	// "question".
	Op      string `json:"op"`
	From    string `json:"from,omitempty"`
	Session uint64 `json:"session,omitempty"`
	Bytes   int    `json:"bytes,omitempty"`
	// Question is for another part of the daemon.
	Question json.RawMessage `json:"question,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
	// Of hello: a session, and the MTU of the host's device.
	Session uint64 `json:"session,omitempty"`
	Key     []byte `json:"key,omitempty"`
	Host    string `json:"host,omitempty"` // id
	MTU     int    `json:"mtu,omitempty"`
	Tally   *tally `json:"tally,omitempty"`
	// Of run.
	Results []Result `json:"results,omitempty"`
	Bytes   int      `json:"bytes,omitempty"`
	// Of question.
	Answer json.RawMessage `json:"answer,omitempty"`
}

const (
	transferMax = 16 << 20 // bytes that one request may move
	guests      = 256      // conversations at once
	idle        = 30 * time.Second
	// running is how long a host may take for all of its own ways.
	running = 2 * time.Minute
)

// answering is the side that answers.
type answering struct {
	cfg      Config
	sessions sessions
	asks     *asks
}

func newAnswering(c Config) *answering {
	return &answering{cfg: c, sessions: sessions{by: map[uint64]*session{}}, asks: newAsks()}
}

// serve answers until the context ends, or something of it can no more.
func (a *answering) serve(ctx context.Context, c *Checker) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var opened []io.Closer
	defer func() {
		for _, o := range opened {
			o.Close()
		}
	}()
	var l net.Listener
	err := a.cfg.In(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", portText(a.cfg.Port)))
		return err
	})
	if err != nil {
		return taken("TCP", a.cfg.Port, err)
	}
	opened = append(opened, l)
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan error, 3)
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := receiver(ctx, a.cfg.In, network, a.cfg.Port)
		if err != nil && network == "udp6" {
			continue // a host without IPv6
		}
		if err != nil {
			stop()
			l.Close()
			return taken("UDP", a.cfg.Port, err)
		}
		opened = append(opened, conn)
		wg.Go(func() { ended <- a.datagrams(conn) })
	}
	wg.Go(func() { ended <- a.conversations(ctx, l, c) })
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	stop()
	for _, o := range opened {
		o.Close()
	}
	return err
}

func taken(proto string, port uint16, err error) error {
	return cnm.Errorf(cnm.ErrUnavailable, "%s port %d, where other hosts' probes are answered, cannot be opened: %w. Free it, or give all hosts another with --mesh-port check=PORT", proto, port, err)
}

func (a *answering) datagrams(conn *net.UDPConn) error {
	b, oob := make([]byte, 1<<16), make([]byte, 256)
	extra := ipHeader(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
	for {
		n, on, _, who, err := conn.ReadMsgUDPAddrPort(b, oob)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // what is told of an answer to somebody who is gone
		}
		if answer := a.sessions.arrived(b[:n], n+extra, time.Now()); answer != nil {
			conn.WriteMsgUDPAddrPort(answer, from(oob[:on]), who)
		}
	}
}

func (a *answering) conversations(ctx context.Context, l net.Listener, c *Checker) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, guests)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		select {
		case free <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-free }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if a.cfg.Server != nil {
				conn = tls.Server(conn, a.cfg.Server)
			}
			a.talk(ctx, conn, c)
		})
	}
}

// talk answers one host's requests until it ends.
func (a *answering) talk(ctx context.Context, conn net.Conn, c *Checker) {
	in, out := bufio.NewReader(conn), json.NewEncoder(conn)
	for {
		conn.SetDeadline(time.Now().Add(idle))
		var q request
		line, err := in.ReadSlice('\n')
		if err != nil || json.Unmarshal(line, &q) != nil {
			return
		}
		var r reply
		switch q.Op {
		case "hello":
			s := a.sessions.open(time.Now())
			r = reply{Session: s.id, Key: s.key, Host: a.cfg.ID}
			if u := a.cfg.Underlay(); u != nil {
				r.MTU = u.MTU
			}
		case "tally":
			t, ok := a.sessions.tally(q.Session)
			t.Checksums = badChecksums(a.cfg.In)
			if r.Tally = &t; !ok {
				r.Error = "there is no such session any more"
			}
		case "take":
			n, err := io.CopyN(io.Discard, in, int64(min(q.Bytes, transferMax)))
			if err != nil {
				return
			}
			r.Bytes = int(n)
		case "give":
			if _, err := io.CopyN(conn, pattern{}, int64(min(q.Bytes, transferMax))); err != nil {
				return
			}
			continue // what came is the answer
		case "run":
			conn.SetDeadline(time.Now().Add(running))
			if r.Results, err = c.Own(ctx); err != nil {
				r.Error = err.Error()
			}
		case "question":
			r = a.question(ctx, conn, q)
		default:
			r.Error = fmt.Sprintf("%q is nothing that host %s can be asked: it is of an older version", q.Op, a.cfg.Name)
		}
		if out.Encode(r) != nil {
			return
		}
	}
}

// pattern is endless, and not compressible to nothing.
type pattern struct{}

func (pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i*31 + i>>8)
	}
	return len(b), nil
}

// conversation is the side that asks.
type conversation struct {
	conn    net.Conn
	in      *bufio.Reader
	session uint64
	key     []byte
	mtu     int // of the other host's device
	peer    cnm.Peer
}

// unsecured is a conversation that TCP opened, and in which TLS did not come about.
type unsecured struct{ error }

// Unwrap implements errors.Unwrap.
func (u unsecured) Unwrap() error { return u.error }

// smallSegment passes every way that IPv6 may take (1280 bytes, RFC 8200, section 5): what
// is agreed on must get through where full segments vanish. Both sides keep to what the
// SYN says. Smaller ones would be more, of which each can be lost.
const smallSegment = 1200

// agree is how long connecting may take, and TLS: TCP sends what a third of which is lost
// again after 0.2, 0.6, 1.4, 3 seconds (RFC 6298).
const agree = 10 * time.Second

// talkTo opens a conversation with a peer, at one of its addresses; small: in segments that
// pass every way.
func (c *Checker) talkTo(ctx context.Context, p cnm.Peer, at netip.Addr, small bool) (*conversation, error) {
	d := net.Dialer{Timeout: agree / 2}
	if small {
		d.Control = segments(smallSegment)
	}
	var conn net.Conn
	err := c.cfg.In(func() (err error) {
		conn, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(at, c.cfg.Port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &conversation{conn: conn, peer: p}
	if c.cfg.Client != nil {
		t := c.cfg.Client.Clone()
		t.ServerName = p.Addr.String() // which its certificate names, whatever the way there
		secured := tls.Client(conn, t)
		hurry, done := context.WithTimeout(ctx, agree)
		defer done()
		if err := secured.HandshakeContext(hurry); err != nil {
			conn.Close()
			return nil, unsecured{fmt.Errorf("TCP connects, and TLS does not come about: %w", err)}
		}
		s.conn = secured
	}
	s.in = bufio.NewReader(s.conn)
	return s, nil
}

// greet opens a conversation and gets a session.
func (c *Checker) greet(ctx context.Context, p cnm.Peer) (*conversation, error) {
	s, err := c.talkTo(ctx, p, p.Addr, true)
	if errors.As(err, new(unsecured)) && ctx.Err() == nil { // where much is lost it takes luck
		s, err = c.talkTo(ctx, p, p.Addr, true)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.ask(ctx, request{Op: "hello", From: c.cfg.Name}, agree)
	switch {
	case err != nil:
	case r.Host != p.ID && p.ID != "":
		err = cnm.Errorf(cnm.ErrConflict, "at %s another host of the mesh answers than %s: two hosts use one address", p.Addr, p.Name)
	case len(r.Key) != keySize:
		err = cnm.Errorf(cnm.ErrConflict, "%s gave no key", p.Name)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.session, s.key, s.mtu = r.Session, r.Key, r.MTU
	return s, nil
}

// ask sends a request and waits for the reply.
func (s *conversation) ask(ctx context.Context, q request, patience time.Duration) (reply, error) {
	return s.put(ctx, q, patience, math.MaxInt)
}

// put does so; the reply may have that many bytes.
func (s *conversation) put(ctx context.Context, q request, patience time.Duration, most int) (r reply, err error) {
	s.conn.SetDeadline(soon(ctx, patience))
	defer context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(s.conn).Encode(q); err != nil {
		return r, err
	}
	line, err := s.line(most)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("what %s answers is no answer: %w", s.peer.Name, err)
	}
	if r.Error != "" {
		return r, cnm.Errorf(cnm.ErrUnavailable, "%s", r.Error)
	}
	return r, nil
}

// Close ends the conversation.
func (s *conversation) Close() { s.conn.Close() }

// ask has a peer measure its own ways.
func (c *Checker) ask(ctx context.Context, p cnm.Peer) ([]Result, error) {
	s, err := c.talkTo(ctx, p, p.Addr, true)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s", c.silent(p, err))
	}
	defer s.Close()
	r, err := s.ask(ctx, request{Op: "run"}, running)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s did not measure its own ways: %w", p.Name, err)
	}
	return r.Results, nil
}
