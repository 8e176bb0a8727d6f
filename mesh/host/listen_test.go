package host

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"linkspan/cnm"
)

func TestOwnAddress(t *testing.T) {
	h := &Host{}
	for word, want := range map[string]string{
		"127.0.0.2": "", "[127.0.0.2]": "", "::ffff:127.0.0.2": "",
		"":               "--listen is missing",
		"0.0.0.0":        "is every address",
		"::":             "is every address",
		"224.0.0.1":      "a group's address",
		"192.0.2.77":     "192.0.2.77 is not an address of this host",
		"2001:db8::77":   "2001:db8::77 is not an address of this host",
		"eth0":           "is no address: want an address such as",
		"127.0.0.2:2380": "without a port: --listen 127.0.0.2",
	} {
		a, err := h.ownAddress(word)
		switch {
		case want == "":
			if err != nil || a.String() != "127.0.0.2" {
				t.Errorf("%s: %v %v", word, a, err)
			}
		case err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, cnm.ErrInvalid):
			t.Errorf("%q: %v, want %q", word, err, want)
		}
	}
}

func TestGateAddress(t *testing.T) {
	for word, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:2380", "10.0.0.1:99": "10.0.0.1:99", "host1": "host1:2380", "host1:99": "host1:99",
		"fd00::1": "[fd00::1]:2380", "[fd00::1]": "[fd00::1]:2380", "[fd00::1]:99": "[fd00::1]:99",
		"": "", "https://x": "", "x:y:z": "", ":99": "", "x:0": "", "x:http": "",
	} {
		got, err := gateAddress(word, 2380)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", word, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "want HOST") {
			t.Errorf("%q: %v", word, err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	at := netip.MustParseAddr("127.0.0.2")
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp := netip.MustParseAddrPort(l.Addr().String()).Port()
	u, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	udp := netip.MustParseAddrPort(u.LocalAddr().String()).Port()

	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	holder := "is held by " + strings.TrimSpace(string(own)) + " (pid "
	h := &Host{}
	p := DefaultPorts
	p.Gate = tcp
	err = h.free(at, p.memberPorts())
	if err == nil || !errors.Is(err, cnm.ErrConflict) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"TCP port", "which the mesh needs for hosts that join", holder, "--mesh-port gate=NUMBER"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	p = DefaultPorts
	p.VXLAN, p.Check = udp, udp
	if err := h.free(at, p.hostPorts()[2:3]); err == nil || !strings.Contains(err.Error(), "UDP port") || !strings.Contains(err.Error(), "for VXLAN, "+holder) {
		t.Errorf("%v", err)
	}
	if err := h.free(at, p.hostPorts()[1:2]); err == nil || !strings.Contains(err.Error(), "for probes, is held by") {
		t.Errorf("%v", err)
	}
	if err := h.free(netip.MustParseAddr("192.0.2.1"), DefaultPorts.memberPorts()); err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("%v", err)
	}
}

func TestSourceTo(t *testing.T) {
	a, err := sourceTo(t.Context(), "127.0.0.1:2380")
	if err != nil || !a.IsLoopback() {
		t.Errorf("%v %v", a, err)
	}
	if _, err := sourceTo(t.Context(), "no.such.host.invalid:2380"); err == nil || !strings.Contains(err.Error(), "no.such.host.invalid") {
		t.Errorf("%v", err)
	}
}
