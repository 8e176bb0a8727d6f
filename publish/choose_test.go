package publish

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"linkspan/cnm"
)

// host is a host's ports in memory: a Reserver with the kernel's rules.
type host struct {
	mu    sync.Mutex
	held  map[string][]cnm.PublishedPort // by owner; processes are owners too
	local []netip.Addr                   // nil: has every address
	calls int
}

func newHost(held ...string) *host {
	h := &host{held: map[string][]cnm.PublishedPort{}}
	for _, s := range held {
		owner, spec, _ := strings.Cut(s, "=")
		r, err := Parse(spec)
		if err != nil {
			panic(err)
		}
		h.held[owner] = append(h.held[owner], r.published(r.HostPort))
	}
	return h
}

func (h *host) Reserve(_ context.Context, owner string, ports []cnm.PublishedPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	for i, p := range ports {
		addr := p.HostIP
		if !addr.IsValid() {
			addr = netip.IPv4Unspecified()
		}
		if h.local != nil && !addr.IsUnspecified() && !slices.Contains(h.local, addr) {
			return fmt.Errorf("reserve: %w", &TakenError{i, addr, p.HostPort, syscall.EADDRNOTAVAIL})
		}
		for _, list := range h.held {
			for _, q := range list {
				if Conflict(p, q) {
					return fmt.Errorf("reserve: %w", &TakenError{i, addr, max(p.HostPort, q.HostPort), syscall.EADDRINUSE})
				}
			}
		}
		for j := range i {
			if Conflict(ports[j], p) {
				panic(fmt.Sprintf("%s and %s were asked for together", shown(ports[j]), shown(p)))
			}
		}
	}
	h.held[owner] = append(h.held[owner], ports...)
	return nil
}

// publisher says that owners named like containers are.
func (h *host) publisher(proto string, addr netip.Addr, port uint16) (Owner, bool) {
	owner, ok := h.find(proto, addr, port)
	return Owner{Name: owner, ID: "0123456789abcdef"}, ok && !strings.HasPrefix(owner, "pid")
}

func (h *host) process(proto string, addr netip.Addr, port uint16) (Process, bool) {
	owner, ok := h.find(proto, addr, port)
	return Process{PID: 123, Command: "mariadbd"}, ok && strings.HasPrefix(owner, "pid")
}

func (h *host) find(proto string, addr netip.Addr, port uint16) (string, bool) {
	for owner, list := range h.held {
		for _, q := range list {
			if Conflict(q, cnm.PublishedPort{Proto: proto, HostIP: addr, HostPort: port, HostPortEnd: port}) {
				return owner, true
			}
		}
	}
	return "", false
}

func chooser(h *host, e Ephemeral) *Chooser {
	return NewChooser(h, Options{Publisher: h.publisher, Process: h.process, Ephemeral: func() Ephemeral { return e }})
}

func choose(t testing.TB, c *Chooser, owner string, specs ...string) (string, error) {
	t.Helper()
	reqs, err := parseAll(specs...)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := c.Choose(t.Context(), owner, reqs)
	var out []string
	for _, p := range ports {
		out = append(out, shown(p))
	}
	return strings.Join(out, " "), err
}

