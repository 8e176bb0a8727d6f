package ports

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// form is one way to write -p, and what becomes of it.
type form struct {
	name  string
	flags []string
	// bindings are NetworkSettings.Ports as "9000/tcp 0.0.0.0:8080", sorted by
	// container port; * stands for a port that the engine chose, "null" for none.
	bindings []string
	// reached are targets that answer from where they are dialled: "wire tcp/…" or
	// "host tcp/…".
	reached []string
	closed  []string
}

const both = "0.0.0.0:%[1]s [::]:%[1]s"

func on(port, host string) string { return port + " " + fmt.Sprintf(both, host) }

var forms = []form{
	{name: "container port", flags: []string{"-p", "9000"}, bindings: []string{on("9000/tcp", "*")}},
	{name: "host:container", flags: []string{"-p", "8080:9000"}, bindings: []string{on("9000/tcp", "8080")},
		reached: []string{"wire tcp/192.168.99.31:8080", "wire tcp/[fd99::31]:8080", "host tcp/127.0.0.1:8080", "host tcp/[::1]:8080"},
		closed:  []string{"wire udp/192.168.99.31:8080", "wire tcp/192.168.99.31:9000"}},
	{name: "ip:host:container", flags: []string{"-p", "127.0.0.1:8080:9000"}, bindings: []string{"9000/tcp 127.0.0.1:8080"},
		reached: []string{"host tcp/127.0.0.1:8080"}, closed: []string{"wire tcp/192.168.99.31:8080", "host tcp/[::1]:8080", "host tcp/127.0.0.2:8080"}},
	{name: "the wire's ip", flags: []string{"-p", "192.168.99.31:8080:9000"}, bindings: []string{"9000/tcp 192.168.99.31:8080"},
		reached: []string{"wire tcp/192.168.99.31:8080", "host tcp/192.168.99.31:8080"}, closed: []string{"host tcp/127.0.0.1:8080", "wire tcp/[fd99::31]:8080"}},
	{name: "ip::container", flags: []string{"-p", "127.0.0.1::9000"}, bindings: []string{"9000/tcp 127.0.0.1:*"}},
	{name: "[ip]:host:container", flags: []string{"-p", "[::1]:8080:9000"}, bindings: []string{"9000/tcp [::1]:8080"},
		reached: []string{"host tcp/[::1]:8080"}, closed: []string{"host tcp/127.0.0.1:8080", "wire tcp/[fd99::31]:8080"}},
	{name: "one of a range", flags: []string{"-p", "8000-8010:9000"}, bindings: []string{on("9000/tcp", "8001")},
		reached: []string{"wire tcp/192.168.99.31:8001"}, closed: []string{"wire tcp/192.168.99.31:8002"}},
	{name: "a range", flags: []string{"-p", "8100-8102:9000-9002"},
		bindings: []string{on("9000/tcp", "8100"), on("9001/tcp", "8101"), on("9002/tcp", "8102")},
		reached:  []string{"wire tcp/192.168.99.31:8100", "wire tcp/192.168.99.31:8102", "host tcp/[::1]:8101"}, closed: []string{"wire tcp/192.168.99.31:8103"}},
	{name: "a range, the same numbers", flags: []string{"-p", "9000-9002:9000-9002"},
		bindings: []string{on("9000/tcp", "9000"), on("9001/tcp", "9001"), on("9002/tcp", "9002")},
		reached:  []string{"wire tcp/192.168.99.31:9000", "wire tcp/192.168.99.31:9002"}},
	{name: "container range", flags: []string{"-p", "9000-9002"}, bindings: []string{on("9000/tcp", "*"), on("9001/tcp", "*"), on("9002/tcp", "*")}},
	{name: "/udp", flags: []string{"-p", "8080:9000/udp"}, bindings: []string{on("9000/udp", "8080")},
		reached: []string{"wire udp/192.168.99.31:8080", "host udp/127.0.0.1:8080", "host udp/[::1]:8080"}, closed: []string{"wire tcp/192.168.99.31:8080"}},
	{name: "tcp and udp", flags: []string{"-p", "8080:9000", "-p", "8080:9000/udp"}, bindings: []string{on("9000/tcp", "8080"), on("9000/udp", "8080")},
		reached: []string{"wire udp/192.168.99.31:8080", "wire tcp/192.168.99.31:8080"}},
	{name: "/sctp", flags: []string{"-p", "8080:9000/sctp"}, bindings: []string{on("9000/sctp", "8080")}, closed: []string{"wire tcp/192.168.99.31:8080"}},
	{name: "twice", flags: []string{"-p", "8080:9000", "-p", "8081:9000"}, bindings: []string{on("9000/tcp", "8080") + " " + fmt.Sprintf(both, "8081")},
		reached: []string{"wire tcp/192.168.99.31:8080", "wire tcp/192.168.99.31:8081"}},
	{name: "--expose", flags: []string{"--expose", "9000"}, bindings: []string{"9000/tcp null"}, closed: []string{"wire tcp/192.168.99.31:9000"}},
	{name: "-P without exposed ports", flags: []string{"-P"}},
	{name: "-P", flags: []string{"-P", "--expose", "9000", "--expose", "9000/udp"}, bindings: []string{on("9000/tcp", "*"), on("9000/udp", "*")}},
	{name: "-P and -p", flags: []string{"-P", "--expose", "9000", "--expose", "9001", "-p", "8080:9000"},
		bindings: []string{on("9000/tcp", "8080"), on("9001/tcp", "*")}, reached: []string{"wire tcp/192.168.99.31:8080"}},
	{name: "long", flags: []string{"-p", "published=8080,target=9000,protocol=udp,mode=host"}, bindings: []string{on("9000/udp", "8080")},
		reached: []string{"wire udp/192.168.99.31:8080"}},
	{name: "long, short of all but target", flags: []string{"-p", "target=9000"}, bindings: []string{on("9000/tcp", "*")}},
}

