package docker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/network"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func yes(b bool) *bool { return &b }

// TestNetworkWish: what `docker network create` sends becomes the controller's
// wish, by the version that it was sent in.
func TestNetworkWish(t *testing.T) {
	full := `{"Name":"my-net","Driver":"bridge","Scope":"local","EnableIPv4":true,"EnableIPv6":true,"CheckDuplicate":true,
		"IPAM":{"Driver":"default","Options":{"a":"b"},"Config":[
			{"Subnet":"172.25.0.0/16","IPRange":"172.25.1.0/24","Gateway":"172.25.0.1","AuxiliaryAddresses":{"router":"172.25.0.2"}},
			{"Subnet":"fd00:25::/64"}]},
		"Internal":true,"Attachable":true,"Ingress":false,"ConfigOnly":false,"ConfigFrom":{"Network":"base"},
		"Options":{"com.docker.network.driver.mtu":"1400"},"Labels":{"l":"v"}}`
	want := network.NetworkWish{
		Name: "my-net", Driver: "bridge", Scope: "local", IPv4: yes(true), IPv6: yes(true), IPAMDriver: "default", IPAMOptions: map[string]string{"a": "b"},
		Pools: []cnm.Pool{
			{Subnet: netip.MustParsePrefix("172.25.0.0/16"), Range: netip.MustParsePrefix("172.25.1.0/24"), Gateway: netip.MustParseAddr("172.25.0.1"),
				Aux: map[string]netip.Addr{"router": netip.MustParseAddr("172.25.0.2")}},
			{Subnet: netip.MustParsePrefix("fd00:25::/64")},
		},
		Internal: true, Attachable: true, ConfigFrom: "base",
		Options: map[string]string{"com.docker.network.driver.mtu": "1400"}, Labels: map[string]string{"l": "v"},
	}
	old := want
	old.IPv4 = nil
	for _, tc := range []struct {
		version, body string
		want          network.NetworkWish
	}{
		{"1.51", full, want},
		{"1.48", full, want},
		{"1.47", full, old},
		{"1.24", full, old},
		{"1.51", `{"Name":"a"}`, network.NetworkWish{Name: "a", Driver: "bridge"}},
		{"1.51", `{"Name":"a","Driver":"","IPAM":null,"EnableIPv4":false,"EnableIPv6":false}`, network.NetworkWish{Name: "a", Driver: "bridge", IPv4: yes(false), IPv6: yes(false)}},
		// What 20.10's CLI sends of `docker network create a`.
		{"1.41", `{"CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv6":false,"IPAM":{"Driver":"default","Options":{},"Config":[]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":{},"Labels":{},"Name":"a"}`,
			network.NetworkWish{Name: "a", Driver: "bridge", IPAMDriver: "default", IPAMOptions: map[string]string{}, Options: map[string]string{}, Labels: map[string]string{}}},
		{"1.51", `{"Name":"a","Driver":"bridge","ConfigOnly":true,"Ingress":true}`, network.NetworkWish{Name: "a", Driver: "bridge", ConfigOnly: true, Ingress: true}},
		// An IPv4 address in IPv6's clothes is one.
		{"1.51", `{"Name":"a","IPAM":{"Config":[{"Gateway":"::ffff:10.0.0.1"}]}}`, network.NetworkWish{Name: "a", Driver: "bridge", Pools: []cnm.Pool{{Gateway: netip.MustParseAddr("10.0.0.1")}}}},
	} {
		n := newFakeNetwork()
		n.warning = "mind the gap"
		w := request(t, New(testConfig(newFakeContainers(), n)), "POST", "/v"+tc.version+"/networks/create", tc.body)
		var answer apinetwork.CreateResponse
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 201 || len(answer.ID) != 64 || answer.Warning != "mind the gap" {
			t.Errorf("%s %s: %d %s", tc.version, tc.body, w.Code, w.Body)
		}
		if d := cmp.Diff(tc.want, n.wish, byValue); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.version, tc.body, d)
		}
	}
}

