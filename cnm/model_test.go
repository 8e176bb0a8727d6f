package cnm

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"linkspan/internal/golden"
)

// full has every field set, so that a field that is added and not stored shows.
func full() (Network, Sandbox) {
	n := Network{
		ID: "n1", Name: "shop", Driver: "bridge", Created: time.Unix(1e9, 5).UTC(),
		Pools: []Pool{
			{Subnet: netip.MustParsePrefix("172.20.0.0/16"), Gateway: netip.MustParseAddr("172.20.0.1"),
				Range: netip.MustParsePrefix("172.20.5.0/24"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("172.20.0.9")}},
			{Subnet: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
		},
		Scope: ScopeGlobal, VNIs: []uint32{0x4C0001, 0x4C0001},
		IPAMDriver: "default", IPAMOptions: map[string]string{"o": "1"}, NoIPv4: true, IPv6: true, Internal: true, Attachable: true,
		ConfigOnly: true, ConfigFrom: "base", Borrowed: true, Predefined: true,
		Options: map[string]string{"mtu": "1400"}, Labels: map[string]string{"team": "a"},
	}
	s := Sandbox{
		ID: "s1", Owner: "c1", OwnerName: "web", Lineage: "shop/web/1", Members: []string{"c1", "c2"}, Path: "/run/ns/s1", Host: true,
		Endpoints: []Endpoint{{
			ID: "e1", NetworkID: "n1", NetworkName: "shop", IfName: "eth0", HostIf: "veth1", MAC: "02:42:ac:14:00:02",
			Addrs:      []netip.Prefix{netip.MustParsePrefix("172.20.0.2/16"), netip.MustParsePrefix("fd00::2/64")},
			Gateways:   []netip.Addr{netip.MustParseAddr("172.20.0.1"), netip.MustParseAddr("fd00::1")},
			GwPriority: 1, LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.1.1")}, Names: []string{"web", "www"},
			Aliases: []string{"www"}, DriverOpts: map[string]string{"k": "v"},
			Links: []Link{{Target: "c9", Alias: "db", Ports: []string{"3306/tcp"}, Addrs: []netip.Addr{netip.MustParseAddr("172.20.0.3")}}},
		}},
		Ports: []PublishedPort{
			{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8000, HostPortEnd: 8010, Port: 9000},
			{Proto: "udp", HostPort: 53, HostPortEnd: 53, Port: 53},
		},
		Sysctls:  map[string]string{"net.ipv4.ip_forward": "1"},
		Resolver: true, Answers: true, DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Search: []string{"corp.example"}, Exposed: []string{"80/tcp"},
	}
	return n, s
}

// TestStored holds the stored form: what one version wrote, the next reads. A
// change of the golden file needs a migration, not -update.
func TestStored(t *testing.T) {
	n, s := full()
	type stored struct {
		Network Network
		Sandbox Sandbox
	}
	in := stored{n, s}
	got, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	golden.Compare(t, "testdata/stored.json", string(got))
	var out stored
	if err := json.Unmarshal(got, &out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("read back:\n%+v\nwant\n%+v", out, in)
	}
}

// TestFull: the test above would not see a field that full forgot.
func TestFull(t *testing.T) {
	n, s := full()
	for _, v := range []any{n, n.Pools[0], s, s.Endpoints[0], s.Endpoints[0].Links[0], s.Ports[0]} {
		r := reflect.ValueOf(v)
		for i := range r.NumField() {
			if r.Field(i).IsZero() {
				t.Errorf("%T.%s is not set in full", v, r.Type().Field(i).Name)
			}
		}
	}
}

func TestZero(t *testing.T) {
	for _, v := range []any{Network{}, Sandbox{}, Endpoint{}, Pool{}, PublishedPort{}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		back := reflect.New(reflect.TypeOf(v))
		if err := json.Unmarshal(text, back.Interface()); err != nil {
			t.Errorf("%T: %s: %v", v, text, err)
		}
		if !reflect.DeepEqual(back.Elem().Interface(), v) {
			t.Errorf("%T: %s reads back as %+v", v, text, back.Elem().Interface())
		}
	}
}

func TestFamilies(t *testing.T) {
	n, s := full()
	e := &s.Endpoints[0]
	if a := e.Addr4(); a.String() != "172.20.0.2/16" {
		t.Errorf("Addr4 = %s", a)
	}
	if a := e.Addr6(); a.String() != "fd00::2/64" {
		t.Errorf("Addr6 = %s", a)
	}
	if g := e.Gateway(true); g.String() != "172.20.0.1" {
		t.Errorf("Gateway(v4) = %s", g)
	}
	if g := e.Gateway(false); g.String() != "fd00::1" {
		t.Errorf("Gateway(v6) = %s", g)
	}
	if p := n.Pool4(); p != &n.Pools[0] {
		t.Errorf("Pool4 = %+v", p)
	}
	only6 := Endpoint{Addrs: e.Addrs[1:], Gateways: e.Gateways[1:]}
	if only6.Addr4().IsValid() || only6.Gateway(true).IsValid() || only6.Addr6() != e.Addrs[1] {
		t.Errorf("of an IPv6 endpoint: %s, %s", only6.Addr4(), only6.Gateway(true))
	}
	if p := (&Network{Pools: n.Pools[1:]}).Pool4(); p != nil {
		t.Errorf("Pool4 of an IPv6 network = %+v", p)
	}
	if p := (&Network{}).Pool4(); p != nil {
		t.Errorf("Pool4 of nothing = %+v", p)
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		p    PublishedPort
		want int
	}{
		{PublishedPort{HostPort: 80, HostPortEnd: 80}, 1},
		{PublishedPort{HostPort: 8000, HostPortEnd: 8010}, 11},
		{PublishedPort{HostPort: 1, HostPortEnd: 65535}, 65535},
	} {
		if got := c.p.Count(); got != c.want {
			t.Errorf("%+v: %d", c.p, got)
		}
	}
}
