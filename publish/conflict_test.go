package publish

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func pub(proto, ip string, host, hostEnd, port uint16) cnm.PublishedPort {
	p := cnm.PublishedPort{Proto: proto, HostPort: host, HostPortEnd: hostEnd, Port: port}
	if ip != "" {
		p.HostIP = netip.MustParseAddr(ip)
	}
	return p
}

func TestConflict(t *testing.T) {
	for _, c := range []struct {
		a, b cnm.PublishedPort
		want bool
	}{
		{pub("tcp", "", 80, 80, 80), pub("tcp", "", 80, 80, 8080), true},
		{pub("tcp", "", 80, 80, 80), pub("udp", "", 80, 80, 80), false},
		{pub("tcp", "", 80, 80, 80), pub("tcp", "", 81, 81, 80), false},
		{pub("tcp", "", 80, 80, 80), pub("tcp", "127.0.0.1", 80, 80, 80), true},
		{pub("tcp", "", 80, 80, 80), pub("tcp", "::1", 80, 80, 80), true},
		{pub("tcp", "0.0.0.0", 80, 80, 80), pub("tcp", "127.0.0.1", 80, 80, 80), true},
		{pub("tcp", "0.0.0.0", 80, 80, 80), pub("tcp", "::", 80, 80, 80), false},
		{pub("tcp", "0.0.0.0", 80, 80, 80), pub("tcp", "::1", 80, 80, 80), false},
		{pub("tcp", "::", 80, 80, 80), pub("tcp", "::1", 80, 80, 80), true},
		{pub("tcp", "::", 80, 80, 80), pub("tcp", "10.0.0.1", 80, 80, 80), false},
		{pub("tcp", "127.0.0.1", 80, 80, 80), pub("tcp", "127.0.0.2", 80, 80, 80), false},
		{pub("tcp", "127.0.0.1", 80, 80, 80), pub("tcp", "127.0.0.1", 80, 80, 90), true},
		{pub("tcp", "", 8000, 8010, 80), pub("tcp", "", 8010, 8020, 80), true},
		{pub("tcp", "", 8000, 8010, 80), pub("tcp", "", 8011, 8020, 80), false},
		{pub("tcp", "", 8000, 8010, 80), pub("tcp", "127.0.0.1", 8005, 8005, 80), true},
	} {
		if got := Conflict(c.a, c.b); got != c.want {
			t.Errorf("%s and %s: %v", shown(c.a), shown(c.b), got)
		}
		if got := Conflict(c.b, c.a); got != c.want {
			t.Errorf("%s and %s: %v", shown(c.b), shown(c.a), got)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ specs, bad string }{
		{"80:80 81:81 80:80/udp", ""},
		{"80 80 80", ""},
		{"8000-8010:80 8000:81", ""}, // one of the range, which has others
		{"80:80 80:81", `"80:80/tcp" and "80:81/tcp"`},
		{"80:80 127.0.0.1:80:81", `"80:80/tcp" and "127.0.0.1:80:81/tcp"`},
		{"0.0.0.0:80:80 [::]:80:80", ""},
		{"8005:80 8000-8010:9000-9010", `"8005:80/tcp" and "8000-8010:9000-9010/tcp"`},
		{"8000-8010:9000-9010 8002:80/udp 8003:80/udp 8010:80", `"8000-8010:9000-9010/tcp" and "8010:80/tcp"`},
		{"8000-8010:9000-9010 8011:80 7999:81", ""},
		{"8000-8010:9000-9010 8005:80", `"8000-8010:9000-9010/tcp" and "8005:80/tcp"`},
	} {
		reqs, err := parseAll(strings.Fields(c.specs)...)
		if err != nil {
			t.Fatal(err)
		}
		switch err := Check(reqs); {
		case c.bad == "" && err != nil:
			t.Errorf("%s: %v", c.specs, err)
		case c.bad != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: %v, want %s", c.specs, err, c.bad)
		}
	}
}

// TestCheckMany: a thousand ports are compared in a moment.
func TestCheckMany(t *testing.T) {
	var reqs []Request
	for p := range uint16(20000) {
		reqs = append(reqs, Request{Proto: "tcp", HostPort: 10000 + p, HostPortEnd: 10000 + p, Port: 1 + p, PortEnd: 1 + p})
	}
	start := time.Now()
	if err := Check(reqs); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 30*time.Second { // each with each would take minutes on a machine that is as busy
		t.Errorf("%d ports took %s", len(reqs), took)
	}
	if err := Check(append(reqs, reqs[777])); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("one of them twice: %v", err)
	}
}