// TestForms: every way to write -p is shown as Docker shows it, and reached where
// it should be; a port that the engine chose is reached from the host.
func TestForms(t *testing.T) {
	d := daemontest.Shared(t)
	busy := d.Host.Listen("tcp4", "0.0.0.0:8000") // for the range
	t.Cleanup(func() { busy.Close() })
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			d := d.For(t)
			args := append([]string{"run", "-d", "--name", "form"}, f.flags...)
			d.Docker(append(args, "netprobe", "serve", "tcp/:9000", "udp/:9000", "tcp/:9001", "tcp/:9002")...)
			defer d.Docker("rm", "-f", "form")
			listening(t, d, "form")
			shown := bindings(t, d, "form")
			if len(shown) != len(f.bindings) {
				t.Fatalf("Ports are %q, want %q", shown, f.bindings)
			}
			for i, b := range f.bindings {
				pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(b), `\*`, `(\d+)`) + "$"
				m := regexp.MustCompile(pattern).FindStringSubmatch(shown[i])
				if m == nil {
					t.Errorf("%q, want %q", shown[i], b)
					continue
				}
				for _, chosen := range m[1:] {
					if chosen != m[1] {
						t.Errorf("%q: one port of each family, but not the same", shown[i])
					}
				}
				if len(m) > 1 {
					proto := strings.Fields(b)[0][len("9000/"):]
					if a := dial(t, host(d), proto+"/127.0.0.1:"+m[1]); a.Verdict != "answered" {
						t.Errorf("%s: %+v", shown[i], a)
					}
				}
			}
			try := func(targets []string, want bool) {
				for _, tg := range targets {
					where, target, _ := strings.Cut(tg, " ")
					from := host(d)
					if where == "wire" {
						from = machine(d)
					}
					if a := dial(t, from, target); (a.Verdict == "answered") != want || a.Verdict == "timeout" {
						t.Errorf("%s: %+v", tg, a)
					}
				}
			}
			try(f.reached, true)
			try(f.closed, false)
		})
	}
}

// bindings are what inspect shows, one line per container port.
func bindings(t *testing.T, d *daemontest.Daemon, name string) (lines []string) {
	t.Helper()
	var ports map[string][]struct{ HostIP, HostPort string }
	if err := json.Unmarshal([]byte(d.Docker("inspect", "-f", "{{json .NetworkSettings.Ports}}", name)), &ports); err != nil {
		t.Fatal(err)
	}
	for _, p := range sorted(ports) {
		line := p
		if ports[p] == nil {
			line += " null"
		}
		for _, b := range ports[p] {
			line += " " + net.JoinHostPort(b.HostIP, b.HostPort)
		}
		lines = append(lines, line)
	}
	return lines
}
