package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// world is what is beyond the host: servers that behave and servers that do not.
// Its wires are pipes, so that time may be a bubble's.
type world struct {
	mu      sync.Mutex
	servers map[netip.AddrPort]*fake
}

// fake is one server.
type fake struct {
	udp, tcp func(q *mdns.Msg) *mdns.Msg // nil answer: none
	delay    time.Duration
	refuse   bool // connections are refused
	lie      bool // before the answer come some that are none
	noEDNS   bool
	lose     int // so many questions are lost first

	mu    sync.Mutex
	asked []string // NETWORK NAME TYPE [bits]
}

var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

func (w *world) dial(network string, server netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	f := w.servers[server]
	w.mu.Unlock()
	if f == nil {
		return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
	}
	f.mu.Lock()
	refuse := f.refuse
	f.mu.Unlock()
	if refuse || network == "tcp" && f.tcp == nil {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		for {
			buf := make([]byte, 65537)
			n, err := theirs.Read(buf)
			if err != nil {
				return
			}
			pkt := buf[:n]
			if network == "tcp" {
				pkt = pkt[2:]
			}
			q := new(mdns.Msg)
			if err := q.Unpack(pkt); err != nil {
				panic(fmt.Sprintf("%x: %v", pkt, err))
			}
			f.answer(network, q, theirs)
		}
	}()
	return ours, nil
}

func (f *fake) answer(network string, q *mdns.Msg, c net.Conn) {
	f.mu.Lock()
	line := network + " " + q.Question[0].Name + " " + mdns.TypeToString[q.Question[0].Qtype]
	if o := q.IsEdns0(); o != nil {
		line += fmt.Sprint(" edns=", o.UDPSize())
		if o.Do() {
			line += " do"
		}
	}
	if q.CheckingDisabled {
		line += " cd"
	}
	f.asked = append(f.asked, line)
	delay, handler := f.delay, f.udp
	if network == "tcp" {
		handler = f.tcp
	}
	lost := f.lose > 0
	f.lose--
	lie, noEDNS := f.lie, f.noEDNS
	f.mu.Unlock()
	if lost || handler == nil {
		return
	}
	time.Sleep(delay)
	if noEDNS && q.IsEdns0() != nil {
		r := new(mdns.Msg).SetRcodeFormatError(q)
		f.write(network, c, r)
		return
	}
	r := handler(q)
	if r == nil {
		return
	}
	if lie {
		wrong := r.Copy()
		wrong.Id++
		f.write(network, c, wrong)
		wrong = r.Copy()
		wrong.Question[0].Name = "evil.example."
		f.write(network, c, wrong)
		wrong = r.Copy()
		wrong.Response = false
		f.write(network, c, wrong)
	}
	f.write(network, c, r)
}

func (f *fake) write(network string, c net.Conn, m *mdns.Msg) {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	_, _ = c.Write(b)
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// heard are the questions since the last call.
func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.asked
	f.asked = nil
	return a
}

// says answers with records; those beginning with "ns " go to the authority section.
func says(ttl int, records ...string) func(*mdns.Msg) *mdns.Msg {
	return func(q *mdns.Msg) *mdns.Msg {
		r := new(mdns.Msg).SetReply(q)
		r.RecursionAvailable, r.Compress = true, true
		for _, line := range records {
			ns := len(line) > 3 && line[:3] == "ns "
			if ns {
				line = line[3:]
			}
			rr, err := mdns.NewRR(q.Question[0].Name + " " + fmt.Sprint(ttl) + " IN " + line)
			if err != nil {
				panic(err)
			}
			if ns {
				r.Ns = append(r.Ns, rr)
			} else {
				r.Answer = append(r.Answer, rr)
			}
		}
		if o := q.IsEdns0(); o != nil {
			r.SetEdns0(1400, o.Do())
		}
		return r
	}
}

func code(rcode, ttl int, records ...string) func(*mdns.Msg) *mdns.Msg {
	return func(q *mdns.Msg) *mdns.Msg {
		r := says(ttl, records...)(q)
		r.Rcode = rcode
		return r
	}
}

func tooLong(q *mdns.Msg) *mdns.Msg {
	r := says(60)(q)
	r.Truncated = true
	return r
}

const soa = "SOA ns.example. root.example. 1 2 3 4 60"

// sandbox is a client in a view whose upstreams are a world's.
type sandbox struct {
	t testing.TB
	*Server
	*view
	l *listeners
}

func newSandbox(t testing.TB, w *world, v View) *sandbox {
	v.Sandbox = "box"
	c := Config{Log: quiet(), ResolvConf: os.DevNull, Dial: w.dial}
	s := NewServer(c)
	n := &view{server: s, id: v.Sandbox, sockets: &listeners{}}
	s.views[v.Sandbox] = n
	n.data.Store(newViewData(v, s.seed, s.zone, s.upstreams(n, v)))
	return &sandbox{t, s, n, &listeners{conns: map[net.Conn]bool{}}}
}

// ask asks over a connection of its own and tells the answer and how long it took.
func (s *sandbox) ask(words ...string) (string, time.Duration) {
	s.t.Helper()
	m, _, _ := question(s.t, words)
	r, took, err := s.exchange(m)
	if err != nil {
		return err.Error(), took
	}
	return show(r), took
}

func (s *sandbox) exchange(m *mdns.Msg) (*mdns.Msg, time.Duration, error) {
	start := time.Now()
	client, server := net.Pipe()
	done := make(chan struct{})
	s.l.hold(server)
	go func() { s.serveConn(s.l, server); close(done) }()
	defer func() { client.Close(); <-done }()
	pkt, err := m.Pack()
	if err != nil {
		return nil, 0, err
	}
	_ = client.SetDeadline(start.Add(6 * time.Second))
	go client.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(pkt))), pkt...))
	var size [2]byte
	if _, err := io.ReadFull(client, size[:]); err != nil {
		return nil, time.Since(start), err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(client, buf); err != nil {
		return nil, time.Since(start), err
	}
	r := new(mdns.Msg)
	err = r.Unpack(buf)
	if err == nil && (r.Id != m.Id || len(r.Question) != 1 || r.Question[0] != m.Question[0]) {
		err = errors.New("an answer to another question: " + r.String())
	}
	return r, time.Since(start), err
}
