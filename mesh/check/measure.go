package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// measurement is what was met on a way.
type measurement struct {
	port uint16 // at which the peer answers
	// sent and answered count small probes; arrived is how many of them reached the peer,
	// -1: it did not say.
	sent, answered, arrived int
	rtts                    []time.Duration
	// mtu is the largest packet that was answered, expected the largest that was tried;
	// by is the router that said what does fit, where one did (says).
	mtu, expected int
	by            netip.Addr
	says          int
	// damaged datagrams arrived; spoilt were thrown away by the peer's kernel.
	damaged int
	spoilt  uint64
	// tcp is a transfer.
	tcp transfer
	err error // the way cannot be used at all
}

// transfer is a large one each way.
type transfer struct {
	connected bool
	bytes     int
	took      time.Duration
	mtu       int // what TCP believes of the path
	again     int // segments
	err       error
}

const (
	smallProbes = 20
	smallGap    = 10 * time.Millisecond
	smallSize   = 100 // bytes, IP header and all
	// volume is what a transfer moves each way; a black hole shows after the first
	// window.
	volume   = 1 << 20
	stalling = 5 * time.Second
	// stuck is the same where it is known already that large packets do not pass.
	stuck = 1500 * time.Millisecond
	// widest is how long an answer may take, whatever the round trip seems to be.
	widest = time.Second
)

// floor is the smallest packet that every way has to take (RFC 791: 576 for IPv4 in
// practice; RFC 8200).
func floor(a netip.Addr) int {
	if a.Is6() {
		return 1280
	}
	return 576
}

// measure probes one way.
func (c *Checker) measure(ctx context.Context, s *conversation, w Way) (m measurement) {
	m.port, m.expected, m.arrived = c.cfg.Port, w.MTU, -1
	if s.mtu != 0 && s.mtu < m.expected {
		m.expected = s.mtu
	}
	conn, err := dialProbe(ctx, c.cfg.In, netip.AddrPortFrom(w.Target, c.cfg.Port))
	if err != nil {
		m.err = err
		return m
	}
	defer conn.Close()
	before, _ := s.ask(ctx, request{Op: "tally", Session: s.session}, 3*time.Second)

	b := &burst{conn: conn, session: s.session, key: s.key, extra: ipHeader(w.Target)}
	defer b.listen()()
	for _, at := range b.send(ctx, slices.Repeat([]int{smallSize}, smallProbes), smallGap, widest) {
		if m.sent++; at > 0 {
			m.answered++
			m.rtts = append(m.rtts, at)
		}
	}
	slices.Sort(m.rtts)
	if mid, ok := s.tallyOf(ctx); ok && before.Tally != nil {
		m.arrived = mid.Received - before.Tally.Received
	}
	if m.answered > 0 {
		m.mtu = b.limit(ctx, floor(w.Target), m.expected, m.patience())
		m.by, m.says, _ = told(conn)
	}
	stall := c.cfg.stall
	if m.answered > 0 && m.mtu < m.expected {
		stall = min(stall, stuck)
	}
	m.tcp = c.transfer(ctx, s, w, stall)
	if after, ok := s.tallyOf(ctx); ok && before.Tally != nil {
		m.damaged, m.spoilt = after.Damaged-before.Tally.Damaged, after.Checksums-before.Tally.Checksums
	}
	return m
}

func (s *conversation) tallyOf(ctx context.Context) (tally, bool) {
	r, err := s.ask(ctx, request{Op: "tally", Session: s.session}, 3*time.Second)
	if err != nil || r.Tally == nil {
		return tally{}, false
	}
	return *r.Tally, true
}

// patience is how long an answer is waited for, from the round trips so far.
func (m *measurement) patience() time.Duration {
	if len(m.rtts) == 0 {
		return widest
	}
	return min(widest, 4*m.rtts[len(m.rtts)-1]+100*time.Millisecond)
}

// rtt is the median, 0 for none.
func (m *measurement) rtt() time.Duration {
	if len(m.rtts) == 0 {
		return 0
	}
	return m.rtts[len(m.rtts)/2]
}

// loss is of small probes, there and back.
func (m *measurement) loss() float64 {
	if m.sent == 0 {
		return 1
	}
	return 1 - float64(m.answered)/float64(m.sent)
}

// burst sends probes and hears the echoes.
type burst struct {
	conn    *net.UDPConn
	session uint64
	key     []byte
	extra   int // bytes of IP and UDP

	mu     sync.Mutex
	number uint32
	out    map[uint32]time.Time
	back   map[uint32]time.Duration
	came   chan struct{}
}

// listen hears echoes until the function that it returns is called.
func (b *burst) listen() (stop func()) {
	b.out, b.back, b.came = map[uint32]time.Time{}, map[uint32]time.Duration{}, make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := b.conn.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			now := time.Now()
			p, ok := peek(buf[:max(n, 0)])
			if err != nil || !ok || p.kind != isEcho || p.session != b.session || !sealed(b.key, buf[:n]) {
				continue // an error is what was told of a probe
			}
			b.mu.Lock()
			if at, sent := b.out[p.number]; sent {
				b.back[p.number] = max(now.Sub(at), 1)
				delete(b.out, p.number)
			}
			b.mu.Unlock()
			select {
			case b.came <- struct{}{}:
			default:
			}
		}
	})
	return func() { b.conn.Close(); wg.Wait() }
}

