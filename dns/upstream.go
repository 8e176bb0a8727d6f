package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// upstream is one server as a group knows it.
type upstream struct {
	addr netip.AddrPort

	asked, answered, failed, mismatched, tcp atomic.Uint64

	mu        sync.Mutex
	rtt, vary time.Duration // smoothed, and how it varies (RFC 6298 2)
	fails     int           // in a row
	downUntil time.Duration // on the group's clock
	lastAsked time.Duration
	plain     bool // it does not know EDNS
}

const (
	// slow is from where on a server goes behind faster ones. Below, the order of
	// resolv.conf holds: who writes a VPN's server first means it.
	slow = 250 * time.Millisecond
	// hedgeLeast and hedgeMost bound how long the next server waits for the one
	// before it; hedgeUnknown is for one that was never asked.
	hedgeLeast, hedgeUnknown, hedgeMost = 50 * time.Millisecond, 150 * time.Millisecond, 300 * time.Millisecond
	// downAfter failures in a row put a server behind all others, for backoffLeast
	// and twice that each time.
	downAfter                 = 2
	backoffLeast, backoffMost = time.Second, 30 * time.Second
	// lookAgain is how often a slow server is asked beside the quick ones.
	lookAgain = 30 * time.Second
)

// hedge is how long an answer is waited for alone.
func (u *upstream) hedge() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rtt == 0 {
		return hedgeUnknown
	}
	return min(max(u.rtt+4*u.vary, hedgeLeast), hedgeMost)
}

// rank is where a server stands: 0 for quick ones, more for slower ones, most for
// those that are down.
func (u *upstream) rank(now time.Duration) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.fails >= downAfter:
		return 100 + u.fails
	case u.rtt > slow:
		return bits.Len64(uint64(u.rtt / slow))
	}
	return 0
}

// probe says whether it is time to ask a server that is not among the quick ones,
// and books it.
func (u *upstream) probe(now time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	due := u.fails >= downAfter && now >= u.downUntil || u.fails < downAfter && u.rtt > slow && now >= u.lastAsked+lookAgain
	if due {
		u.lastAsked = now
		u.downUntil = max(u.downUntil, now+backoffLeast)
	}
	return due
}

func (u *upstream) good(took time.Duration) {
	u.answered.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fails, u.downUntil = 0, 0
	took = max(took, 1)
	if u.rtt == 0 {
		u.rtt, u.vary = took, took/2
		return
	}
	u.vary += (max(u.rtt-took, took-u.rtt) - u.vary) / 4
	u.rtt += (took - u.rtt) / 8
}

func (u *upstream) bad(now time.Duration) {
	u.failed.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fails++
	if n := u.fails - downAfter; n >= 0 {
		u.downUntil = now + min(backoffLeast<<min(n, 10), backoffMost)
	}
}

// ask is what is sent; the id and EDNS are each attempt's own.
type ask struct {
	name  []byte // on the wire, in lower case
	qtype uint16
	flags uint16 // RD, AD, CD
	do    bool
	tcp   bool // over TCP from the start
}

// errNotEDNS is that a server refused a question with EDNS.
var errNotEDNS = errors.New("the server does not know EDNS")

// exchange asks once, over UDP and, if the answer is cut, over TCP. Stop, called by
// the caller at most once, ends the wait some time later.
func (u *upstream) exchange(d Dialer, a *ask, deadline time.Time, hold func(net.Conn)) (*message, error) {
	u.asked.Add(1)
	u.mu.Lock()
	edns := !u.plain
	u.mu.Unlock()
	m, err := u.once(d, a, edns, deadline, hold)
	if errors.Is(err, errNotEDNS) {
		if m, err = u.once(d, a, false, deadline, hold); err == nil {
			u.mu.Lock()
			u.plain = true
			u.mu.Unlock()
		}
	}
	return m, err
}

