package docker

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/network"
)

// spanningNetwork is fakeNetwork on a host in a mesh.
type spanningNetwork struct {
	*fakeNetwork
	hosts []network.HostOn
}

func (s spanningNetwork) HostsOn(string) []network.HostOn { return s.hosts }
func (s spanningNetwork) Spans() []network.SpanStatus     { return nil }
func (s spanningNetwork) Remotes(string) []cnm.Remote {
	return []cnm.Remote{{ID: strings.Repeat("e2", 32), Host: "2", ContainerName: "db", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.2.1/16")}}}
}

func globalNetwork(t *testing.T) (http.Handler, *fakeNetwork) {
	web := testContainer(1, "web", container.Running)
	n := &cnm.Network{ID: strings.Repeat("5a", 32), Name: "shop", Driver: "overlay", Scope: cnm.ScopeGlobal, Created: time.Date(2026, 11, 21, 8, 0, 0, 123, time.UTC), IPv6: true,
		VNIs: []uint32{0x4C0007, 0x4C0007}, Options: map[string]string{"encrypted": ""}, Attachable: true,
		Pools: []cnm.Pool{
			{Subnet: netip.MustParsePrefix("192.168.0.0/16"), Gateway: netip.MustParseAddr("192.168.0.1")},
			{Subnet: netip.MustParsePrefix("fd00:5::/64"), Gateway: netip.MustParseAddr("fd00:5::1")},
		}}
	sb := &cnm.Sandbox{ID: strings.Repeat("5b", 32), Owner: web.ID, OwnerName: "web", Members: []string{web.ID},
		Endpoints: []cnm.Endpoint{{ID: strings.Repeat("e1", 32), NetworkID: n.ID, NetworkName: "shop", IfName: "eth0", MAC: "02:42:c0:a8:01:01",
			Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/16"), netip.MustParsePrefix("fd00:5::101/64")}}}}
	f := newFakeNetwork(sb)
	f.networks = append(f.networks, n)
	c := testConfig(newFakeContainers(web), f)
	c.Network = spanningNetwork{f, []network.HostOn{
		{ID: "1", Name: "host1", Addr: netip.MustParseAddr("10.0.0.1"), Here: true, Endpoints: 1},
		{ID: "2", Name: "host2", Addr: netip.MustParseAddr("10.0.0.2"), Endpoints: 3},
	}}
	return New(c), f
}

// TestGoldenGlobal: a network of the mesh, by version.
func TestGoldenGlobal(t *testing.T) {
	h, _ := globalNetwork(t)
	for _, v := range []string{"1.24", "1.51"} {
		w := request(t, h, "GET", "/v"+v+"/networks/shop", "")
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		rendered(t, "globalnet-"+v, w.Body.Bytes())
	}
	w := request(t, h, "GET", "/v1.51/networks/shop?verbose=true", "")
	rendered(t, "globalnet-verbose", w.Body.Bytes())
}

func TestGlobalScopes(t *testing.T) {
	h, f := globalNetwork(t)
	list := func(filter string) (names []string) {
		t.Helper()
		w := request(t, h, "GET", "/networks?filters="+url.QueryEscape(filter), "")
		var got []struct {
			Name, Scope string
			Peers       []any
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", filter, w.Code, w.Body)
		}
		for _, n := range got {
			if (n.Scope == "global") != (n.Name == "shop") || len(n.Peers) > 0 {
				t.Errorf("%+v", n)
			}
			names = append(names, n.Name)
		}
		return names
	}
	for filter, want := range map[string][]string{
		``:                                       {"bridge", "host", "none", "shop"},
		`{"scope":["global"]}`:                   {"shop"},
		`{"scope":["local"]}`:                    {"bridge", "host", "none"},
		`{"scope":["swarm"]}`:                    nil,
		`{"scope":["global","local"]}`:           {"bridge", "host", "none", "shop"},
		`{"driver":["overlay"]}`:                 {"shop"},
		`{"type":["custom"],"scope":["global"]}`: {"shop"},
	} {
		if got := list(filter); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	for path, code := range map[string]int{
		"/networks/shop?scope=global": 200, "/networks/shop?scope=swarm": 200, "/networks/shop?scope=local": 404,
		"/networks/bridge?scope=local": 200, "/networks/bridge?scope=global": 404, "/networks/bridge?scope=swarm": 404,
	} {
		if w := request(t, h, "GET", path, ""); w.Code != code {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	// What is of all hosts is not pruned by one.
	f.sandboxes = nil
	if w := request(t, h, "POST", "/networks/prune", ""); w.Code != 200 || strings.Contains(w.Body.String(), "shop") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := request(t, h, "POST", "/networks/create", `{"Name":"x","Driver":"overlay","Scope":"swarm","Attachable":true}`); w.Code != 201 || f.wish.Scope != "swarm" || !f.wish.Attachable {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.wish)
	}
}