// send sends one probe of each size, IP header and all, and returns when each echo came: 0
// for none.
func (b *burst) send(ctx context.Context, sizes []int, gap, patience time.Duration) []time.Duration {
	numbers := make([]uint32, len(sizes))
	for i, size := range sizes {
		b.mu.Lock()
		b.number++
		numbers[i] = b.number
		b.out[b.number] = time.Now()
		b.mu.Unlock()
		d := packet{session: b.session, number: numbers[i], kind: isProbe}.seal(b.key, size-b.extra)
		// What is told of earlier probes comes back from writes that do nothing else.
		for range 3 {
			if _, err := b.conn.Write(d); err == nil {
				break
			}
		}
		if gap > 0 && !pause(ctx, gap) {
			break
		}
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	for !b.all(numbers) {
		select {
		case <-b.came:
			continue
		case <-t.C:
		case <-ctx.Done():
		}
		break
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	got := make([]time.Duration, len(sizes))
	for i, n := range numbers {
		got[i] = b.back[n]
		delete(b.out, n)
		delete(b.back, n)
	}
	return got
}

func (b *burst) all(numbers []uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		if b.back[n] == 0 {
			return false
		}
	}
	return true
}

// largest is the size of the largest packet that is answered, from low to high, where low
// is taken for granted. Each size is sent several times, so that loss is not taken for a
// limit.
func (b *burst) largest(ctx context.Context, low, high int, patience time.Duration) int {
	if b.passes(ctx, high, patience) {
		return high
	}
	for best := low; ; {
		sizes := ladder(best, high)
		if len(sizes) == 0 || ctx.Err() != nil {
			return best
		}
		const copies = 4
		var all []int
		for range copies {
			all = append(all, sizes...)
		}
		next := high
		got := b.send(ctx, all, 0, patience)
		for i, size := range sizes {
			came := false
			for j := range copies {
				came = came || got[j*len(sizes)+i] > 0
			}
			if came {
				best = max(best, size)
			}
		}
		for _, size := range sizes {
			if size > best {
				next = min(next, size)
			}
		}
		high = next
	}
}

// limit is the largest, looked at twice: what came late, since a host had other work, and
// what was lost, are no limit.
func (b *burst) limit(ctx context.Context, low, high int, patience time.Duration) int {
	mtu := b.largest(ctx, low, high, patience)
	for mtu < high && ctx.Err() == nil && b.passes(ctx, mtu+1, widest) {
		mtu = b.largest(ctx, mtu+1, high, widest)
	}
	return mtu
}

// passes: a few at once, and a few more if none came.
func (b *burst) passes(ctx context.Context, size int, patience time.Duration) bool {
	for _, n := range []int{2, 6} {
		if slices.Max(b.send(ctx, slices.Repeat([]int{size}, n), time.Millisecond, patience)) > 0 {
			return true
		}
	}
	return false
}

// ladder are up to 16 sizes between two, the ends left out.
func ladder(low, high int) (sizes []int) {
	const rungs = 16
	for i := 1; i <= rungs; i++ {
		size := low + (high-low)*i/(rungs+1)
		if size > low && size < high && (len(sizes) == 0 || sizes[len(sizes)-1] < size) {
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// transfer moves a volume each way, in one conversation on the way itself.
func (c *Checker) transfer(ctx context.Context, s *conversation, w Way, stall time.Duration) (t transfer) {
	begin := time.Now()
	to, err := c.talkTo(ctx, s.peer, w.Target, false)
	if err != nil {
		t.connected, t.err = errors.As(err, new(unsecured)), err
		return t
	}
	defer to.Close()
	t.connected = true
	raw := to.conn
	if inner, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = inner.NetConn()
	}
	defer func() { t.mtu, t.again = pathOf(raw) }()
	defer context.AfterFunc(ctx, func() { to.conn.SetDeadline(time.Unix(1, 0)) })()
	to.conn.SetDeadline(soon(ctx, 3*stall))
	if _, err := fmt.Fprintf(to.conn, `{"op":"take","bytes":%d}`+"\n", volume); err != nil {
		t.err = err
		return t
	}
	n, err := io.CopyN(live{to.conn, ctx, stall}, pattern{}, volume)
	if err == nil {
		_, err = to.in.ReadBytes('\n')
	}
	if t.bytes, t.err = int(n), err; err != nil {
		return t
	}
	if _, err := fmt.Fprintf(to.conn, `{"op":"give","bytes":%d}`+"\n", volume); err != nil {
		t.err = err
		return t
	}
	to.conn.SetDeadline(soon(ctx, 3*stall))
	n, err = io.CopyN(io.Discard, to.in, volume)
	t.bytes, t.err, t.took = t.bytes+int(n), err, time.Since(begin)
	return t
}

// live ends a transfer that stands still, not one that is slow.
type live struct {
	net.Conn
	ctx   context.Context
	stall time.Duration
}

func (l live) Write(b []byte) (int, error) {
	l.Conn.SetDeadline(soon(l.ctx, l.stall))
	return l.Conn.Write(b)
}
