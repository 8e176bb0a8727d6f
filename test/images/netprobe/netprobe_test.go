package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/probe"
)

// server runs `netprobe serve` and returns the addresses that it printed.
func server(t *testing.T, targets ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	code := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		code <- run(ctx, append([]string{"serve"}, targets...), w, &errs)
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case c := <-code:
			if c != 0 {
				t.Errorf("serve ends with %d: %s", c, errs.String())
			}
		case <-time.After(time.Minute):
			t.Error("serve does not end")
		}
	})
	var out []string
	lines := bufio.NewScanner(r)
	for len(out) < len(targets) && lines.Scan() {
		out = append(out, strings.TrimPrefix(lines.Text(), "listening "))
	}
	if len(out) < len(targets) {
		t.Fatalf("listens on %v of %v: %s", out, targets, errs.String())
	}
	return out
}

func dial(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"dial"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// port of "tcp/127.0.0.1:4711".
func port(t *testing.T, target string) uint16 {
	t.Helper()
	_, addr, _ := strings.Cut(target, "/")
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return ap.Port()
}

// fields of "src=… dst=… host=…".
func fields(line string) map[string]string {
	out := map[string]string{}
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		out[k] = v
	}
	return out
}

// The server names the client's address and the address that the client asked,
// also on a wildcard socket of both families: a UDP answer comes from there, or
// the client's connected socket would not take it.
func TestAnswers(t *testing.T) {
	host, _ := os.Hostname()
	for _, test := range []struct{ listen, from, to string }{
		{"tcp/127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		{"tcp/:0", "127.0.0.5", "127.0.0.9"},
		{"tcp/[::]:0", "::1", "::1"},
		{"udp/127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		{"udp/0.0.0.0:0", "127.0.0.5", "127.0.0.9"},
		{"udp/:0", "127.0.0.5", "127.0.0.9"},
		{"udp/[::]:0", "::1", "::1"},
	} {
		t.Run(strings.ReplaceAll(test.listen+" "+test.to, "/", " "), func(t *testing.T) {
			if strings.Contains(test.to, ":") {
				probe.Require(t, probe.IPv6)
			}
			at := server(t, test.listen)[0]
			proto, _, _ := strings.Cut(at, "/")
			target := proto + "/" + netip.AddrPortFrom(netip.MustParseAddr(test.to), port(t, at)).String()
			code, out, errs := dial("-bind", test.from, target)
			if code != 0 {
				t.Fatalf("dial %s: %d %s", target, code, errs)
			}
			got := fields(out)
			src, err := netip.ParseAddrPort(got["src"])
			if err != nil || src.Addr() != netip.MustParseAddr(test.from) {
				t.Errorf("src %q, want an address of %s", got["src"], test.from)
			}
			if proto+"/"+got["dst"] != target {
				t.Errorf("dst %q, want %s", got["dst"], target)
			}
			if got["host"] != host {
				t.Errorf("host %q", got["host"])
			}
		})
	}
}

func TestManyMessages(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		at := server(t, proto+"/127.0.0.1:0")[0]
		code, out, errs := dial("-n", "3", "-interval", "1ms", at)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || len(lines) != 3 {
			t.Fatalf("%s: %d %q %s", proto, code, lines, errs)
		}
		switch proto {
		case "udp": // one socket, one source port
			if lines[0] != lines[2] {
				t.Errorf("udp: %q", lines)
			}
		case "tcp": // one connection: echoes after the first line
			if lines[2] != "message 2" {
				t.Errorf("tcp: %q", lines)
			}
		}
	}
}

// Each way to fail has its exit code and its word: the matrix of published
// ports asks "refused or lost?".
func TestVerdicts(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := closed.Addr().String()
	closed.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts by backlog, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, test := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"tcp/" + free}, 3, "refused"},
		{[]string{"udp/" + free}, 3, "refused"},
		{[]string{"-timeout", "50ms", "udp/" + silent.LocalAddr().String()}, 4, "timeout"},
		{[]string{"-timeout", "50ms", "tcp/" + mute.Addr().String()}, 4, "timeout"},
		{[]string{"icmp/127.0.0.1:1"}, 5, "icmp"},
		{[]string{"tcp/127.0.0.1"}, 5, "missing port"},
		{[]string{"-bind", "nonsense", "tcp/" + free}, 5, "nonsense"},
		{[]string{"-bind", "192.0.2.1", "tcp/" + free}, 5, "failed"},
	} {
		code, _, errs := dial(test.args...)
		if code != test.code || !strings.Contains(errs, test.word) {
			t.Errorf("dial %v: %d %q, want %d and %q", test.args, code, errs, test.code, test.word)
		}
	}
	for _, args := range [][]string{nil, {"serve"}, {"dance", "x"}, {"dial", "-n"}, {"dial", "a", "b"}} {
		if code := run(context.Background(), args, io.Discard, io.Discard); code != 2 {
			t.Errorf("run %v: %d, want 2", args, code)
		}
	}
}