// userNetwork is a dual-stack network of a person's, with one container on it,
// one that has stopped, and all that inspect shows.
func userNetwork(t *testing.T) (http.Handler, *fakeContainers, *fakeNetwork) {
	web, gone := testContainer(1, "web", container.Running), testContainer(2, "gone", container.Exited)
	ep := &apinetwork.EndpointSettings{
		Aliases: []string{"shop"}, Links: []string{"gone:db"}, DriverOpts: map[string]string{"com.docker.network.endpoint.ifname": "lan0"},
		IPAMConfig: &apinetwork.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("172.25.0.5"), LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.7.7")}},
		MacAddress: apinetwork.HardwareAddr{2, 0x42, 0xac, 0x19, 0, 5}, GwPriority: 3,
	}
	for _, c := range []*container.Container{web, gone} {
		c.HostConfig.NetworkMode = "my-net"
		c.Networks = map[string]*apinetwork.EndpointSettings{"my-net": ep}
	}
	web.Networks["lamp"] = &apinetwork.EndpointSettings{}
	web.Config.Hostname = "front"
	mynet := &cnm.Network{
		ID: strings.Repeat("25", 32), Name: "my-net", Driver: "bridge", Created: time.Date(2026, 11, 21, 8, 0, 0, 123, time.UTC), IPv6: true,
		Pools: []cnm.Pool{
			{Subnet: netip.MustParsePrefix("172.25.0.0/16"), Gateway: netip.MustParseAddr("172.25.0.1"), Range: netip.MustParsePrefix("172.25.1.0/24"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("172.25.0.2")}},
			{Subnet: netip.MustParsePrefix("fd00:25::/64"), Gateway: netip.MustParseAddr("fd00:25::1")},
		},
		Internal: true, Attachable: true, ConfigFrom: "base", Options: map[string]string{"com.docker.network.driver.mtu": "1400"}, Labels: map[string]string{"a": "b"},
	}
	lamp := &cnm.Network{ID: strings.Repeat("1a", 32), Name: "lamp", Driver: "bridge", Created: mynet.Created, NoIPv4: true, IPv6: true,
		Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("fd00:26::/64"), Gateway: netip.MustParseAddr("fd00:26::1")}}}
	base := &cnm.Network{ID: strings.Repeat("ba", 32), Name: "base", Driver: "bridge", Created: mynet.Created, ConfigOnly: true, IPAMOptions: map[string]string{"k": "v"}}
	sb := &cnm.Sandbox{ID: strings.Repeat("5b", 32), Owner: web.ID, OwnerName: "web", Members: []string{web.ID}, Path: "/run/linkspan/netns/5b", Resolver: true,
		Endpoints: []cnm.Endpoint{
			{ID: strings.Repeat("e1", 32), NetworkID: mynet.ID, NetworkName: "my-net", IfName: "lan0", MAC: "02:42:ac:19:00:05", GwPriority: 3,
				Addrs:    []netip.Prefix{netip.MustParsePrefix("172.25.0.5/16"), netip.MustParsePrefix("fd00:25::5/64")},
				Gateways: []netip.Addr{netip.MustParseAddr("172.25.0.1"), netip.MustParseAddr("fd00:25::1")},
				Names:    []string{"web", "shop", web.ID[:12], "front"}},
			{ID: strings.Repeat("e2", 32), NetworkID: lamp.ID, NetworkName: "lamp", IfName: "eth1", MAC: "02:42:00:00:00:06",
				Addrs: []netip.Prefix{netip.MustParsePrefix("fd00:26::6/64")}, Names: []string{"web", web.ID[:12]}},
		}}
	f, n := newFakeContainers(web, gone), newFakeNetwork(sb)
	n.networks = append(n.networks, mynet, lamp, base)
	return New(testConfig(f, n)), f, n
}

// TestGoldenNetworks: a user's networks and the containers on them, by version.
func TestGoldenNetworks(t *testing.T) {
	h, _, _ := userNetwork(t)
	for name, answer := range map[string]struct{ path, versions string }{
		"usernet":           {"/networks/my-net?verbose=true", "1.24 1.48"},
		"usernet-container": {"/containers/web/json", "1.41 1.44 1.45 1.51"},
		"usernet-stopped":   {"/containers/gone/json", "1.41 1.51"},
		"usernet-base":      {"/networks/base", "1.51"},
		"usernet-v6only":    {"/networks/lamp", "1.51"},
	} {
		for _, v := range strings.Fields(answer.versions) {
			path := answer.path
			w := request(t, h, "GET", "/v"+v+path, "")
			if w.Code != 200 {
				t.Fatalf("%s %d %s", path, w.Code, w.Body)
			}
			body := w.Body.Bytes()
			if strings.Contains(path, "containers") { // the networking half is what this is about
				var c struct{ NetworkSettings, Config json.RawMessage }
				if err := json.Unmarshal(body, &c); err != nil {
					t.Fatal(err)
				}
				body, _ = json.Marshal(c)
			}
			rendered(t, name+"-"+v, body)
		}
	}
}

