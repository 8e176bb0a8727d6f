package dns

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// tcpIdle is how long a client's connection may rest (RFC 7766 6.2.3: some
	// seconds).
	tcpIdle = 10 * time.Second
	// tcpWrite bounds what a client that does not read can hold up.
	tcpWrite = 5 * time.Second
	// maxConns and maxPipelined bound what one sandbox can take of the process that
	// serves all.
	maxConns     = 128
	maxPipelined = 64
)

func (v *view) serveTCP(l *listeners) {
	for {
		c, err := l.tcp.Accept()
		if err != nil {
			if v.over(err) {
				return
			}
			continue
		}
		if !l.hold(c) {
			_ = c.Close()
			continue
		}
		v.server.busy.Go(func() { v.server.guard(v.id, func() { v.serveConn(l, c) }) })
	}
}

// tcpClient writes the answers of one connection, in the order in which they come
// (RFC 7766 6.2.1.1).
type tcpClient struct {
	conn    net.Conn
	mu      sync.Mutex
	buf     []byte
	waiting sync.WaitGroup
	slots   chan struct{}
}

// send frames a message (RFC 1035 4.2.2).
func (t *tcpClient) send(msg []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.conn.SetWriteDeadline(time.Now().Add(tcpWrite))
	t.buf = append(append(t.buf[:0], byte(len(msg)>>8), byte(len(msg))), msg...)
	if _, err := t.conn.Write(t.buf); err != nil {
		_ = t.conn.Close() // the reader ends too
	}
}

// serveConn answers questions as they come, also the next while one waits for an
// upstream (pipelining).
func (v *view) serveConn(l *listeners, c net.Conn) {
	t := &tcpClient{conn: c, slots: make(chan struct{}, maxPipelined)}
	defer l.drop(c)
	defer t.waiting.Wait()
	r := bufio.NewReaderSize(c, 2048)
	var q query
	var out []byte
	count := &v.server.count
	for {
		if !l.awaits(c) {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(r, msg); err != nil {
			return
		}
		count.Queries.Add(1)
		count.TCP.Add(1)
		code := q.parse(msg, true)
		d := v.data.Load()
		switch {
		case code == drop:
			count.Dropped.Add(1)
			return // whoever sends this speaks something else
		case code != rcodeSuccess:
			count.Refused.Add(1)
			t.send(q.refuse(out[:0], code))
			continue
		}
		answer, done := d.local(&q, out[:0])
		if done {
			count.Local.Add(1)
		} else {
			t.slots <- struct{}{}
			t.waiting.Add(1)
			answer = v.ask(d.forward, &q, out[:0], client{tcp: t})
		}
		if len(answer) > 0 {
			if !done {
				t.done()
			}
			t.send(answer)
		}
		if cap(answer) > cap(out) {
			out = answer
		}
	}
}

// done ends the wait for one upstream's answer.
func (t *tcpClient) done() {
	<-t.slots
	t.waiting.Done()
}
