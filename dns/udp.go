package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// maxQuery is the longest question that is read over UDP: a name and options.
	maxQuery = 1500
	// batchSize is how many questions are read and answered with one system call
	// when they come faster than one by one.
	batchSize = 16
	answerCap = 512
)

// batch is what serving many at once needs; sandboxes that rest hold none.
type batch struct {
	in, out  [batchSize]ipv4.Message
	in1      [batchSize][1][]byte
	out1     [batchSize][1][]byte
	answers  [batchSize][]byte
	received [batchSize][maxQuery]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range batchSize {
		b.in1[i][0] = b.received[i][:]
		b.in[i].Buffers = b.in1[i][:]
		b.out[i].Buffers = b.out1[i][:]
		b.answers[i] = make([]byte, 0, answerCap)
	}
	return b
}

// serveUDP waits for one question at a time, and looks for more where there were more
// the last time: to look in vain costs a system call and some garbage, so that it is
// done ever less often while questions come one by one. A sandbox that rests costs
// one goroutine with a small buffer and no thread.
func (v *view) serveUDP(l *listeners) {
	var q query
	in, out := make([]byte, maxQuery), make([]byte, 0, answerCap)
	const lookLeast = 16 // at the latest after so many
	for wait, vain := 0, 0; ; {
		n, from, err := l.udp.ReadFromUDPAddrPort(in)
		if err != nil {
			if v.over(err) {
				return
			}
			continue
		}
		answer := v.answer(&q, in[:n], out[:0], from, l)
		if len(answer) > 0 {
			_, _ = l.udp.WriteToUDPAddrPort(answer, from) // a client that is gone
		}
		if cap(answer) > cap(out) && cap(answer) <= maxUDP {
			out = answer[:0]
		}
		if wait > 0 {
			wait--
			continue
		}
		n = v.serveBatch(l, &q)
		if n == 0 {
			vain = min(2*vain+1, lookLeast)
			wait = vain
			continue
		}
		for vain = 0; n == batchSize; {
			n = v.serveBatch(l, &q)
		}
	}
}

// over says whether reading came to its end; other errors (ICMP's, of clients that
// closed; no memory) pass.
func (v *view) over(err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) { // the latter: drained
		return true
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		v.server.log.Debug("dns: reading questions", "sandbox", v.id, "error", err)
		time.Sleep(time.Millisecond) // never a busy loop
	}
	return false
}

// serveBatch answers what has come meanwhile, and says how many that were.
func (v *view) serveBatch(l *listeners, q *query) int {
	b := v.server.pool.Get().(*batch)
	defer v.server.pool.Put(b)
	n, err := l.batch.ReadBatch(b.in[:], syscall.MSG_DONTWAIT)
	if err != nil {
		return 0
	}
	send := 0
	for i := range b.in[:n] {
		m := &b.in[i]
		from, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			continue
		}
		answer := v.answer(q, b.received[i][:m.N], b.answers[send][:0], from.AddrPort(), l)
		if len(answer) == 0 {
			continue
		}
		if cap(answer) <= maxUDP {
			b.answers[send] = answer
		}
		b.out1[send][0] = answer
		b.out[send].Addr = m.Addr
		send++
	}
	for sent := 0; sent < send; {
		n, err := l.batch.WriteBatch(b.out[sent:send], 0)
		if err != nil || n <= 0 {
			n++ // the first of the rest cannot be sent
		}
		sent += n
	}
	return n
}

// answer makes the answer to one message, appended to out; what upstreams must be
// asked for is answered later.
func (v *view) answer(q *query, msg, out []byte, from netip.AddrPort, l *listeners) []byte {
	c := &v.server.count
	c.Queries.Add(1)
	code := q.parse(msg, false)
	switch {
	case code == drop:
		c.Dropped.Add(1)
		return out
	case code != rcodeSuccess:
		c.Refused.Add(1)
		return q.refuse(out, code)
	}
	d := v.data.Load()
	if out, done := d.local(q, out); done {
		c.Local.Add(1)
		return out
	}
	return v.ask(d.forward, q, out, client{udp: l.udp, addr: from})
}
