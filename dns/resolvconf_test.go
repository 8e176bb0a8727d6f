package dns

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "[] 0s 0 false false"},
		{"nameserver 10.0.0.1\nnameserver fd00::1\n", "[10.0.0.1:53 [fd00::1]:53] 0s 0 false false"},
		{"# nameserver 10.0.0.9\n; nameserver 10.0.0.9\nnameserver\t10.0.0.1   # mine\r\n", "[10.0.0.1:53] 0s 0 false false"},
		{"nameserver fe80::1%eth0", "[[fe80::1%eth0]:53] 0s 0 false false"},
		{"nameserver x\nnameserver\nnameserver 10.0.0.1\nnameserver 10.0.0.1\n", "[10.0.0.1:53] 0s 0 false false"},
		{"search a b\ndomain c\noptions timeout:1 attempts:3 rotate use-vc ndots:5\nnameserver 10.0.0.1", "[10.0.0.1:53] 1s 3 true true"},
		{"options timeout:0 attempts:x timeout: attempts:-1 rotate:no\n", "[] 0s 0 true false"},
		{"options timeout:999 attempts:999\n", "[] 30s 5 false false"},
		{"nameserver 127.0.0.11\noptions ndots:0", "[127.0.0.11:53] 0s 0 false false"},
		{strings.Repeat("nameserver 10.0.0.1\nnameserver 10.0.0.2\n", 3) + "nameserver 1.1.1.1\n", "[10.0.0.1:53 10.0.0.2:53 1.1.1.1:53] 0s 0 false false"},
	} {
		s, err := parseResolvConf(strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.servers, s.timeout, s.attempts, s.rotate, s.tcp); got != c.want {
			t.Errorf("%q:\n%s, want\n%s", c.text, got, c.want)
		}
	}
	var many string
	for i := range 20 {
		many += fmt.Sprintf("nameserver 10.0.0.%d\n", i)
	}
	if s, _ := parseResolvConf(strings.NewReader(many)); len(s.servers) != maxServers {
		t.Errorf("%d servers", len(s.servers))
	}
	if _, err := parseResolvConf(strings.NewReader("nameserver " + strings.Repeat("x", 1<<17))); err == nil {
		t.Error("a line without end is an error")
	}
}

// TestFollow: the file is looked at once a second at most, and only a good one
// takes the place of a good one.
func TestFollow(t *testing.T) {
	now := time.Unix(1000, 0)
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "resolv.conf")
	c := &resolvConf{path: path, log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	stamp := 0
	write := func(text string) {
		t.Helper()
		tmp := path + ".new"
		if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		stamp++
		if err := os.Chtimes(tmp, time.Time{}, time.Unix(int64(stamp), 0)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, servers ...string) {
		t.Helper()
		var list []netip.AddrPort
		for _, s := range servers {
			list = append(list, netip.MustParseAddrPort(s))
		}
		if got := c.settings().servers; !slices.Equal(got, list) {
			t.Errorf("%s: %v, want %v", when, got, list)
		}
	}
	told := func(when, what string) {
		t.Helper()
		if got := log.String(); what == "" && got != "" || !strings.Contains(got, what) {
			t.Errorf("%s: logged %q, want %q", when, got, what)
		}
		log.Reset()
	}
	want("no file")
	told("no file", "the host has no list of servers")
	now = now.Add(time.Hour)
	want("no file")
	told("said once", "")
	write("nameserver 10.0.0.1\n")
	want("within the second")
	now = now.Add(time.Second)
	want("written", "10.0.0.1:53")
	told("written", "")
	write("nameserver 10.0.0.2\n")
	want("within the second", "10.0.0.1:53")
	now = now.Add(time.Second)
	want("changed", "10.0.0.2:53")
	told("changed", "the host's servers changed")
	before := c.settings()
	now = now.Add(time.Minute)
	if c.settings() != before {
		t.Error("read again although nothing changed")
	}
	for _, bad := range []string{"", "garbage\n", "nameserver nowhere\n", "# nothing\n"} {
		write(bad)
		now = now.Add(time.Second)
		want("broken: "+bad, "10.0.0.2:53")
	}
	told("broken", "the last good one stays")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	want("gone", "10.0.0.2:53")
	told("gone", "no such file")
	write("nameserver 10.0.0.3\n")
	now = now.Add(-time.Hour)
	want("the clock was set back", "10.0.0.3:53")
	// A link to another file.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := path + ".other"
	if err := os.WriteFile(other, []byte("nameserver 10.0.0.4\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	want("a link", "10.0.0.4:53")
}

// TestOtherServers: with other servers, what the old ones said does not count.
func TestOtherServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first, second := &fake{udp: says(60, "A 1.1.1.1")}, &fake{udp: says(60, "A 2.2.2.2")}
	w := &world{servers: map[netip.AddrPort]*fake{one: first, two: second}}
	box := newSandbox(t, w, View{})
	now := time.Now()
	box.config.Now = func() time.Time { return now }
	g := newGroup(box.Server, "host", hostCache, &resolvConf{path: path, log: quiet(), now: box.config.Now}, w.dial)
	box.data.Store(newViewData(View{}, box.seed, box.zone, g))
	defer box.Close()
	for i, c := range []struct{ file, want string }{
		{"nameserver 10.0.0.1\n", "1.1.1.1"},
		{"nameserver 10.0.0.1\nnameserver 10.0.0.2\n", "1.1.1.1"},
		{"nameserver 10.0.0.2\n", "2.2.2.2"},
		{"broken", "2.2.2.2"},
		{"nameserver 10.0.0.1\noptions rotate\n", "1.1.1.1"},
	} {
		write(c.file)
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i+1), 0)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		if got, _ := box.ask("www.example"); !strings.Contains(got, c.want) {
			t.Errorf("%q: %s", c.file, got)
		}
	}
	if h := second.heard(); len(h) != 1 {
		t.Errorf("a broken file takes nothing from the cache: %q", h)
	}
}