func TestNetworkRemoveAndPrune(t *testing.T) {
	h, f, n := userNetwork(t)
	_, coming := f.bus.Subscribe(t.Context(), time.Time{})
	if w := request(t, h, "DELETE", "/networks/my-net", ""); w.Code != 403 || !strings.Contains(w.Body.String(), "has active endpoints") {
		t.Errorf("in use: %d %s", w.Code, w.Body)
	}
	// Too young, and without the label: nothing goes.
	for _, filter := range []string{`{"until":{"24h":true}}`, `{"label":{"x":true}}`, `{"label!":{"a":true},"label":{"a":true}}`} {
		n.networks[3].Created, n.networks[4].Created = time.Now(), time.Now()
		w := request(t, h, "POST", "/networks/prune?filters="+strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22").Replace(filter), "")
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"NetworksDeleted":[]`) {
			t.Errorf("%s: %d %s", filter, w.Code, w.Body)
		}
		<-coming
	}
	n.networks = append(n.networks, &cnm.Network{ID: strings.Repeat("9", 64), Name: "idle", Driver: "bridge"})
	w := request(t, h, "POST", "/networks/prune", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `{"NetworksDeleted":["idle"]}`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if e := <-coming; e.Type != "network" || e.Action != "prune" || e.Attributes["reclaimed"] != "0" {
		t.Errorf("%+v", e)
	}
	for _, name := range []string{"base", "my-net", "lamp", "bridge"} {
		if _, err := n.Network(name); err != nil {
			t.Errorf("%s went too: %v", name, err)
		}
	}
	n.sandboxes = nil
	if w := request(t, h, "DELETE", "/networks/my-net", ""); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestNetworkRemoveForce: with ?force=1 whoever is on it is taken off first; a
// predefined network keeps its people, and refuses.
func TestNetworkRemoveForce(t *testing.T) {
	h, f, _ := userNetwork(t)
	if w := request(t, h, "DELETE", "/networks/bridge?force=1", ""); w.Code != 403 || strings.Contains(strings.Join(f.noted(), "\n"), "disconnect") {
		t.Errorf("predefined: %d %s, %s", w.Code, w.Body, f.noted())
	}
	if w := request(t, h, "DELETE", "/networks/nobodys?force=1", ""); w.Code != 404 {
		t.Errorf("absent: %d %s", w.Code, w.Body)
	}
	request(t, h, "DELETE", "/networks/my-net?force=1", "")
	if !strings.Contains(strings.Join(f.noted(), "\n"), "disconnect") {
		t.Errorf("nobody was taken off: %s", f.noted())
	}
}

// TestConnect: what the wish keeps of what each version sends.
func TestConnect(t *testing.T) {
	body := `{"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"172.25.0.9","IPv6Address":"fd00:25::9","LinkLocalIPs":["169.254.1.1"]},
		"Links":["db:mysql"],"Aliases":["cart"],"DriverOpts":{"a":"b"},"MacAddress":"02:42:00:00:00:09","GwPriority":7,
		"NetworkID":"stale","EndpointID":"stale","IPAddress":"10.0.0.9","DNSNames":["stale"]}}`
	for v, want := range map[string]struct {
		mac      string
		priority int
	}{"1.51": {"02:42:00:00:00:09", 7}, "1.47": {"02:42:00:00:00:09", 0}, "1.43": {"", 0}} {
		h, f, _ := userNetwork(t)
		if w := request(t, h, "POST", "/v"+v+"/networks/lamp/connect", body); w.Code != 200 || w.Body.Len() != 0 {
			t.Fatalf("%s: %d %s", v, w.Code, w.Body)
		}
		ep := f.endpoint
		ok := ep.IPAMConfig.IPv4Address.String() == "172.25.0.9" && ep.IPAMConfig.IPv6Address.String() == "fd00:25::9" && len(ep.IPAMConfig.LinkLocalIPs) == 1 &&
			slices.Equal(ep.Links, []string{"db:mysql"}) && slices.Equal(ep.Aliases, []string{"cart"}) && ep.DriverOpts["a"] == "b" &&
			ep.MacAddress.String() == want.mac && ep.GwPriority == want.priority &&
			ep.NetworkID+ep.EndpointID == "" && ep.DNSNames == nil && !ep.IPAddress.IsValid()
		if !ok || f.noted()[0] != "connect web lamp" {
			t.Errorf("%s: %+v %q", v, ep, f.noted())
		}
	}
	h, f, _ := userNetwork(t)
	if w := request(t, h, "POST", "/networks/lamp/connect", `{"Container":"web"}`); w.Code != 200 || f.endpoint != nil {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.endpoint)
	}
	if w := request(t, h, "POST", "/networks/lamp/disconnect", `{"Container":"web","Force":true}`); w.Code != 200 || f.noted()[1] != "disconnect web lamp true" {
		t.Errorf("%d %s %q", w.Code, w.Body, f.noted())
	}
	// By force a network goes that is no longer there.
	if w := request(t, h, "POST", "/networks/lost/disconnect", `{"Container":"web","Force":true}`); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.fail["connect"] = cnm.Errorf(cnm.ErrForbidden, "container cannot be connected to host network")
	if w := request(t, h, "POST", "/networks/host/connect", `{"Container":"web"}`); w.Code != 403 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestLinks: a link is a second name of its target, in ps and in its filter, and
// inspect of the one that has it shows both by today's names.
func TestLinks(t *testing.T) {
	db, web := testContainer(1, "db", container.Running), testContainer(2, "web", container.Running)
	web.HostConfig.Links = []string{"old-name:db"}
	web.Links = []container.Link{{Target: db.ID, Alias: "sql"}, {Target: db.ID, Alias: "db"}, {Target: "lost", Alias: "x"}}
	h, _ := testDoor(db, web)
	w := request(t, h, "GET", "/containers/web/json", "")
	if !strings.Contains(w.Body.String(), `"Links":["/db:/web/sql","/db:/web/db","/lost:/web/x"]`) {
		t.Errorf("%s", w.Body)
	}
	if slices.Contains(web.HostConfig.Links, "/db:/web/db") {
		t.Error("rendering changed the record")
	}
	for filter, want := range map[string]int{"": 2, `{"name":{"^/web/db$":true}}`: 1, `{"name":{"web/sql":true}}`: 1, `{"name":{"^db$":true}}`: 1, `{"name":{"none":true}}`: 0} {
		w := request(t, h, "GET", "/containers/json?filters="+strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "^", "%5E").Replace(filter), "")
		var list []apicontainer.Summary
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != want {
			t.Errorf("%s: %d, want %d: %s", filter, len(list), want, w.Body)
		}
		for _, c := range list {
			if c.ID == db.ID && fmt.Sprint(c.Names) != "[/db /web/db /web/sql]" {
				t.Errorf("%s", c.Names)
			}
		}
	}
}

// TestOldMAC: until 1.44 a container has one MAC address, and an endpoint's is
// not listened to.
func TestOldMAC(t *testing.T) {
	body := `{"Image":"box","HostConfig":{"NetworkMode":"my-net"},"NetworkingConfig":{"EndpointsConfig":{"my-net":{"MacAddress":"02:42:00:00:00:09","GwPriority":4}}}}`
	for v, want := range map[string]string{"1.43": "/0", "1.44": "02:42:00:00:00:09/0", "1.51": "02:42:00:00:00:09/4"} {
		h, f, _ := userNetwork(t)
		if w := request(t, h, "POST", "/v"+v+"/containers/create", body); w.Code != 201 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if ep := f.created.Networks["my-net"]; fmt.Sprintf("%s/%d", ep.MacAddress, ep.GwPriority) != want {
			t.Errorf("%s: %+v", v, ep)
		}
	}
}

// TestNoDefaultNetwork: with --bridge=none, who names no network has none.
func TestNoDefaultNetwork(t *testing.T) {
	h, f, n := userNetwork(t)
	n.networks = slices.DeleteFunc(n.networks, func(n *cnm.Network) bool { return n.Name == "bridge" })
	for body, want := range map[string]string{
		`{"Image":"box"}`: "none",
		`{"Image":"box","HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{}}}}`: "none none",
		`{"Image":"box","HostConfig":{"NetworkMode":"my-net"}}`:                                                        "my-net",
		`{"Image":"box","HostConfig":{"NetworkMode":"bridge"}}`:                                                        "bridge", // refused by the engine
	} {
		if w := request(t, h, "POST", "/containers/create", body); w.Code != 201 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
		got := string(f.created.HostConfig.NetworkMode)
		for name := range f.created.Networks {
			got += " " + name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func (f *fakeNetwork) On(networkID string) (out []*cnm.Sandbox) {
	for _, s := range f.sandboxes {
		if slices.ContainsFunc(s.Endpoints, func(e cnm.Endpoint) bool { return e.NetworkID == networkID }) {
			out = append(out, s)
		}
	}
	return out
}
