package linux_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

// silence is how long nothing must come for nothing to have happened; patience how long
// something may take on a busy machine.
const (
	silence  = 100 * time.Millisecond
	patience = time.Minute
)

// heard waits for a token.
func heard(news <-chan struct{}, within time.Duration) bool {
	select {
	case _, open := <-news:
		return open
	case <-time.After(within):
		return false
	}
}

// drained takes what comes until it is silent.
func drained(news <-chan struct{}) {
	for heard(news, silence) {
	}
}

func (h *host) watch() *linux.Watch {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := h.k.Watch(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		cancel()
		for _, c := range []<-chan struct{}{w.Bridges, w.Routes, w.Touched()} {
			for open := true; open; {
				select {
				case _, open = <-c:
				case <-time.After(patience):
					h.t.Error("the watch does not end")
					return
				}
			}
		}
	})
	return w
}

// TestOthersBridges: news of bridges that are not ours, and of no others.
func TestOthersBridges(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w := h.watch()
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	if heard(w.Bridges, silence) {
		t.Error("our own bridge is news")
	}
	for _, what := range []string{"add", "del"} {
		h.run("ip", "link", what, "virbr0", "type", "bridge")
		if !heard(w.Bridges, patience) {
			t.Errorf("nothing heard of a bridge: %s", what)
		}
		drained(w.Bridges) // as many as the kernel sends
	}
	h.apply(diff.Delete(bridgeNet()))
	if heard(w.Bridges, silence) {
		t.Error("the end of our own bridge is news")
	}
}

// TestOthersRoutes: news of what changes HostRoutes, and of nothing that is ours.
func TestOthersRoutes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w := h.watch()
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.apply(diff.Delete(h.container("web", 2)))
	if heard(w.Routes, silence) {
		t.Error("our own network is news")
	}
	h.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	for _, cmd := range []string{
		"addr add 10.9.0.1/24 dev va",
		"link set va up",
		"link set vb up",
		"route add 10.8.0.0/24 via 10.9.0.2",
		"route del 10.8.0.0/24",
		"link del va",
	} {
		h.run(append([]string{"ip"}, strings.Fields(cmd)...)...)
		if !strings.Contains(cmd, " set ") && !heard(w.Routes, patience) {
			t.Errorf("nothing heard of %q", cmd)
		}
		drained(w.Routes)
	}
	h.apply(diff.Delete(bridgeNet()))
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if heard(w.Routes, silence) {
		t.Error("the end of our own network is news")
	}
}

// touched gathers news of ours, as text, until it is what is wanted and no more comes.
func touched(w *linux.Watch, want string) string {
	var t dataplane.Touch
	for end := time.Now().Add(patience); ; {
		if heard(w.Touched(), silence) {
			t.Add(w.Take())
		} else if told(t) == want || time.Now().After(end) {
			return told(t)
		}
	}
}

func told(t dataplane.Touch) string {
	var out []string
	if t.All {
		out = append(out, "all")
	}
	if t.Page {
		out = append(out, "page")
	}
	if t.Routes {
		out = append(out, "routes")
	}
	for _, l := range slices.Sorted(maps.Keys(t.Links)) {
		out = append(out, "link "+l)
	}
	for _, s := range slices.Sorted(maps.Keys(t.Sets)) {
		out = append(out, "set "+s)
	}
	for _, s := range slices.Sorted(maps.Keys(t.Sysctls)) {
		out = append(out, "sysctl "+s)
	}
	return strings.Join(out, ", ")
}

