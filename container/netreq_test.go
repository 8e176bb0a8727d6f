package container

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/network"
)

// on makes a definition's networks of their names.
func on(names ...string) map[string]*apinetwork.EndpointSettings {
	m := map[string]*apinetwork.EndpointSettings{}
	for _, n := range names {
		m[n] = &apinetwork.EndpointSettings{}
	}
	return m
}

func TestNumbered(t *testing.T) {
	for _, c := range []struct {
		what     string
		networks []string
		had      map[string]int
		own      string
		want     map[string]int
	}{
		{"own first, then names", []string{"b", "a", "z"}, nil, "z", map[string]int{"z": 0, "a": 1, "b": 2}},
		{"what is there stays", []string{"b", "a", "z"}, map[string]int{"b": 0, "z": 1}, "z", map[string]int{"b": 0, "z": 1, "a": 2}},
		{"the lowest free", []string{"a", "c", "d"}, map[string]int{"a": 0, "b": 1, "c": 2}, "a", map[string]int{"a": 0, "c": 2, "d": 1}},
		{"own comes back", []string{"x", "own"}, map[string]int{"x": 0}, "own", map[string]int{"x": 0, "own": 1}},
		{"none before those that are there", []string{"own", "x"}, map[string]int{"x": 2}, "own", map[string]int{"x": 2, "own": 3}},
		{"nothing", nil, map[string]int{"x": 0}, "", map[string]int{}},
	} {
		if got := numbered(on(c.networks...), c.had, c.own); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestKnownAs(t *testing.T) {
	id := strings.Repeat("ab12", 16)
	for _, c := range []struct {
		name, host string
		aliases    []string
		want       string
	}{
		{"web", "ab12ab12ab12", nil, "web ab12ab12ab12"},
		{"web", "box", []string{"www", "web", "www"}, "web www ab12ab12ab12 box"},
		{"Web", "web", []string{"WWW", "www"}, "Web WWW ab12ab12ab12"},
		{"web", "", nil, "web ab12ab12ab12"},
	} {
		got := knownAs(&Container{ID: id, Name: c.name, Config: &apicontainer.Config{Hostname: c.host}}, c.aliases)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// endpoints are a request's, one per line: network, number and names.
func endpoints(r network.Request) (out []string) {
	for _, w := range r.Endpoints {
		out = append(out, w.Network+" "+itoa(w.Number)+" "+strings.Join(w.Names, ","))
	}
	return out
}

func TestDefinition(t *testing.T) {
	w := newWorld(t)
	w.net.network("shop", "172.18.0.0/16", "172.18.0.1")
	w.net.network("back", "172.19.0.0/16", "172.19.0.1")
	w.change = func(c *Config) { c.Defaults.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.53")} }
	e := w.start()
	several := func(r *CreateRequest) {
		r.HostConfig.NetworkMode = "shop-id"
		r.Config.Hostname = "box"
		mac := apinetwork.HardwareAddr{2, 0x42, 0xac, 0x12, 0, 9}
		r.Networks = map[string]*apinetwork.EndpointSettings{
			"default": {GwPriority: 5},
			"back-id": {Aliases: []string{"cache"}, Links: []string{"other:o"}, DriverOpts: map[string]string{"k": "v"}},
			"shop": {MacAddress: mac, IPAMConfig: &apinetwork.EndpointIPAMConfig{
				IPv4Address: netip.MustParseAddr("172.18.0.9"), LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.7.7")}}},
		}
	}
	id := w.create("d1", "sleep 1000", several)
	c, _ := e.Get(id)
	if want := map[string]int{"shop": 0, "back": 1, "bridge": 2}; !maps.Equal(c.Numbers, want) {
		t.Errorf("numbers: %v", c.Numbers)
	}
	d := w.net.definition(id)
	want := []string{"shop 0 d1," + id[:12] + ",box", "back 1 d1,cache," + id[:12] + ",box", "bridge 2 "}
	if got := endpoints(d); !slices.Equal(got, want) {
		t.Errorf("endpoints: %q", got)
	}
	shop, back := d.Endpoints[0], d.Endpoints[1]
	if shop.IPv4.String() != "172.18.0.9" || shop.MAC != "02:42:ac:12:00:09" || len(shop.LinkLocal) != 1 ||
		d.Endpoints[2].GwPriority != 5 || back.DriverOpts["k"] != "v" || len(back.Links) != 1 || back.Links[0].Target != "other" || back.Links[0].Alias != "o" {
		t.Errorf("%+v", d.Endpoints)
	}
	if len(d.DNS) != 1 || d.DNS[0].String() != "10.0.0.53" {
		t.Errorf("dns: %v", d.DNS)
	}
	// A taken address is refused before anything is made, and names the holder.
	_, _, err := e.Create(t.Context(), func() CreateRequest { r := request("d2", "true"); several(&r); return r }())
	refused(t, "taken", err, cnm.ErrConflict, "held by d1")
	if len(e.List()) != 1 {
		t.Error("a refused create left a container")
	}
	// The definition outlives the daemon, and is held before anything starts.
	w.reborn(func() { w.net.Undefine(id) })
	if got := endpoints(w.net.definition(id)); !slices.Equal(got, want) {
		t.Errorf("after a restart: %q", got)
	}
	ok(t, "start", w.e.Start(t.Context(), id))
	if got := w.net.on(id); got != "shop=eth0 back=eth1 bridge=eth2" {
		t.Error(got)
	}
	w.remove(id)
	if len(w.net.defined) != 0 {
		t.Errorf("still held: %v", w.net.defined)
	}
	w.clean()
}

// A create that fails gives back what its definition held.
func TestDefinitionOfAFailedCreate(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	w.net.failDefine = cnm.Conflict("Address already in use: by somebody")
	_, _, err := e.Create(t.Context(), request("f1", "true"))
	refused(t, "define", err, cnm.ErrConflict, "Address already in use")
	w.net.failDefine = nil
	w.hook = func(p string) {
		if p == "image.prepare.before" {
			w.images.fail = errors.New("no disk")
		}
	}
	if _, _, err = e.Create(t.Context(), request("f1", "true")); err == nil {
		t.Fatal("created without a layer")
	}
	w.hook, w.images.fail = nil, nil
	if len(w.net.defined) != 0 {
		t.Errorf("still held: %v", w.net.defined)
	}
	w.clean()
}

func TestCanonicalNetworks(t *testing.T) {
	w := newWorld(t)
	w.net.network("shop", "172.18.0.0/16", "172.18.0.1")
	e := w.start()
	for _, c := range []struct {
		what  string
		mode  apicontainer.NetworkMode
		nets  map[string]*apinetwork.EndpointSettings
		words string
	}{
		{"unknown", "nope", nil, "network nope not found"},
		{"twice", "shop", map[string]*apinetwork.EndpointSettings{"shop": {}, "shop-id": {}}, "wished for twice"},
		{"host and another", "host", on("host", "shop"), "sharing network namespace with the host"},
		{"empty alias", "shop", map[string]*apinetwork.EndpointSettings{"shop": {Aliases: []string{""}}}, "is no name"},
		{"alias with a space", "shop", map[string]*apinetwork.EndpointSettings{"shop": {Aliases: []string{"a b"}}}, `"a b" is no name`},
		{"bad link", "shop", map[string]*apinetwork.EndpointSettings{"shop": {Links: []string{"a:b:c"}}}, "bad format for links: a:b:c"},
	} {
		r := request("x1", "true")
		r.HostConfig.NetworkMode, r.Networks = c.mode, c.nets
		_, _, err := e.Create(t.Context(), r)
		refused(t, c.what, err, cnm.ErrInvalid, c.words)
	}
	w.clean()
}
