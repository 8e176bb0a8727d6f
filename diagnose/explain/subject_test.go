package explain

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/internal/worldtest"
)

func TestUnknown(t *testing.T) {
	w := world()
	w.Live.Listening[""] = []reading.Socket{{Proto: "tcp", Addr: six6, Port: 22}}
	for _, c := range []struct {
		subject string
		kind    Kind
		class   error
		words   string
	}{
		{"wbe", "", cnm.ErrNotFound, "did you mean web?"},
		{"shp", "", cnm.ErrNotFound, "did you mean shop?"},
		{"nothing-like-it", "", cnm.ErrNotFound, "there is no container, network or published port"},
		{"wbe", KindContainer, cnm.ErrNotFound, `no container "wbe"; did you mean web?`},
		{"web", KindNetwork, cnm.ErrNotFound, `no network "web"`},
		{"web", KindPort, cnm.ErrInvalid, "is no port"},
		{"web", "planet", cnm.ErrInvalid, `no kind "planet"`},
		{"127.0.0.1:70000", "", cnm.ErrInvalid, "is no port"},
		{"22", "", cnm.ErrNotFound, "a program of the host has it, at [::]:22/tcp"},
		{"22/udp", "", cnm.ErrNotFound, "these are: 127.0.0.1:9090/udp, 20000-20031/tcp, 8080/tcp, 8081/tcp"},
		{"9090/tcp", "", cnm.ErrNotFound, "127.0.0.1:9090/udp of container web is"},
		{worldtest.ID("n")[:2], "", cnm.ErrInvalid, "is the beginning of"},
		{worldtest.ID("c")[:2], KindContainer, cnm.ErrInvalid, "is the beginning of"},
	} {
		_, err := Of(context.Background(), sources(w), c.subject, c.kind)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s %s: %v, want %q", c.kind, c.subject, err, c.words)
		}
	}
	w.Boxes = nil
	if _, err := Of(context.Background(), sources(w), "80", ""); err == nil || !strings.Contains(err.Error(), "nor is any other") {
		t.Errorf("%v", err)
	}
}

func TestWhich(t *testing.T) {
	w := world()
	w.Run("shop", nil, w.Nets[2])
	w.Run("8080", nil, w.Nets[1])
	for _, c := range []struct {
		subject string
		kind    Kind
		want    Kind
		id      string
	}{
		{"shop", "", KindContainer, worldtest.ID("cshop")},
		{"shop", KindNetwork, KindNetwork, worldtest.ID("nshop")},
		{"8080", "", KindContainer, worldtest.ID("c8080")},
		{"8080", KindPort, KindPort, worldtest.ID("cweb")},
		{"/web", "", KindContainer, worldtest.ID("cweb")},
		{worldtest.ID("cweb")[:8], "", KindContainer, worldtest.ID("cweb")},
		{worldtest.ID("nvault")[:10], "", KindNetwork, worldtest.ID("nvault")},
		{"host", "", KindNetwork, worldtest.ID("nhost")},
		{"0.0.0.0:8080", "", KindPort, worldtest.ID("cweb")},
		{":8081", "", KindPort, worldtest.ID("cv6")},
		{"[::]:8081/TCP", "", KindPort, worldtest.ID("cv6")},
	} {
		e := of(t, w, c.subject, c.kind)
		if e.Kind != c.want || e.ID != c.id {
			t.Errorf("%s %s: %s %s", c.kind, c.subject, e.Kind, e.Title)
		}
	}
	if e := of(t, w, "shop", ""); len(e.Notes) == 0 || !strings.Contains(e.Notes[0], "--type network") {
		t.Errorf("%q", e.Notes)
	}
}

func TestWhose(t *testing.T) {
	w := world()
	lan := w.AddNetwork("lan", "br0", []string{"10.94.0.0/24"})
	lan.Borrowed = true
	for subject, want := range map[string]struct{ title, note string }{
		"172.17.0.2":                   {"container web: ", "172.17.0.2 is its address on bridge"},
		"fd00:77::2":                   {"container v6: ", "its address on six"},
		"::ffff:172.19.0.2":            {"container db: ", "172.19.0.2 is its address on vault"},
		"172.18.0.1":                   {"network shop: ", "is its gateway"},
		"172.18.9.9":                   {"network shop: ", "no running container has it"},
		"br-shop":                      {"network shop: ", "br-shop is its bridge"},
		"br0":                          {"network lan: ", "which was there before"},
		w.Boxes[1].Endpoints[1].HostIf: {"container db: ", "the host's end of its wire"},
		worldtest.Table:                {"the host: ", ""},
	} {
		if e := of(t, w, subject, ""); !strings.HasPrefix(e.Title, want.title) || !strings.Contains(strings.Join(e.Notes, " "), want.note) {
			t.Errorf("%s: %s %q", subject, e.Title, e.Notes)
		}
	}
	for _, s := range []string{"9.9.9.9", "eth0"} {
		if _, err := Of(context.Background(), sources(w), s, ""); !errors.Is(err, cnm.ErrNotFound) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestPortOnly(t *testing.T) {
	w := world()
	w.Boxes[0].Ports = append(w.Boxes[0].Ports, worldtest.Port("7000-7009:9000/tcp"), worldtest.Port("192.168.99.31:8080:81/udp"))
	for subject, want := range map[string][]string{
		"8080/tcp":           {"DNAT tcp 8080 → 172.17.0.2:80"},
		"8080":               {"DNAT tcp 8080 → 172.17.0.2:80", "DNAT udp 192.168.99.31:8080 → 172.17.0.2:81"},
		"192.168.99.31:8080": {"DNAT tcp 8080 → 172.17.0.2:80", "DNAT udp 192.168.99.31:8080 → 172.17.0.2:81"},
		"127.0.0.1:8080":     {"DNAT tcp 8080 → 172.17.0.2:80"},
		"7003":               {"DNAT tcp 7003 → 172.17.0.2:9003"},
	} {
		var got []string
		for _, g := range of(t, w, subject, "").Groups {
			for _, it := range g.Items {
				if strings.HasPrefix(it.What, "DNAT") {
					got = append(got, it.What)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", subject, got)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"8080", "8080/udp", "127.0.0.1:8080", "[::1]:8080/sctp", ":1", "::1:80", "0", "+1", "[127.0.0.1]:1", "[fe80::1%eth0]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parsePort(s)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if r.port == 0 || r.text != s || r.addr.IsValid() && r.addr.IsUnspecified() {
			t.Errorf("%q: %+v", s, r)
		}
	})
}

func TestParsePort(t *testing.T) {
	for _, s := range []string{"", "0", "65536", "80/", "80/icmp", "a:80", "::1:80", "[127.0.0.1]:80", "[::1]80", "-1", "+80", "8 0", "[fe80::1%eth0]:80", "80-90"} {
		if r, err := parsePort(s); err == nil {
			t.Errorf("%q: %+v", s, r)
		}
	}
}