// TestTouched: whatever somebody changes of ours is heard, and where; what we do
// ourselves is not.
func TestTouched(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	w := h.watch()
	whole := append(bridgeNet(), append(h.container("web", 2), h.container("db", 3)...)...)
	repair := func() {
		t.Helper()
		// As after a restart: what is missing comes back, and it is nobody's news.
		have, err := h.k.Observe(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		sys, err := h.k.ObserveKeys(t.Context(), whole)
		if err != nil {
			t.Fatal(err)
		}
		have.Add(sys.All()...)
		h.apply(diff.Compute(dataplane.NewState(whole...), have, h.pin("web"), h.pin("db")).Ops)
	}
	h.apply(diff.Create(whole))
	h.apply(diff.Delete(h.container("db", 3)))
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.apply(diff.Create(h.container("db", 3)))
	if heard(w.Touched(), silence) {
		t.Errorf("what we do ourselves is news: %s", told(w.Take()))
	}
	for _, c := range []struct{ cmd, want string }{
		{"nft flush ruleset", "page"},
		{"nft delete table inet " + table, "page"},
		{"nft flush chain inet " + table + " publish", "page"},
		{"nft delete chain inet " + table + " output", "page"},
		{"nft add rule inet " + table + " forward counter", "page"},
		{"nft add chain inet " + table + " more", "page"},
		{"nft delete element inet " + table + ` publish4_any { tcp . 8002 }`, "set publish4_any"},
		{"nft flush set inet " + table + " icc", "set icc"},
		{"nft add element inet " + table + ` egress { "eth9" }`, "set egress"},
		{"ip link del vethweb", "link vethweb"},
		{"ip link set vethweb down", "link vethweb"},
		{"ip link set vethweb nomaster", "link vethweb"},
		{"ip link set vethweb mtu 1300", "link docker0, link vethweb"}, // a bridge follows the smallest of its ports
		{"ip link set vethweb down name other", "link other, link vethweb"},
		{"bridge link set dev vethweb isolated on", "link vethweb"},
		{"ip link set vethweb type bridge_slave hairpin on", "link vethweb"},
		{"ip link set docker0 mtu 1300", "link docker0"},
		{"ip link set docker0 address 02:00:00:00:00:01", "link docker0"},
		{"ip link set docker0 type bridge nf_call_iptables 1", "link docker0"},
		{"ip addr del 172.17.0.1/16 dev docker0", "link docker0"},
		{"ip addr del fd00:17::1/64 dev docker0", "link docker0"},
		{"ip addr flush dev docker0", "link docker0"},
		{"ip route del 172.17.0.0/16 dev docker0", "link docker0"},
		{"ip -6 route del fd00:17::/64 dev docker0", "link docker0"},
		{"ip link set docker0 down", "link docker0"},
		{"ip link del docker0", "link docker0, link vethdb, link vethweb"},
		{"sysctl -qw net.ipv4.conf.docker0.route_localnet=0", "sysctl net/ipv4/conf/docker0/route_localnet"},
		{"nsenter --net=" + h.pin("web") + " ip link del eth0", "link vethweb"},
		{"nsenter --net=" + h.pin("web") + " ip link set eth0 netns " + h.ns, "link vethweb"},
	} {
		t.Run(c.cmd, func(t *testing.T) {
			drained(w.Touched())
			_ = w.Take()
			h.run(strings.Fields(c.cmd)...)
			if got := touched(w, c.want); got != c.want {
				t.Errorf("heard %q, want %q", got, c.want)
			}
			// A new namespace, or what came back with the kernel's help, may be looked at once
			// more: the next case waits for its end.
			repair()
		})
	}
}

// What is not ours is nobody's news.
func TestNotTouched(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	w := h.watch()
	for _, cmd := range []string{
		"nft add table inet other", "nft add chain inet other c", "nft delete table inet other",
		"ip link add va type veth peer name vb", "ip addr add 10.0.0.1/24 dev va", "ip link set va up", "ip link del va",
		"ip link add br9 type bridge", "ip link del br9",
		"ip route add 10.9.0.0/24 via 172.17.0.2", "ip neigh add 172.17.0.9 lladdr 02:00:00:00:00:09 dev docker0",
		"nsenter --net=" + h.pin("web") + " ip addr add 10.1.1.1/24 dev eth0",
		"nsenter --net=" + h.pin("web") + " ip link set eth0 mtu 1400",
		"nsenter --net=" + h.pin("web") + " ip route flush default",
		"nsenter --net=" + h.pin("web") + " nft add table inet " + table,
	} {
		h.run(strings.Fields(cmd)...)
	}
	if heard(w.Touched(), silence) {
		t.Errorf("news of what is not ours: %s", told(w.Take()))
	}
}
