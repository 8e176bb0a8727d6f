package linux_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// TestWay: the way to an address, as the kernel would send.
func TestWay(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, cmd := range []string{
		"ip link add u0 type veth peer name p0", "ip link set u0 mtu 1400 up", "ip link set p0 up",
		"ip addr add 10.99.0.1/24 dev u0", "ip addr add fd00:99::1/64 dev u0 nodad",
		"ip route add 10.50.0.0/16 via 10.99.0.9", "ip route add 10.51.0.0/16 via 10.99.0.9 mtu 1300",
		"ip route add 10.52.0.0/16 via 172.16.0.9 dev u0 onlink", "ip -6 route add fd00:50::/64 via fd00:99::9",
		"ip route add 10.53.0.0/16 via inet6 fd00:99::9 dev u0", "ip route add unreachable 10.54.0.0/16", "ip -6 route add unreachable fd00:54::/64",
		"ip link set lo up",
	} {
		h.run(strings.Fields(cmd)...)
	}
	for _, c := range []struct {
		to   string
		want dataplane.Way
		link bool
	}{
		{"10.99.0.2", dataplane.Way{Dev: "u0", Src: addr("10.99.0.1"), MTU: 1400, DevMTU: 1400}, true},
		{"::ffff:10.99.0.2", dataplane.Way{Dev: "u0", Src: addr("10.99.0.1"), MTU: 1400, DevMTU: 1400}, true},
		{"10.50.0.2", dataplane.Way{Dev: "u0", Via: addr("10.99.0.9"), Src: addr("10.99.0.1"), MTU: 1400, DevMTU: 1400}, false},
		{"10.51.0.2", dataplane.Way{Dev: "u0", Via: addr("10.99.0.9"), Src: addr("10.99.0.1"), MTU: 1300, DevMTU: 1400}, false},
		{"10.52.0.2", dataplane.Way{Dev: "u0", Via: addr("172.16.0.9"), Src: addr("10.99.0.1"), MTU: 1400, DevMTU: 1400}, false},
		{"10.53.0.2", dataplane.Way{Dev: "u0", Via: addr("fd00:99::9"), Src: addr("10.99.0.1"), MTU: 1400, DevMTU: 1400}, false},
		{"fd00:99::2", dataplane.Way{Dev: "u0", Src: addr("fd00:99::1"), MTU: 1400, DevMTU: 1400}, true},
		{"fd00:50::2", dataplane.Way{Dev: "u0", Via: addr("fd00:99::9"), Src: addr("fd00:99::1"), MTU: 1400, DevMTU: 1400}, false},
		{"10.99.0.1", dataplane.Way{Dev: "lo", Local: true, Src: addr("10.99.0.1"), MTU: 65536, DevMTU: 65536}, false},
	} {
		got, err := h.k.Way(t.Context(), addr(c.to))
		if err != nil || got != c.want || got.OnLink() != c.link {
			t.Errorf("to %s: %+v %v, want %+v", c.to, got, err, c.want)
		}
	}
	for _, to := range []string{"192.0.2.1", "2001:db8::1", "10.54.0.1", "fd00:54::1"} {
		if w, err := h.k.Way(t.Context(), addr(to)); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), to) {
			t.Errorf("to %s: %+v %v", to, w, err)
		}
	}
	for a, want := range map[string]string{"10.99.0.1": "10.99.0.1/24", "fd00:99::1": "fd00:99::1/64"} {
		if dev, subnet, mtu, ok, err := h.k.Place(t.Context(), addr(a)); dev != "u0" || subnet.String() != want || mtu != 1400 || !ok || err != nil {
			t.Errorf("%s is at %s %s %d %v %v", a, dev, subnet, mtu, ok, err)
		}
	}
	if _, _, _, ok, err := h.k.Place(t.Context(), addr("10.99.0.2")); ok || err != nil {
		t.Errorf("another's address is here: %v", err)
	}
}

// TestUnderlay: changes of what is not ours are told, containers are not.
func TestUnderlay(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("ip", "link", "add", "u0", "type", "veth", "peer", "name", "p0")
	news, err := h.k.Underlay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.apply(diff.Create(append(append(bridgeNet(), spanning()...), h.container("web", 2)...)))
	if heard(news, silence) {
		t.Error("what is ours is news")
	}
	for _, cmd := range []string{
		"ip link set u0 up", "ip link set p0 up", "ip addr add 10.99.0.1/24 dev u0", "ip link set u0 mtu 1400", "ip route add 10.50.0.0/16 via 10.99.0.9",
		"ip route change 10.50.0.0/16 via 10.99.0.9 mtu 1300", "ip route del 10.50.0.0/16", "ip link set p0 down", "ip link del u0",
	} {
		h.run(strings.Fields(cmd)...)
		if !heard(news, patience) {
			t.Errorf("nothing heard of %q", cmd)
		}
		drained(news)
	}
	h.apply(diff.Delete(h.container("web", 2)))
	if heard(news, 300*time.Millisecond) {
		t.Error("the end of what is ours is news")
	}
}
