package publish

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
)

func TestFromBindings(t *testing.T) {
	expand := func(n int, host, port uint16) (out []Binding) {
		for i := range uint16(n) {
			out = append(out, Binding{ContainerPort: fmt.Sprint(port+i, "/tcp"), HostPort: fmt.Sprint(host + i)})
		}
		return out
	}
	for _, c := range []struct {
		name     string
		exposed  []string
		bindings []Binding
		all      bool
		want     []Request
	}{
		{name: "nothing"},
		{name: "exposed only", exposed: []string{"3306/tcp", "33060/tcp"}},
		{name: "one", exposed: []string{"3306/tcp"}, bindings: []Binding{{"3306/tcp", "", "3306"}},
			want: []Request{req("tcp", "", 3306, 3306, 3306, 3306)}},
		{name: "any", bindings: []Binding{{"80/tcp", "", ""}, {"81/udp", "", "0"}},
			want: []Request{req("tcp", "", 0, 0, 80, 80), req("udp", "", 0, 0, 81, 81)}},
		{name: "no protocol is tcp", bindings: []Binding{{"80", "", "80"}}, want: []Request{req("tcp", "", 80, 80, 80, 80)}},
		{name: "addresses", bindings: []Binding{{"80/tcp", "127.0.0.1", "80"}, {"80/tcp", "::1", "80"}, {"80/tcp", "[::2]", "80"}, {"80/tcp", "0.0.0.0", "81"}},
			want: []Request{req("tcp", "127.0.0.1", 80, 80, 80, 80), req("tcp", "::1", 80, 80, 80, 80), req("tcp", "::2", 80, 80, 80, 80), req("tcp", "0.0.0.0", 81, 81, 80, 80)}},
		{name: "one of a range", bindings: []Binding{{"80/tcp", "", "8000-8010"}, {"81/tcp", "", "8000-8010"}},
			want: []Request{req("tcp", "", 8000, 8010, 80, 80), req("tcp", "", 8000, 8010, 81, 81)}},
		{name: "in the order of container ports, then of the list", bindings: []Binding{{"443/tcp", "", "443"}, {"80/tcp", "", "8081"}, {"53/udp", "", "53"}, {"53/tcp", "", "53"}, {"80/tcp", "", "8080"}},
			want: []Request{req("tcp", "", 53, 53, 53, 53), req("udp", "", 53, 53, 53, 53), req("tcp", "", 8081, 8081, 80, 80), req("tcp", "", 8080, 8080, 80, 80), req("tcp", "", 443, 443, 443, 443)}},
		{name: "a range, port by port, as the CLI sends it", bindings: expand(1000, 8000, 9000),
			want: []Request{req("tcp", "", 8000, 8999, 9000, 9999)}},
		{name: "in any order", bindings: []Binding{{"82/tcp", "", "82"}, {"80/tcp", "", "80"}, {"81/tcp", "", "81"}},
			want: []Request{req("tcp", "", 80, 82, 80, 82)}},
		{name: "two interleaved ranges", bindings: append(expand(3, 8000, 80), expand(3, 9000, 80)...),
			want: []Request{req("tcp", "", 8000, 8002, 80, 82), req("tcp", "", 9000, 9002, 80, 82)}},
		{name: "a gap", bindings: []Binding{{"80/tcp", "", "80"}, {"81/tcp", "", "81"}, {"83/tcp", "", "83"}, {"84/tcp", "", "85"}},
			want: []Request{req("tcp", "", 80, 81, 80, 81), req("tcp", "", 83, 83, 83, 83), req("tcp", "", 85, 85, 84, 84)}},
		{name: "not across addresses or protocols", bindings: []Binding{{"80/tcp", "", "80"}, {"81/tcp", "127.0.0.1", "81"}, {"82/udp", "127.0.0.1", "82"}},
			want: []Request{req("tcp", "", 80, 80, 80, 80), req("tcp", "127.0.0.1", 81, 81, 81, 81), req("udp", "127.0.0.1", 82, 82, 82, 82)}},
		{name: "any free, neighbours", bindings: []Binding{{"80/tcp", "", ""}, {"81/tcp", "", ""}, {"83/tcp", "", ""}},
			want: []Request{req("tcp", "", 0, 0, 80, 81), req("tcp", "", 0, 0, 83, 83)}},
		{name: "the last port", bindings: []Binding{{"65534/tcp", "", "65534"}, {"65535/tcp", "", "65535"}, {"1/tcp", "", "1"}},
			want: []Request{req("tcp", "", 1, 1, 1, 1), req("tcp", "", 65534, 65535, 65534, 65535)}},
		{name: "a repetition is one, two free ones are two", bindings: []Binding{{"80/tcp", "", "80"}, {"80/tcp", "", "80"}, {"90/tcp", "", ""}, {"90/tcp", "", ""}},
			want: []Request{req("tcp", "", 80, 80, 80, 80), req("tcp", "", 0, 0, 90, 90), req("tcp", "", 0, 0, 90, 90)}},
		{name: "ranges as keys", bindings: []Binding{{"9000-9010/udp", "", "8000-8010"}},
			want: []Request{req("udp", "", 8000, 8010, 9000, 9010)}},
		{name: "publish all", exposed: []string{"443/tcp", "80/tcp", "53/udp", "80/tcp"}, all: true,
			want: []Request{req("udp", "", 0, 0, 53, 53), req("tcp", "", 0, 0, 80, 80), req("tcp", "", 0, 0, 443, 443)}},
		{name: "publish all but what is bound", exposed: []string{"80/tcp", "443/tcp", "80/udp"}, bindings: []Binding{{"80/tcp", "", "8080"}}, all: true,
			want: []Request{req("tcp", "", 8080, 8080, 80, 80), req("udp", "", 0, 0, 80, 80), req("tcp", "", 0, 0, 443, 443)}},
		{name: "publish an exposed range", exposed: []string{"7000-7003/tcp"}, bindings: []Binding{{"7001/tcp", "", "7001"}}, all: true,
			want: []Request{req("tcp", "", 0, 0, 7000, 7000), req("tcp", "", 7001, 7001, 7001, 7001), req("tcp", "", 0, 0, 7002, 7003)}},
	} {
		got, err := FromBindings(c.exposed, c.bindings, c.all)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %v\nwant %v", c.name, got, c.want)
		}
	}
}