// A sender of one datagram per interval gets through once the server is there,
// from the same source port.
func TestDatagramsGoOnAfterRefusal(t *testing.T) {
	hold, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := hold.LocalAddr().String()
	hold.Close()
	result := make(chan string, 1)
	go func() {
		code, out, _ := dial("-n", "40", "-interval", "20ms", "-timeout", "100ms", "udp/"+addr)
		result <- fmt.Sprintf("%d %s", code, out)
	}()
	time.Sleep(60 * time.Millisecond)
	server(t, "udp/"+addr)
	got := <-result
	if !strings.HasPrefix(got, "0 refused\n") || !strings.Contains(got, "\nsrc=127.0.0.1:") {
		t.Errorf("got %s", got)
	}
}

func TestServeRefusesWhatItCannot(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var errs bytes.Buffer
	code := run(context.Background(), []string{"serve", "udp/127.0.0.1:0", "tcp/" + taken.Addr().String()}, io.Discard, &errs)
	if code != 5 || !strings.Contains(errs.String(), "address already in use") {
		t.Errorf("%d %s", code, errs.String())
	}
}

func TestSCTP(t *testing.T) {
	if err := probe.SCTP.Check(); err != nil {
		// The word must still be right: tests of published SCTP ports read it.
		code, _, errs := dial("sctp/127.0.0.1:9")
		if code != 5 || !strings.Contains(errs, "unsupported") {
			t.Errorf("without SCTP: %d %s", code, errs)
		}
	}
	probe.Require(t, probe.SCTP)
	at := server(t, "sctp/127.0.0.1:0")[0]
	code, out, errs := dial("-n", "2", "-interval", "1ms", at)
	if code != 0 || !strings.HasPrefix(out, "src=127.0.0.1:") || !strings.Contains(out, "message 1") {
		t.Errorf("%d %s %s", code, out, errs)
	}
}

func TestArrivalIgnoresWhatItDoesNotKnow(t *testing.T) {
	if a, reply := arrival(nil); a.IsValid() || reply != nil {
		t.Errorf("no control message: %v %v", a, reply)
	}
	if a, reply := arrival([]byte{1, 2, 3}); a.IsValid() || reply != nil {
		t.Errorf("a broken one: %v %v", a, reply)
	}
	b := control(syscall.SOL_SOCKET, 99, []byte{1, 2, 3, 4})
	if a, reply := arrival(b); a.IsValid() || reply != nil {
		t.Errorf("a foreign one: %v %v", a, reply)
	}
	info := []byte{7, 0, 0, 0, 192, 0, 2, 9, 192, 0, 2, 9}
	a, reply := arrival(control(syscall.IPPROTO_IP, syscall.IP_PKTINFO, info))
	if a != netip.MustParseAddr("192.0.2.9") || len(reply) == 0 {
		t.Errorf("packet info: %v %v", a, reply)
	}
}
