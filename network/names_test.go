package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dns"
	"linkspan/internal/lab"
)

func namesWish(names ...string) func(*EndpointWish) {
	return func(w *EndpointWish) { w.Names = names }
}

// known as one text without ids.
func (w *world) known() string {
	text := strings.Join(w.ports.known(), "\n")
	for _, n := range w.Networks() {
		text = strings.ReplaceAll(text, n.ID[:6], n.Name)
	}
	for _, s := range w.Sandboxes() {
		text = strings.ReplaceAll(text, s.ID[:6], s.Owner)
	}
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// The resolver knows exactly the living containers' names, whatever dies.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/16")
	w.network("six", "172.19.0.0/16", func(w *NetworkWish) { w.IPv6, w.Pools = yes(), append(w.Pools, cnm.Pool{Subnet: pfx("fd00:6::/64")}) })
	w.network("closed", "172.20.0.0/16", func(w *NetworkWish) { w.Internal = true })
	web := plus(Request{ContainerID: "aaaaaaaaaaaaaaaa", ContainerName: "web", Exposed: []string{"80/tcp"}, Search: []string{"corp.example"}}, "shop", 0, namesWish("web", "www"))
	db := plus(Request{ContainerID: "bbbbbbbbbbbbbbbb", ContainerName: "db", DNS: []netip.Addr{ip("9.9.9.9")}}, "closed", 0, namesWish("db"),
		func(w *EndpointWish) { w.Links = []cnm.Link{{Target: web.ContainerID, Alias: "front"}} })
	s := w.join(web)
	if !s.Resolver || !s.Answers || !w.has("redirect "+s.Path[strings.LastIndexByte(s.Path, '/')+1:]+":127.0.0.11") {
		t.Errorf("%+v\n%s", s, w.things())
	}
	w.join(db)
	w.join(on("plain", "bridge"))
	want := func(when string, lines ...string) {
		t.Helper()
		slices.Sort(lines)
		if got := w.known(); got != strings.Join(lines, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", when, got, strings.Join(lines, "\n"))
		}
	}
	lines := []string{
		"name closed [db] = [172.20.0.2] []",
		"name shop [web www] = [172.18.0.2] [80/tcp]",
		"view aaaaaaaaaaaaaaaa: own [{host.docker.internal [172.18.0.1]} {gateway.docker.internal [172.18.0.1]}], links [], upstreams [], closed false, search [corp.example], 1 zones",
		"view bbbbbbbbbbbbbbbb: own [{host.docker.internal [172.20.0.1]} {gateway.docker.internal [172.20.0.1]}], links [{front " + w.id("closed") + " aaaaaaaaaaaa}], upstreams [9.9.9.9:53], closed false, search [], 1 zones",
	}
	want("two", lines...)
	w.restart()
	want("after a restart", lines...)
	w.ports.names = resolver{} // the keeper died
	if err := w.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("after the keeper's death", lines...)
	w.ports.SetView(t.Context(), dns.View{Sandbox: "stale"}, &dns.Sockets{})
	w.ports.SetNames(t.Context(), "stale", []dns.Record{{Endpoint: "e"}}, true)
	if err := w.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("stale ones are removed", lines...)

	// A second network: both zones, and the way to the host stays the first's.
	w.update(plus(web, "six", 1, namesWish("web", "w6")))
	want("connected", lines[0], lines[1], "name six [web w6] = [172.19.0.2 fd00:6::2] [80/tcp]",
		"view aaaaaaaaaaaaaaaa: own [{host.docker.internal [172.18.0.1 fd00:6::1]} {gateway.docker.internal [172.18.0.1 fd00:6::1]}], links [], upstreams [], closed false, search [corp.example], 2 zones", lines[3])
	// Renamed.
	renamed := web
	renamed.ContainerName = "site"
	renamed.Endpoints = slices.Clone(web.Endpoints)
	renamed.Endpoints[0].Names = []string{"site", "www"}
	w.update(renamed)
	want("renamed", lines[0], strings.Replace(lines[1], "web www", "site www", 1), lines[2], lines[3])
	// On the default bridge alone it has no names; the view stays, and knows none.
	s = w.update(plus(Request{ContainerID: web.ContainerID, ContainerName: "site"}, "bridge", 0))
	if s.Resolver || !s.Answers {
		t.Errorf("%+v", s)
	}
	if got := w.known(); strings.Contains(got, "site") || !strings.Contains(got, "0 zones") {
		t.Error(got)
	}
	w.leave(web.ContainerID, false)
	w.leave(db.ContainerID, false)
	w.leave("plain", false)
	want("nobody")
}