func TestChoose(t *testing.T) {
	ten := Ephemeral{First: 40000, Last: 40009}
	for _, c := range []struct {
		name  string
		held  []string
		e     Ephemeral
		specs string
		want  string
	}{
		{name: "fixed", specs: "8080:80 53:53/udp", want: "0.0.0.0:8080->80/tcp 0.0.0.0:53->53/udp"},
		{name: "a range stays one", specs: "8000-8999:9000-9999", want: "0.0.0.0:8000-8999->9000-9999/tcp"},
		{name: "any", e: ten, specs: "80 443:443 127.0.0.1::81", want: "0.0.0.0:40000->80/tcp 0.0.0.0:443->443/tcp 127.0.0.1:40001->81/tcp"},
		{name: "protocols have ports of their own", e: ten, specs: "80 80/udp", want: "0.0.0.0:40000->80/tcp 0.0.0.0:40000->80/udp"},
		{name: "any, some taken", held: []string{"pid=40000:1", "web=127.0.0.1:40001:1"}, e: ten, specs: "80", want: "0.0.0.0:40002->80/tcp"},
		{name: "any on one address, another taken", held: []string{"web=127.0.0.1:40000:1"}, e: ten, specs: "127.0.0.2::80", want: "127.0.0.2:40000->80/tcp"},
		{name: "any, behind a fixed one of its own", e: ten, specs: "80 40000:81", want: "0.0.0.0:40001->80/tcp 0.0.0.0:40000->81/tcp"},
		{name: "any, all but the last taken", held: []string{"pid=40000-40008:1-9"}, e: ten, specs: "80", want: "0.0.0.0:40009->80/tcp"},
		{name: "reserved ports are left alone", e: Ephemeral{40000, 40009, []Span{{40000, 40004}, {40006, 40006}}}, specs: "80 82", want: "0.0.0.0:40005->80/tcp 0.0.0.0:40007->82/tcp"},
		{name: "a run", e: ten, specs: "9000-9004", want: "0.0.0.0:40000-40004->9000-9004/tcp"},
		{name: "a run behind what is taken", held: []string{"pid=40002:1"}, e: ten, specs: "9000-9003", want: "0.0.0.0:40004-40007->9000-9003/tcp"},
		{name: "a run between reserved ports", e: Ephemeral{40000, 40009, []Span{{40001, 40001}, {40003, 40003}}}, specs: "9000-9003", want: "0.0.0.0:40004-40007->9000-9003/tcp"},
		{name: "no run", held: []string{"pid=40001:1", "pid=40003:1", "pid=40005:1", "pid=40007:1"}, e: ten, specs: "9000-9002",
			want: "0.0.0.0:40006->9000/tcp 0.0.0.0:40004->9001/tcp 0.0.0.0:40008->9002/tcp"},
		{name: "the whole space", e: ten, specs: "9000-9009", want: "0.0.0.0:40000-40009->9000-9009/tcp"},
		{name: "one of a range", specs: "8000-8010:80", want: "0.0.0.0:8000->80/tcp"},
		{name: "one of a range, two taken", held: []string{"web=8000:80", "pid=127.0.0.1:8001:80"}, specs: "8000-8010:80", want: "0.0.0.0:8002->80/tcp"},
		{name: "two of one range", specs: "8000-8001:80 8000-8001:81", want: "0.0.0.0:8000->80/tcp 0.0.0.0:8001->81/tcp"},
		{name: "one of a range beside a fixed one", specs: "8000-8001:80 8000:81", want: "0.0.0.0:8001->80/tcp 0.0.0.0:8000->81/tcp"},
		{name: "the last port there is", specs: "65534-65535:80 65534-65535:81", want: "0.0.0.0:65534->80/tcp 0.0.0.0:65535->81/tcp"},
		{name: "IPv6", e: ten, specs: "[::1]::80 [::1]:8080:81", want: "[::1]:40000->80/tcp [::1]:8080->81/tcp"},
	} {
		h := newHost(c.held...)
		got, err := choose(t, chooser(h, c.e), "me", strings.Fields(c.specs)...)
		if err != nil || got != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
}

func TestChooseRefused(t *testing.T) {
	three := Ephemeral{First: 40000, Last: 40002}
	for _, c := range []struct {
		name  string
		held  []string
		local string
		specs string
		class error
		want  string
	}{
		{"a container has it", []string{"mysql=3306:3306"}, "", "3306:3306", cnm.ErrConflict,
			"Bind for 0.0.0.0:3306 failed: port is already allocated: container mysql (0123456789ab) publishes it; stop it or choose another port"},
		{"a process has it", []string{"pid=3306:3306"}, "", "3306:3306", cnm.ErrConflict,
			"Bind for 0.0.0.0:3306 failed: port is already allocated: address already in use: held by mariadbd (pid 123); stop it or publish another port"},
		{"on one address", []string{"mysql=3306:3306"}, "", "127.0.0.1:3306:3306", cnm.ErrConflict,
			"Bind for 127.0.0.1:3306 failed: port is already allocated: container mysql (0123456789ab) publishes it; stop it or choose another port"},
		{"one in the middle of a range", []string{"web=8005:80"}, "", "8000-8010:9000-9010", cnm.ErrConflict,
			"Bind for 0.0.0.0:8005 failed: port is already allocated: container web (0123456789ab) publishes it; stop it or choose another port"},
		{"not an address of this host", nil, "127.0.0.1", "10.9.9.9:80:80", cnm.ErrInvalid,
			"Bind for 10.9.9.9:80 failed: cannot assign requested address: 10.9.9.9 is not an address of this host; publish on one that is (ip address), or on all"},
		{"not an address of this host, any port", nil, "127.0.0.1", "10.9.9.9::80", cnm.ErrInvalid,
			"Bind for 10.9.9.9:40000 failed: cannot assign requested address: 10.9.9.9 is not an address of this host; publish on one that is (ip address), or on all"},
		{"a range is full", []string{"a=8000:80", "b=8001:80", "pid=8002-8005:1-4"}, "", "8000-8005:80", cnm.ErrExhausted,
			"Bind for 0.0.0.0:8000-8005 failed: all ports are allocated: no port of 8000-8005/tcp is free: held are 8000 by container a (0123456789ab), " +
				"8001 by container b (0123456789ab), 8002 by mariadbd (pid 123), 3 more; stop one of them or give a wider range"},
		{"a range that it fills itself", nil, "", "8000-8001:80 8000:81 8001:82", cnm.ErrExhausted,
			"Bind for 0.0.0.0:8000-8001 failed: all ports are allocated: no port of 8000-8001/tcp is free: the container's other ports need them; stop one of them or give a wider range"},
		{"no ephemeral port is left", []string{"pid=40000-40002:1-3"}, "", "80", cnm.ErrExhausted,
			"Bind for 0.0.0.0:0 failed: all ports are allocated: no port of 40000-40002/tcp is free for container port 80; stop something that holds some, or widen net.ipv4.ip_local_port_range"},
		{"a run longer than the space", nil, "", "9000-9003", cnm.ErrExhausted,
			"Bind for 0.0.0.0:0 failed: all ports are allocated: no port of 40000-40002/tcp is free for container port 9003; stop something that holds some, or widen net.ipv4.ip_local_port_range"},
		{"its own requests", nil, "", "80:80 127.0.0.1:80:81", cnm.ErrInvalid,
			`invalid port specification: "80:80/tcp" and "127.0.0.1:80:81/tcp" want the same host port: port is already allocated; choose another host port for one of them`},
	} {
		h := newHost(c.held...)
		if c.local != "" {
			h.local = []netip.Addr{netip.MustParseAddr(c.local)}
		}
		got, err := choose(t, chooser(h, three), "me", strings.Fields(c.specs)...)
		if !errors.Is(err, c.class) || err.Error() != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
		if got != "" || h.held["me"] != nil {
			t.Errorf("%s: something was reserved: %q, %v", c.name, got, h.held["me"])
		}
	}
}

// reserverFunc answers as it is told.
type reserverFunc func([]cnm.PublishedPort) error

func (f reserverFunc) Reserve(_ context.Context, _ string, p []cnm.PublishedPort) error { return f(p) }

func TestChooseOtherErrors(t *testing.T) {
	none := func(string, netip.Addr, uint16) (Process, bool) { return Process{}, false }
	reqs := []Request{req("tcp", "", 80, 80, 80, 80)}
	v4 := netip.IPv4Unspecified()
	gone := cnm.Errorf(cnm.ErrUnavailable, "the keeper is away")
	for _, c := range []struct {
		answer  error
		process Process
		class   error
		want    string
	}{
		{answer: gone, class: cnm.ErrUnavailable, want: "the keeper is away"},
		{answer: &TakenError{7, v4, 80, syscall.EADDRINUSE}, class: syscall.EADDRINUSE, want: "0.0.0.0:80: address already in use"},
		{answer: &TakenError{0, v4, 80, syscall.EACCES}, class: cnm.ErrForbidden, want: "permission denied: the daemon may not bind port 80; run it as root"},
		{answer: &TakenError{0, v4, 80, syscall.EMFILE}, class: cnm.ErrExhausted, want: "Bind for 0.0.0.0:80 failed: too many open files: every published port is a socket that the keeper holds"},
		{answer: &TakenError{0, v4, 80, syscall.EIO}, class: cnm.ErrUnavailable, want: "Bind for 0.0.0.0:80 failed (tcp): input/output error"},
		{answer: &TakenError{0, v4, 80, syscall.EADDRINUSE}, class: cnm.ErrConflict, want: "by a process that could not be found (try: ss -lntup 'sport = 80')"},
		{answer: &TakenError{0, v4, 80, syscall.EADDRINUSE}, process: Process{Waiting: true}, class: cnm.ErrConflict, want: "TIME_WAIT; try again in a minute"},
		{answer: &TakenError{0, v4, 80, syscall.EADDRINUSE}, process: Process{Command: "hidden"}, class: cnm.ErrConflict, want: "by a process that cannot be seen from here"},
	} {
		o := Options{Process: none}
		if c.process != (Process{}) {
			o.Process = func(string, netip.Addr, uint16) (Process, bool) { return c.process, true }
		}
		ch := NewChooser(reserverFunc(func([]cnm.PublishedPort) error { return c.answer }), o)
		if _, err := ch.Choose(t.Context(), "me", reqs); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.answer, err)
		}
	}
	// A caller that gives up is not kept in the search.
	ctx, cancel := context.WithCancel(t.Context())
	ch := NewChooser(reserverFunc(func(p []cnm.PublishedPort) error {
		cancel()
		return &TakenError{0, v4, p[0].HostPort, syscall.EADDRINUSE}
	}), Options{Process: none})
	if _, err := ch.Choose(ctx, "me", []Request{req("tcp", "", 0, 0, 80, 80)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if ports, err := ch.Choose(t.Context(), "me", nil); ports != nil || err != nil {
		t.Errorf("nothing: %v, %v", ports, err)
	}
}

// TestGoesRound: a port that was just released is not the next one given.
func TestGoesRound(t *testing.T) {
	h := newHost()
	c := chooser(h, Ephemeral{First: 40000, Last: 40004})
	var got []string
	for i := range 7 {
		owner := fmt.Sprint("c", i)
		s, err := choose(t, c, owner, "80")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s[8:13])
		delete(h.held, owner)
	}
	if want := "40000 40001 40002 40003 40004 40000 40001"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	// A reload that narrows the range moves the round into it.
	c.opts.Ephemeral = func() Ephemeral { return Ephemeral{First: 50000, Last: 50001} }
	if s, err := choose(t, c, "me", "80"); err != nil || s != "0.0.0.0:50000->80/tcp" {
		t.Errorf("%s, %v", s, err)
	}
}