func TestFromBindingsBad(t *testing.T) {
	for _, c := range []struct {
		exposed []string
		binding Binding
		want    string
	}{
		{binding: Binding{"80/tcp", "", "http"}, want: `invalid port specification: "http:80/tcp": invalid hostPort: http`},
		{binding: Binding{"80/tcp", "127.0.0.1", "99999"}, want: `invalid port specification: "127.0.0.1:99999:80/tcp": invalid hostPort: 99999`},
		{binding: Binding{"80/tcp", "::g", "80"}, want: `invalid port specification: "[::g]:80:80/tcp": invalid IP address: ::g`},
		{binding: Binding{"0/tcp", "", "80"}, want: `invalid containerPort: 0`},
		{binding: Binding{"80/icmp", "", "80"}, want: `invalid proto: icmp`},
		{binding: Binding{"", "", "80"}, want: `no port specified`},
		{binding: Binding{"80-81/tcp", "", "80"}, want: `invalid ranges specified`},
		{exposed: []string{"x/tcp"}, binding: Binding{"80/tcp", "", "80"}, want: `invalid port specification: "x/tcp": invalid containerPort: x`},
		{exposed: []string{"80/x"}, binding: Binding{"80/tcp", "", "80"}, want: `invalid proto: x`},
	} {
		got, err := FromBindings(c.exposed, []Binding{c.binding}, false)
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v = %v, %v; want %q", c, got, err, c.want)
		}
	}
}

// TestSameMeaning: what docker run sends for a specification is what Parse says.
func TestSameMeaning(t *testing.T) {
	parsed, err := parseAll("8000-8002:9000-9002", "80", "81", "127.0.0.1:443:443", "127.0.0.1:443:443", "8000-8010:22")
	if err != nil {
		t.Fatal(err)
	}
	sent, err := FromBindings(nil, []Binding{
		{"9000/tcp", "", "8000"}, {"9001/tcp", "", "8001"}, {"9002/tcp", "", "8002"},
		{"80/tcp", "", ""}, {"81/tcp", "", ""}, {"443/tcp", "127.0.0.1", "443"}, {"22/tcp", "", "8000-8010"},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	byPort := func(a, b Request) int { return int(a.Port) - int(b.Port) }
	slices.SortStableFunc(parsed, byPort)
	if !slices.Equal(parsed, sent) {
		t.Errorf("parsed %v\nsent %v", parsed, sent)
	}
	if _, err := parseAll("80", "x"); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("one that is none: %v", err)
	}
}

func FuzzFromBindings(f *testing.F) {
	f.Add("80/tcp", "127.0.0.1", "8000-8010", "81/tcp", "", "", true)
	f.Add("80-90", "::1", "0", "81-85/udp", "", "81-85", false)
	f.Fuzz(func(t *testing.T, p1, ip1, h1, p2, ip2, h2 string, all bool) {
		reqs, err := FromBindings([]string{p1, p2}, []Binding{{p1, ip1, h1}, {p2, ip2, h2}}, all)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) && !errors.Is(err, cnm.ErrUnsupported) {
				t.Fatalf("an error of no class: %v", err)
			}
			return
		}
		for _, r := range reqs {
			checkRequest(t, r)
		}
	})
}
