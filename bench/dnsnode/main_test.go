package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestQuestions(t *testing.T) {
	for _, domain := range []string{"", "example.org", "example.org."} {
		for i, b := range questions(12, domain) {
			m := new(mdns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			want := mdns.Fqdn(strings.TrimSuffix(fmt.Sprintf("name%d.%s", i, domain), "."))
			if len(m.Question) != 1 || m.Question[0].Name != want || m.Question[0].Qtype != mdns.TypeA || !m.RecursionDesired {
				t.Errorf("%v, want %s", m, want)
			}
		}
	}
}

// TestServeAndLoad: the two halves understand each other, and what they tell is so.
func TestServeAndLoad(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	ended := make(chan error, 1)
	go func() { ended <- serve(at, 100, nil) }()
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			c.Close()
			break
		}
		if i > 500 {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := told(t, func() error { return loadFrom(at, 100, []string{"0.2", "2", "4"}) })
	if got.PerSecond < 100 || got.Wrong != 0 || got.Lost != 0 || got.P50 <= 0 || got.P99 < got.P50 {
		t.Errorf("%+v", got)
	}
	// Names that are not there are told as wrong.
	if got := told(t, func() error { return loadFrom(at, 200, []string{"0.2", "1", "4"}) }); got.Wrong == 0 {
		t.Errorf("%+v", got)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// told is what a load writes to its output.
func told(t *testing.T, f func() error) (got result) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stdout
	os.Stdout = w
	err = f()
	os.Stdout = was
	w.Close()
	b, _ := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestNobody: a server that is not there is an error at once, one that is silent is
// told as loss.
func TestNobody(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(silent.LocalAddr().String())
	if got := told(t, func() error { return loadFrom(at, 1, []string{"0.9", "1", "3"}) }); got.Lost == 0 || got.PerSecond != 0 {
		t.Errorf("%+v", got)
	}
	silent.Close()
	if err := loadFrom(at, 1, []string{"0.3", "1", "1"}); err == nil {
		t.Error("nobody is there, and the load was fine")
	}
	for _, args := range [][]string{nil, {"x"}, {"serve", "x", "1"}, {"load", "127.0.0.1:1", "x"}, {"load", "127.0.0.1:1", "1", "x", "1", "1"}, {"load", "127.0.0.1:1", "1"}, {"serve", "127.0.0.1:1", "1", "nowhere"}} {
		if run(args) == nil {
			t.Errorf("%q is fine", args)
		}
	}
}
