package diagnose

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
)

func TestParseEnd(t *testing.T) {
	for text, want := range map[string]End{
		"web":                       {Name: "web"},
		"web:5432":                  {Name: "web", Port: 5432},
		"web:53/udp":                {Name: "web", Port: 53, Proto: "udp"},
		"web:80/TCP":                {Name: "web", Port: 80, Proto: "tcp"},
		"web/icmp":                  {Name: "web", Proto: "icmp"},
		"host":                      {Kind: EndHost, Name: "the host"},
		"host:8080":                 {Kind: EndHost, Name: "the host", Port: 8080},
		"outside":                   {Kind: EndOutside, Name: "outside"},
		"outside:443":               {Kind: EndOutside, Name: "outside", Port: 443},
		"outside:203.0.113.9":       {Kind: EndOutside, Name: "203.0.113.9", Addr: netip.MustParseAddr("203.0.113.9")},
		"outside:203.0.113.9:443":   {Kind: EndOutside, Name: "203.0.113.9", Addr: netip.MustParseAddr("203.0.113.9"), Port: 443},
		"outside:2001:db8::1":       {Kind: EndOutside, Name: "2001:db8::1", Addr: netip.MustParseAddr("2001:db8::1")},
		"outside:[2001:db8::1]:443": {Kind: EndOutside, Name: "2001:db8::1", Addr: netip.MustParseAddr("2001:db8::1"), Port: 443},
		"172.20.0.3":                {Name: "172.20.0.3", Addr: netip.MustParseAddr("172.20.0.3")},
		"172.20.0.3:80/udp":         {Name: "172.20.0.3", Addr: netip.MustParseAddr("172.20.0.3"), Port: 80, Proto: "udp"},
		"fd00::3":                   {Name: "fd00::3", Addr: netip.MustParseAddr("fd00::3")},
		"[fd00::3]":                 {Name: "fd00::3", Addr: netip.MustParseAddr("fd00::3")},
		"[fd00::3]:80":              {Name: "fd00::3", Addr: netip.MustParseAddr("fd00::3"), Port: 80},
		"::ffff:10.0.0.1":           {Name: "::ffff:10.0.0.1", Addr: netip.MustParseAddr("10.0.0.1")},
		"example.com:443":           {Name: "example.com", Port: 443},
	} {
		want.Text = text
		if got, err := ParseEnd(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":              "is empty",
		":80":           "who is missing",
		"web:":          `"" is no port`,
		"web:0":         `"0" is no port`,
		"web:65536":     "1 to 65535",
		"web:http":      `"http" is no port`,
		"web:80/tpc":    "did you mean tcp?",
		"web:80/":       "there is no protocol",
		"web/tcp":       "which port?",
		"web:80/icmp":   "ICMP has no ports",
		"[fd00::3":      "not closed",
		"[web]:80":      "must be an IPv6 address",
		"[10.0.0.1]:80": "must be an IPv6 address",
		"[fd00::3]80":   "comes a colon",
		"fd00::3::80":   "is written [fd00::3]:80",
		"outside:web":   "must be an address",
	} {
		_, err := ParseEnd(text)
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseEnd(f *testing.F) {
	for _, s := range []string{"web:5432/tcp", "[fd00::3]:80", "outside:1.2.3.4:5", "outside:", "a:b:c", "[", "/", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEnd(s)
		switch {
		case err != nil && !errors.Is(err, cnm.ErrInvalid):
			t.Errorf("%q: %v", s, err)
		case err == nil && e.Name == "":
			t.Errorf("%q: nobody", s)
		case err == nil && e.Proto == "icmp" && e.Port != 0:
			t.Errorf("%q: ICMP with a port", s)
		}
	})
}

// house is a world of one container.
type house struct{ reading.Reader }

func (house) Networks() []*cnm.Network {
	return []*cnm.Network{{ID: "n1", Name: "shop", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("172.20.0.0/16"), Gateway: netip.MustParseAddr("172.20.0.1")}}}}
}
func (house) Sandboxes() []*cnm.Sandbox {
	return []*cnm.Sandbox{{ID: "s1", Owner: "abcdef", OwnerName: "web", Members: []string{"abcdef"},
		Ports:     []cnm.PublishedPort{{Proto: "tcp", HostIP: netip.MustParseAddr("192.0.2.20"), HostPort: 80, HostPortEnd: 80, Port: 80}},
		Endpoints: []cnm.Endpoint{{NetworkID: "n1", NetworkName: "shop", Addrs: []netip.Prefix{netip.MustParsePrefix("172.20.0.2/16")}}}}}
}
func (house) Containers() []Container {
	return []Container{{ID: "abcdef", Name: "web", State: "running"}, {ID: "abc123", Name: "gone", State: "exited"}}
}
func (house) Objects(context.Context) ([]dataplane.Object, error) { return nil, nil }
func (house) Interfaces(context.Context, string) ([]reading.Interface, error) {
	return []reading.Interface{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}, nil
}

func TestFind(t *testing.T) {
	w := &World{Declared: house{}, Kernel: house{}}
	for text, want := range map[string]struct {
		kind EndKind
		name string
		how  string
	}{
		"web":                {EndContainer, "web", ""},
		"abcd":               {EndContainer, "web", ""},
		"gone":               {EndContainer, "gone", ""},
		"172.20.0.2:80":      {EndContainer, "web", "172.20.0.2 is web's address on shop"},
		"172.20.0.1":         {EndHost, "the host", "the host's address on network shop"},
		"192.0.2.10":         {EndHost, "the host", "the host's address on eth0"},
		"192.0.2.20":         {EndHost, "the host", "web publishes ports on 192.0.2.20"},
		"127.0.0.1":          {EndHost, "the host", ""},
		"172.20.0.9":         {EndOutside, "172.20.0.9", "in network shop's subnet, and no container has it"},
		"203.0.113.9":        {EndOutside, "203.0.113.9", ""},
		"outside":            {EndOutside, "outside", ""},
		"outside:172.20.0.9": {EndOutside, "172.20.0.9", ""},
		"host":               {EndHost, "the host", ""},
	} {
		e, err := ParseEnd(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Find(t.Context(), &e); err != nil || e.Kind != want.kind || e.Name != want.name || !strings.Contains(e.How, want.how) {
			t.Errorf("%s: %s %q %q, %v", text, e.Kind, e.Name, e.How, err)
		}
		if e.Kind == EndContainer && e.Name == "web" && e.Sandbox == nil {
			t.Errorf("%s: no sandbox", text)
		}
	}
	for text, want := range map[string]string{"wbe": "did you mean web?", "abc": "the beginning of 2 ids", "zzz": "`linkspan ps -a` lists all"} {
		e, _ := ParseEnd(text)
		if err := w.Find(t.Context(), &e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if n := w.NetworkByID("n1"); n == nil || w.NetworkByID("n2") != nil {
		t.Error("networks are not found by their ids")
	}
}