func TestChooseTogether(t *testing.T) {
	h := newHost()
	c := chooser(h, Ephemeral{First: 40000, Last: 40399})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				if _, err := choose(t, c, fmt.Sprint(i, "/", j), "80", "82"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[uint16]bool{}
	for _, list := range h.held {
		for _, p := range list {
			if seen[p.HostPort] {
				t.Errorf("%d was given twice", p.HostPort)
			}
			seen[p.HostPort] = true
		}
	}
	if len(seen) != 400 {
		t.Errorf("%d ports given", len(seen))
	}
	if h.calls > 600 {
		t.Errorf("%d calls for 200 choices", h.calls)
	}
}

// TestOneCall: the usual cases cost one round to the keeper.
func TestOneCall(t *testing.T) {
	h := newHost()
	c := chooser(h, Ephemeral{First: 32768, Last: 60999})
	if _, err := choose(t, c, "me", "80:80", "81", "82", "127.0.0.1:8000-8010:83", "9000-9999:9000-9999"); err != nil {
		t.Fatal(err)
	}
	if h.calls != 1 {
		t.Errorf("%d calls", h.calls)
	}
}

func TestDry(t *testing.T) {
	process := func(proto string, addr netip.Addr, port uint16) (Process, bool) {
		return Process{PID: 1}, proto == "tcp" && port == 22 && addr.Is6()
	}
	d := Dry{Held: []cnm.PublishedPort{pub("tcp", "127.0.0.1", 8000, 8000, 80)}, Process: process}
	for _, c := range []struct {
		port cnm.PublishedPort
		want string
	}{
		{pub("tcp", "", 80, 80, 80), ""},
		{pub("udp", "", 22, 22, 22), ""},
		{pub("tcp", "0.0.0.0", 22, 22, 22), ""},
		{pub("tcp", "", 22, 22, 22), "[::]:22: address already in use"},
		{pub("tcp", "", 7999, 8001, 80), "0.0.0.0:8000: address already in use"},
		{pub("tcp", "127.0.0.2", 8000, 8000, 80), ""},
	} {
		err := d.Reserve(t.Context(), "me", []cnm.PublishedPort{pub("sctp", "", 1, 1, 1), c.port})
		var taken *TakenError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", shown(c.port), err)
		case c.want != "" && (!errors.As(err, &taken) || taken.Index != 1 || err.Error() != c.want):
			t.Errorf("%s: %v, want %s", shown(c.port), err, c.want)
		}
	}
}
