package trust

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// limit counts wrong tokens. The secret cannot be guessed (128 bits); what is limited is
// the work and the lines in the log.
type limit struct {
	mu    sync.Mutex
	wrong map[netip.Addr][]time.Time
}

const (
	wrongMax    = 5
	wrongWindow = time.Minute
)

// wait is how long an address must wait; 0: it may ask.
func (l *limit) wait(a netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.recent(a, now)
	if len(times) < wrongMax {
		return 0
	}
	return max(times[0].Add(wrongWindow).Sub(now), time.Second)
}

func (l *limit) note(a netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong == nil || len(l.wrong) > 10_000 { // a flood from everywhere
		l.wrong = map[netip.Addr][]time.Time{}
	}
	l.wrong[a] = append(l.recent(a, now), now)
}

func (l *limit) recent(a netip.Addr, now time.Time) []time.Time {
	times := l.wrong[a]
	for len(times) > 0 && now.Sub(times[0]) >= wrongWindow {
		times = times[1:]
	}
	if len(times) == 0 {
		delete(l.wrong, a)
	}
	return times
}

// bounded accepts a connection only while there are not too many, and not too many from
// one address: one host with a hundred idle connections keeps no other one out.
type bounded struct {
	net.Listener
	free chan struct{}

	mu   sync.Mutex
	from map[netip.Addr]int
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		b.free <- struct{}{}
		c, err := b.Listener.Accept()
		if err != nil {
			<-b.free
			return nil, err
		}
		at, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		a := at.Addr().Unmap()
		g := &guest{Conn: c, leave: sync.OnceFunc(func() {
			<-b.free
			b.count(a, -1)
		})}
		if b.count(a, 1) <= guestsOfOne {
			return g, nil
		}
		_ = g.Close()
	}
}

func (b *bounded) count(a netip.Addr, by int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.from == nil {
		b.from = map[netip.Addr]int{}
	}
	b.from[a] += by
	n := b.from[a]
	if n == 0 {
		delete(b.from, a)
	}
	return n
}

type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}
