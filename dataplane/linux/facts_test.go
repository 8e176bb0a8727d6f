package linux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// TestFacts: host links, routes and counters as they are.
func TestFacts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.run("ip", "link", "add", "br0", "mtu", "1400", "type", "bridge")
	h.run("ip", "addr", "add", "10.211.55.1/24", "dev", "br0")
	h.run("ip", "addr", "add", "fd00:55::1/64", "dev", "br0")
	h.run("ip", "link", "set", "br0", "up")
	for _, r := range []string{"0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "10.8.0.0/16"} {
		h.run("ip", "route", "add", r, "via", "10.211.55.9")
	}
	l, err := h.k.HostLink(t.Context(), "br0")
	if err != nil || !l.Exists || !l.Bridge || l.Ours || l.MTU != 1400 || fmt.Sprint(l.Addrs) != "[10.211.55.1/24 fd00:55::1/64]" {
		t.Errorf("br0: %+v, %v", l, err)
	}
	if l, err = h.k.HostLink(t.Context(), "docker0"); err != nil || !l.Ours || !l.Bridge {
		t.Errorf("docker0: %+v, %v", l, err)
	}
	if l, err = h.k.HostLink(t.Context(), "vethweb"); err != nil || !l.Exists || l.Bridge {
		t.Errorf("vethweb: %+v, %v", l, err)
	}
	if l, err = h.k.HostLink(t.Context(), "nope"); err != nil || l.Exists {
		t.Errorf("nope: %+v, %v", l, err)
	}
	rs, err := h.k.HostRoutes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, r := range rs {
		if r.Prefix.Addr().IsLinkLocalUnicast() || r.Prefix.Addr().IsMulticast() {
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", r.Prefix, r.What)
	}
	got := b.String()
	for _, want := range []string{"10.8.0.0/16 route via 10.211.55.9 dev br0\n", "10.211.55.0/24 address of br0\n", "fd00:55::/64 address of br0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "172.17.0.0") || strings.Contains(got, "/1 ") || strings.Contains(got, "/2 ") {
		t.Errorf("too much:\n%s", got)
	}
	// A network that was just removed does not keep its subnet from the next.
	gone := []dataplane.Object{dataplane.Bridge{Meta: network, Name: "br-gone"},
		dataplane.Addr{Meta: network, Link: "br-gone", Prefix: netip.MustParsePrefix("10.93.0.1/24")}, dataplane.Up{Meta: network, Link: "br-gone"}}
	h.apply(diff.Create(gone))
	h.apply(diff.Delete(gone))
	ps, err := h.k.HostPrefixes(t.Context())
	if err != nil || len(ps) != len(rs) {
		t.Errorf("HostPrefixes: %v, %v", ps, err)
	}

	h.in(h.pin("web"), "ping", "-c2", "-i0.2", "-w5", "172.17.0.1")
	st, err := h.k.LinkStats(t.Context(), h.pin("web"))
	if err != nil || len(st) != 1 || st[0].Name != "eth0" || st[0].RxPackets < 2 || st[0].TxBytes < 150 || st[0].TxErrors != 0 {
		t.Errorf("counters: %+v, %v", st, err)
	}
	if _, err := h.k.LinkStats(context.Background(), h.pin("nope")); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counters of nothing: %v", err)
	}
}
