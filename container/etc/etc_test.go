package etc

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestHosts(t *testing.T) {
	extra, err := ParseExtraHosts([]string{"db:10.0.0.5", "six:::1", "br=[2001:db8::1]", "up:host-gateway"}, addrs("172.17.0.1", "fd00::1"))
	if err != nil {
		t.Fatal(err)
	}
	got := string(Hosts(extra, addrs("172.17.0.2"), "web", "example.org"))
	want := defaultHosts + "10.0.0.5\tdb\n::1\tsix\n2001:db8::1\tbr\n172.17.0.1\tup\nfd00::1\tup\n172.17.0.2\tweb.example.org web\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := string(Hosts(nil, nil, "web", "")); got != defaultHosts {
		t.Errorf("without an address the name must not appear:\n%s", got)
	}
}

func TestParseExtraHostsRefuses(t *testing.T) {
	for in, words := range map[string]string{
		"db":              `bad format for add-host: "db"`,
		":10.0.0.1":       `bad format for add-host: ":10.0.0.1"`,
		"db:10.0.0":       `invalid IP address in add-host: "10.0.0"`,
		"db:":             `invalid IP address in add-host: ""`,
		"up:host-gateway": "--host-gateway-ip",
	} {
		if _, err := ParseExtraHosts([]string{in}, nil); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestResolv(t *testing.T) {
	const host = "# comment\n; other\nnameserver 127.0.0.1\nnameserver 10.0.0.53 # x\nnameserver fd00::53\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\ndomain old\nsearch corp.example a.b\noptions ndots:2\noptions rotate\nsortlist 10.0.0.0\n"
	for _, c := range []struct {
		name, host string
		wish       Wish
		v6         bool
		want       string
	}{
		{"v4", host, Wish{}, false, "nameserver 10.0.0.53\nsearch corp.example a.b\noptions ndots:2 rotate\nsortlist 10.0.0.0\n"},
		{"v6", host, Wish{}, true, "nameserver 10.0.0.53\nnameserver fd00::53\nsearch corp.example a.b\noptions ndots:2 rotate\nsortlist 10.0.0.0\n"},
		{"own", host, Wish{DNS: addrs("127.0.0.1", "fd00::1"), Search: []string{"x"}, Options: []string{"edns0"}}, false, "nameserver 127.0.0.1\nnameserver fd00::1\nsearch x\noptions edns0\nsortlist 10.0.0.0\n"},
		{"no search", "nameserver 1.1.1.1\nsearch a\n", Wish{Search: []string{"."}}, false, "nameserver 1.1.1.1\n"},
		{"only loopback", "nameserver 127.0.0.53\nnameserver ::1\n", Wish{}, false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{"empty v6", "", Wish{}, true, "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n"},
	} {
		got := string(ParseResolv([]byte(c.host)).For(c.wish, c.v6))
		if d := cmp.Diff(resolvHeader+c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestResolvForHost(t *testing.T) {
	raw := []byte("nameserver 127.0.0.53\noptions edns0\n")
	r := ParseResolv(raw)
	if got := r.ForHost(Wish{}, raw); string(got) != string(raw) {
		t.Errorf("the host's file must come as it is: %q", got)
	}
	if got := string(r.ForHost(Wish{Search: []string{"x"}}, raw)); got != resolvHeader+"nameserver 127.0.0.53\nsearch x\noptions edns0\n" {
		t.Errorf("%q", got)
	}
}

func TestReadResolv(t *testing.T) {
	d := t.TempDir()
	main, behind := filepath.Join(d, "m"), filepath.Join(d, "b")
	if b, err := (Host{main, behind}).Read(false); err != nil || b != nil {
		t.Errorf("no file: %q %v", b, err)
	}
	write := func(p, s string) {
		if err := os.WriteFile(p, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(main, "nameserver 127.0.0.53\n")
	if b, _ := (Host{main, behind}).Read(false); string(b) != "nameserver 127.0.0.53\n" {
		t.Errorf("nothing behind: %q", b)
	}
	write(behind, "nameserver 9.9.9.9\n")
	if b, _ := (Host{main, behind}).Read(false); string(b) != "nameserver 9.9.9.9\n" {
		t.Errorf("stub: %q", b)
	}
	if b, _ := (Host{main, behind}).Read(true); string(b) != "nameserver 127.0.0.53\n" {
		t.Errorf("host mode: %q", b)
	}
	write(main, "nameserver 127.0.0.53\nnameserver 1.1.1.1\n")
	if b, _ := (Host{main, behind}).Read(false); !strings.Contains(string(b), "1.1.1.1") {
		t.Errorf("two: %q", b)
	}
}

func TestWriteResolvKeepsEdits(t *testing.T) {
	d := t.TempDir()
	f := filepath.Join(d, ResolvFile)
	read := func() string {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	put := func(s string) {
		if err := WriteResolv(d, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	put("a\n")
	put("b\n")
	if read() != "b\n" {
		t.Error("an untouched file must follow")
	}
	if err := os.WriteFile(f, []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	put("c\n")
	if read() != "mine\n" {
		t.Error("an edit must stay")
	}
}

func TestWriteInPlaceAndShare(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, n := range []string{HostsFile, ResolvFile} {
		if err := Write(filepath.Join(a, n), []byte("one\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(b, HostsFile), []byte("stale\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Share(a, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(a, HostsFile), []byte("two\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(a); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(b, HostsFile))
	if err != nil || string(got) != "two\n" {
		t.Errorf("the other sees the change and outlives the first: %q %v", got, err)
	}
}
