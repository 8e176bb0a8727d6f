package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"linkspan/cnm"
)

// A question is data that another part of the daemon understands (`linkspan why` asks the
// other end of a way for its half): what is here brings it to the daemon of another host
// and its answer back. Both show their certificates; who is no peer, or was forgotten, is
// not answered, nor is who asks too often.

const (
	// maxQuestion and maxAnswer are in bytes, maxAnswer of the whole line.
	maxQuestion = 3 << 10
	maxAnswer   = 512 << 10
	// askRate is how many questions of one host are answered in a second, askBurst how many
	// at once after a rest.
	askRate, askBurst = 10, 30
	// asked at the same time, of all hosts together; the others wait.
	askedMax = 4
)

// Ask puts a question to a peer's daemon. The context bounds how long it may take. An error
// says why it cannot be asked, or what it refused.
func (c *Checker) Ask(ctx context.Context, p cnm.Peer, question []byte) ([]byte, error) {
	if c.cfg.Client == nil {
		return nil, cnm.Unsupported("the mesh has no certificates of its own (its etcd is somebody else's), so that hosts do not ask each other")
	}
	if len(question) > maxQuestion {
		return nil, cnm.Invalid("the question is too long: %d bytes, and %d may be", len(question), maxQuestion)
	}
	s, err := c.talkTo(ctx, p, p.Addr, true)
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s", c.silent(p, err))
	}
	defer s.Close()
	if id := holderOf(s.conn); id != p.ID {
		return nil, cnm.Errorf(cnm.ErrConflict, "at %s another host of the mesh answers than %s: two hosts use one address", p.Addr, p.Name)
	}
	r, err := s.put(ctx, request{Op: "question", From: c.cfg.Name, Question: question}, agree, maxAnswer)
	switch {
	case errors.Is(err, cnm.ErrUnavailable):
		return nil, err
	case err != nil && ctx.Err() != nil, errors.As(err, new(net.Error)):
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s takes the question and does not answer in time", p.Name)
	case err != nil:
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s broke off: %w", p.Name, err)
	}
	return r.Answer, nil
}

// line reads one line of an answer, of that many bytes at most.
func (s *conversation) line(most int) (line []byte, err error) {
	for {
		part, err := s.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > most:
			return nil, errors.New("its answer is too long")
		}
	}
}

// holderOf is the id of the host whose certificate the other side has shown; "": none.
func holderOf(conn net.Conn) string {
	if t, ok := conn.(*tls.Conn); ok {
		if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
			return certs[0].Subject.CommonName
		}
	}
	return ""
}

// question answers one.
func (a *answering) question(ctx context.Context, conn net.Conn, q request) reply {
	if a.cfg.Question == nil {
		return reply{Error: a.cfg.Name + " answers no questions"}
	}
	from := holderOf(conn)
	peers := a.cfg.Peers()
	i := slices.IndexFunc(peers, func(p cnm.Peer) bool { return p.ID == from })
	if from == "" || i < 0 {
		return reply{Error: a.cfg.Name + " knows no host of this certificate: it was forgotten, or has joined just now"}
	}
	if !a.asks.take(from, time.Now()) {
		return reply{Error: a.cfg.Name + " was asked too often: ask again in a second"}
	}
	ctx, stop := context.WithTimeout(ctx, agree)
	defer stop()
	select {
	case a.asks.busy <- struct{}{}:
		defer func() { <-a.asks.busy }()
	case <-ctx.Done():
		return reply{Error: a.cfg.Name + " is busy with the questions of others"}
	}
	b, err := a.cfg.Question(ctx, peers[i], q.Question)
	switch {
	case err != nil:
		return reply{Error: err.Error()}
	case len(b) > maxAnswer/2:
		return reply{Error: "the answer is too long"}
	}
	return reply{Answer: b}
}

// asks bounds how often hosts are answered.
type asks struct {
	busy chan struct{}

	mu sync.Mutex
	by map[string]bucket
}

// bucket is what one host may still ask, and as of when.
type bucket struct {
	left float64
	at   time.Time
}

func newAsks() *asks { return &asks{busy: make(chan struct{}, askedMax), by: map[string]bucket{}} }

// take says whether a host may ask now.
func (a *asks) take(host string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, known := a.by[host]
	if !known {
		b = bucket{askBurst, now}
	}
	b.left = min(askBurst, b.left+askRate*now.Sub(b.at).Seconds())
	b.at = now
	may := b.left >= 1
	if may {
		b.left--
	}
	a.by[host] = b // of peers only: as many as there are hosts
	return may
}