func (u *upstream) once(d Dialer, a *ask, edns bool, deadline time.Time, hold func(net.Conn)) (*message, error) {
	id := uint16(rand.Uint32()) // ChaCha8, seeded by the kernel (RFC 5452 9.2)
	pkt := a.pack(id, edns)
	var cut *message
	if !a.tcp {
		m, err := u.overUDP(d, a, pkt, deadline, hold)
		if err != nil || !m.cut {
			return m, err
		}
		cut = m
	}
	u.tcp.Add(1)
	m, err := u.overTCP(d, a, pkt, deadline, hold)
	if err != nil && cut != nil {
		return cut, nil // a part is better than nothing where TCP is closed
	}
	return m, err
}

func (a *ask) pack(id uint16, edns bool) []byte {
	b := make([]byte, 2, 2+headerLen+len(a.name)+5+optLen) // room for TCP's length
	b = append(b, byte(id>>8), byte(id), byte(a.flags>>8), byte(a.flags), 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(append(b, a.name...), 0, byte(a.qtype>>8), byte(a.qtype), 0, classIN)
	if edns {
		b[2+11] = 1
		b = appendOPT(b, 0, a.do)
	}
	put16(b, len(b)-2)
	return b
}

// overUDP sends from a socket of its own, so that its port is as random as the
// kernel's choice (RFC 5452 9.2), and only what comes from the server is read.
func (u *upstream) overUDP(d Dialer, a *ask, pkt []byte, deadline time.Time, hold func(net.Conn)) (*message, error) {
	c, err := d("udp", u.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	hold(c)
	if _, err := c.Write(pkt[2:]); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDP)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		m, err := a.read(pkt[2:], buf[:n])
		if errors.Is(err, errOther) {
			u.mismatched.Add(1) // late, forged or mad: the right one may still come
			continue
		}
		return m, err
	}
}

func (u *upstream) overTCP(d Dialer, a *ask, pkt []byte, deadline time.Time, hold func(net.Conn)) (*message, error) {
	c, err := d("tcp", u.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	hold(c)
	if _, err := c.Write(pkt); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, err
	}
	m, err := a.read(pkt[2:], buf)
	if errors.Is(err, errOther) {
		u.mismatched.Add(1)
	}
	return m, err
}

// errOther is an answer to something that was not asked.
var errOther = errors.New("an answer to another question")

// read checks that an answer is one to what was asked (RFC 5452 9.1).
func (a *ask) read(pkt, buf []byte) (*message, error) {
	if len(buf) < headerLen || buf[0] != pkt[0] || buf[1] != pkt[1] {
		return nil, errOther
	}
	flags := binary.BigEndian.Uint16(buf[2:])
	if flags&flagQR == 0 || flags&opcodeMask != 0 {
		return nil, errOther
	}
	end := headerLen + len(a.name) + 5
	edns := pkt[11] > 0
	refused := edns && (flags&rcodeMask == rcodeFormat || flags&rcodeMask == rcodeNotImp)
	if binary.BigEndian.Uint16(buf[4:]) == 0 && refused {
		return nil, errNotEDNS // RFC 6891 7: not even the question came back
	}
	if binary.BigEndian.Uint16(buf[4:]) != 1 || len(buf) < end || !equalFold(buf[headerLen:end-4], pkt[headerLen:end-4]) || string(buf[end-4:end]) != string(pkt[end-4:end]) {
		return nil, errOther
	}
	if refused {
		return nil, errNotEDNS
	}
	return readMessage(buf, end)
}

func equalFold(a, lowered []byte) bool {
	for i, c := range a {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		if c != lowered[i] {
			return false
		}
	}
	return true
}

// say tells an exchange's error in short.
func say(u *upstream, err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errors.New("no answer")
	case errors.As(err, &op):
		err = op.Err
	}
	return fmt.Sprintf("%s: %v", u.addr, err)
}

// dial opens a socket where the process is. A datagram socket's is open at once.
func dial(network string, server netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return net.DialUDP(network, nil, net.UDPAddrFromAddrPort(server))
	}
	d := net.Dialer{Timeout: 3 * time.Second}
	return d.Dial(network, server.String())
}