func (w *world) id(network string) string {
	n, err := w.Network(network)
	if err != nil {
		w.t.Fatal(err)
	}
	// As known() shows ids.
	return network + n.ID[6:]
}

// A sandbox on internal networks alone asks nobody; host.docker.internal can be told.
func TestViewClosed(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.HostGateway = []netip.Addr{ip("10.1.2.3")} })
	w.network("closed", "172.20.0.0/16", func(w *NetworkWish) { w.Internal = true })
	w.network("open", "172.21.0.0/16")
	r := plus(Request{ContainerID: "a", ContainerName: "a"}, "closed", 0, namesWish("a"))
	s := w.join(r)
	if v := w.view(s); !v.Closed || v.Own[0].Name != "host.docker.internal" || v.Own[0].Addrs[0] != ip("10.1.2.3") || v.Own[1].Addrs[0] != ip("172.20.0.1") {
		t.Errorf("%+v", v)
	}
	s = w.update(plus(r, "open", 1, namesWish("a")))
	v := w.view(s)
	if v.Closed || v.Own[1].Addrs[0] != ip("172.21.0.1") || len(v.Zones) != 2 {
		t.Errorf("%+v", v)
	}
	if !slices.Equal(v.ZoneNames, []string{"closed", "open"}) || fmt.Sprint(v.Subnets) != "[172.20.0.0/16 172.21.0.0/16]" {
		t.Errorf("zones %v, subnets %v", v.ZoneNames, v.Subnets)
	}
}

// Sockets that cannot be had: the container does not start, and nothing is left.
func TestResolverFails(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/16")
	before := w.everything()
	w.ports.names.fail = errBoom
	if _, err := w.Join(t.Context(), plus(Request{ContainerID: "a", ContainerName: "a"}, "shop", 0, namesWish("a"))); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%v", err)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	w.ports.names.fail = nil
	r := on("b", "bridge")
	w.join(r)
	before = w.everything()
	w.ports.names.fail = errBoom
	if err := w.Update(t.Context(), plus(r, "shop", 1, namesWish("b"))); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%v", err)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// Where the host has no address, no name leads to it; a router that is another has one.
func TestHostWithoutAddress(t *testing.T) {
	w := newWorld(t)
	w.network("isolated", "172.20.0.0/16", func(w *NetworkWish) {
		w.Internal, w.Options = true, map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}
	})
	w.network("inhibited", "172.21.0.0/16", func(w *NetworkWish) {
		w.Options = map[string]string{"com.docker.network.bridge.inhibit_ipv4": "true"}
	})
	if v := w.view(w.join(plus(Request{ContainerID: "a", ContainerName: "a"}, "isolated", 0, namesWish("a")))); len(v.Own) != 0 {
		t.Errorf("%+v", v.Own)
	}
	v := w.view(w.join(plus(Request{ContainerID: "b", ContainerName: "b"}, "inhibited", 0, namesWish("b"))))
	if len(v.Own) != 1 || v.Own[0].Name != "gateway.docker.internal" || v.Own[0].Addrs[0] != ip("172.21.0.1") {
		t.Errorf("%+v", v.Own)
	}
}
