// Package view tests with a real daemon what people are shown: explain, rules and graph.
// Every command that explain prints is run, and must show what it says it shows; the
// translation into iptables is read by iptables.
package view

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/diagnose/explain"
	"linkspan/diagnose/graph"
	"linkspan/diagnose/rules"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// world is the host that is looked at.
var world = []string{
	"network create shop",
	"network create --internal vault",
	"network create --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 six",
	"network create -o com.docker.network.bridge.enable_icc=false apart",
	"network create -o com.docker.network.bridge.gateway_mode_ipv4=routed --subnet 10.92.0.0/24 routed",
	"network create -o com.docker.network.host_ipv4=" + daemontest.HostAddr + " --subnet 10.93.0.0/24 fixed",
	"run -d --name web -p 8080:9000 -p 127.0.0.1:9090:9000/udp netprobe",
	"run -d --name media --network shop -p 20000-20031:20000-20031 -p 20000-20099:20000-20099/udp -p 127.0.0.1:7000-7009:9000-9009 netprobe",
	"run -d --name db --network shop --network-alias database netprobe",
	"network connect vault db",
	"run -d --name v6 --network six --ip6 fd00:77::10 -p 8081:9000 netprobe",
	"run -d --name first --network apart --expose 9000 netprobe",
	"run -d --name second --network apart --link first:one netprobe",
	"run -d --name open --network routed -p 9300-9500:9300-9500 netprobe",
	"run -d --name mailer --network fixed netprobe",
	"run -d --name agent --network host busybox sleep 600",
	"run -d --name side --network container:web busybox sleep 600",
	"run -d --name lone --network none busybox sleep 600",
	"create --name old --network shop netprobe",
}

// TestView looks at one host in every way.
func TestView(t *testing.T) {
	d := daemontest.Shared(t)
	t.Cleanup(func() {
		d.RemoveAll()
		for _, n := range strings.Fields(d.Docker("network", "ls", "-q", "--filter", "type=custom")) {
			d.Docker("network", "rm", n)
		}
	})
	for _, line := range world {
		d.Docker(strings.Fields(line)...)
	}
	t.Run("every line that shows something", func(t *testing.T) { shows(t, d.For(t)) })
	t.Run("iptables reads the translation", func(t *testing.T) { translation(t, d.For(t)) })
	t.Run("what was dropped is counted", func(t *testing.T) { counters(t, d.For(t)) })
	t.Run("graph", func(t *testing.T) { drawings(t, d.For(t)) })
	t.Run("bad words", func(t *testing.T) { badWords(t, d.For(t)) })
	t.Run("what is missing, and its cure", func(t *testing.T) { missing(t, d.For(t)) })
}

// asked runs a verb whose answer is JSON.
func asked(t *testing.T, d *daemontest.Daemon, code int, v any, args ...string) {
	t.Helper()
	r := d.Linkspan(append(args, "--json")...)
	if r.Code != code {
		t.Fatalf("linkspan %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), v); err != nil {
		t.Fatalf("linkspan %s: %v\n%s", strings.Join(args, " "), err, r.Stdout)
	}
}

func shows(t *testing.T, d *daemontest.Daemon) {
	var subjects []string
	for _, c := range []string{"web", "media", "db", "v6", "first", "second", "open", "mailer", "agent", "side", "lone", "old"} {
		subjects = append(subjects, "container "+c)
	}
	for _, n := range []string{"bridge", "shop", "vault", "six", "apart", "routed", "fixed", "host", "none"} {
		subjects = append(subjects, "network "+n)
	}
	for _, p := range []string{"8080", "9090/udp", "127.0.0.1:9090", "127.0.0.1:7003", "20007/udp", "20007/tcp", "[::]:8081", "9400"} {
		subjects = append(subjects, "port "+p)
	}
	run := map[string]string{} // a line's output
	for _, s := range append(subjects, "host host") {
		kind, name, _ := strings.Cut(s, " ")
		var e explain.Explanation
		asked(t, d, 0, &e, "explain", "--type", kind, name)
		for _, g := range e.Groups {
			for _, it := range g.Items {
				if it.Live != explain.There && it.Key != "" {
					t.Errorf("%s: %s is %q (%s)", s, it.What, it.Live, it.Now)
				}
				all := ""
				for _, line := range it.Show {
					out, done := run[line]
					if !done {
						var err error
						if out, err = d.Host.Try("bash", "-c", line); err != nil {
							t.Errorf("%s: what shows %q does not run: %v", s, it.What, err)
						}
						run[line] = out
					}
					all += out
				}
				for _, want := range it.Finds {
					if !strings.Contains(spaced(all), spaced(want)) {
						t.Errorf("%s: %q is not in what shows %q:\n%s\n%s", s, want, it.What, strings.Join(it.Show, "\n"), all)
					}
				}
			}
		}
	}
	if len(run) < 100 {
		t.Errorf("only %d different lines were shown", len(run))
	}
	if r := d.Linkspan("explain", "web"); r.Code != 0 || !strings.Contains(r.Stdout, "objects, all there.") || !strings.Contains(r.Stdout, "DNAT tcp 8080") {
		t.Errorf("%+v", r)
	}
}

// spaced makes one blank of any.
func spaced(s string) string { return strings.Join(strings.Fields(s), " ") }

// translation: what `--as iptables-save` prints is loaded by iptables-restore, in a host
// of its own, and comes back from iptables as `--as iptables` and iptables-list say.
func translation(t *testing.T, d *daemontest.Daemon) {
	text := func(as string) string {
		r := d.Linkspan("rules", "--as", as)
		if r.Code != 0 || !strings.HasPrefix(r.Stdout, "# A translation: ") {
			t.Fatalf("%+v", r)
		}
		return r.Stdout
	}
	other := lab.New(t).Host("iptables")
	four, six, _ := strings.Cut(text("iptables-save"), "# ip6tables-save")
	for cmd, in := range map[string]string{"iptables-nft-restore": four, "ip6tables-nft-restore": "#" + six} {
		c := other.Command(cmd)
		c.Stdin = strings.NewReader(in)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", cmd, err, out, in)
		}
	}
	var s, l strings.Builder
	for _, x := range []struct{ cmd, table string }{{"iptables", "nat"}, {"iptables", "filter"}, {"iptables", "raw"}, {"ip6tables", "nat"}, {"ip6tables", "filter"}} {
		fmt.Fprintf(&s, "# %s -t %s -S\n%s", x.cmd, x.table, other.Run(x.cmd+"-nft", "-t", x.table, "-S"))
		fmt.Fprintf(&l, "# %s -t %s -nL\n%s", x.cmd, x.table, other.Run(x.cmd+"-nft", "-t", x.table, "-nL"))
	}
	equal(t, "iptables", s.String(), text("iptables"))
	equal(t, "iptables-list", named(l.String()), named(text("iptables-list")))
	for _, want := range []string{"-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "--dport 8080 -j DNAT --to-destination 172.17.0."} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("no %q", want)
		}
	}
}

// equal compares without blank lines and our heading.
func equal(t *testing.T, what, iptables, ours string) {
	t.Helper()
	plain := func(s string) string {
		var out []string
		for l := range strings.Lines(s) {
			if l = strings.TrimRight(l, " \n"); l != "" && !strings.HasPrefix(l, "# A ") && !strings.HasPrefix(l, "# What ") {
				out = append(out, l)
			}
		}
		return strings.Join(out, "\n")
	}
	if a, b := plain(iptables), plain(ours); a != b {
		t.Errorf("%s: iptables and we differ:\n%s", what, lab.Differ(a, b))
	}
}

// named writes protocols by name: versions of iptables differ in whether -n means their
// number as well.
func named(s string) string {
	names := map[string]string{"0": "all", "6": "tcp", "17": "udp", "1": "icmp", "58": "ipv6-icmp"}
	return regexp.MustCompile(`(?m)^(\S+ +)(\d+)( +)--`).ReplaceAllStringFunc(s, func(m string) string {
		f := strings.Fields(m)
		return strings.Replace(m, fmt.Sprintf(" %-4s ", f[1]), fmt.Sprintf(" %-4s ", names[f[1]]), 1)
	})
}

// counters: a packet that the page drops is counted by the rule that dropped it.
func counters(t *testing.T, d *daemontest.Daemon) {
	addr := d.Docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
	d.Machine.Run("ip", "route", "add", "172.17.0.0/16", "via", daemontest.HostAddr)
	t.Cleanup(func() { d.Machine.Run("ip", "route", "del", "172.17.0.0/16") })
	var before uint64
	count := func() (n uint64) {
		var p rules.Page
		asked(t, d, 0, &p, "rules")
		for _, c := range p.Chains {
			if c.Drop == nil || c.Drop.Name != "unpublished" {
				continue
			}
			for _, r := range c.Rules {
				n += r.Packets
			}
		}
		return n
	}
	before = count()
	d.Until(15*time.Second, "the drop is counted", func() bool {
		_, _ = d.Machine.Try("timeout", "0.2", "bash", "-c", "exec 3<>/dev/tcp/"+addr+"/9000")
		return count() > before
	})
	if r := d.Linkspan("rules"); r.Code != 0 || !regexp.MustCompile(`tcp \. 8080 : `+regexp.QuoteMeta(addr)+` \. 9000 +web\n`).MatchString(r.Stdout) {
		t.Errorf("%+v", r)
	}
}

func drawings(t *testing.T, d *daemontest.Daemon) {
	var g graph.Graph
	asked(t, d, 0, &g, "graph")
	if len(g.Containers) != 12 || len(g.Networks) != 9 || !slices.ContainsFunc(g.Host.Uplinks, func(u graph.Uplink) bool { return u.Name == "wan0" && u.State == "up" }) {
		t.Errorf("%+v", g)
	}
	for _, c := range g.Containers {
		for _, e := range c.Endpoints {
			if e.HostIf != "" && e.State != "up" {
				t.Errorf("%s: %s is %q", c.Name, e.HostIf, e.State)
			}
		}
	}
	for _, u := range g.Host.Uplinks {
		if strings.HasPrefix(u.Name, "veth") || u.Name == "docker0" {
			t.Errorf("%s is ours, and no uplink", u.Name)
		}
	}
	for format, want := range map[string][]string{
		"tree": {"├─ wan0", "network vault", "(internal)", "8080/tcp → 9000", "shares its network stack: side", "old  created"},
		"dot":  {"graph linkspan {", "cluster_host"},
		"svg":  {"<svg ", "</svg>", `class="ls-port"`},
		"json": {`"networks"`},
	} {
		r := d.Linkspan("graph", "--format", format)
		for _, w := range want {
			if r.Code != 0 || !strings.Contains(r.Stdout, w) {
				t.Errorf("%s: no %q: %+v", format, w, r)
			}
		}
		again := d.Linkspan("graph", "--format", format)
		if again.Stdout != r.Stdout {
			t.Errorf("%s: the same host, another picture:\n%s", format, lab.Differ(r.Stdout, again.Stdout))
		}
		if format != "svg" {
			continue
		}
		for dec := xml.NewDecoder(strings.NewReader(r.Stdout)); ; {
			if _, err := dec.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("the SVG is not well-formed: %v", err)
			}
		}
	}
}

func badWords(t *testing.T, d *daemontest.Daemon) {
	for _, c := range []struct{ line, words string }{
		{"explain wbe", "did you mean web?"},
		{"explain 8082", "published by no running container"},
		{"explain 9090/tcp", "127.0.0.1:9090/udp of container web"},
		{"explain 127.0.0.1:x", "is no port"},
		{"explain --type planet web", `no kind "planet"`},
		{"explain", "something is missing"},
		{"explain web db", "at most 1"},
		{"rules --as ebtables", "say iptables"},
		{"graph --format png", "say one of tree, dot, svg, json"},
		{"graph web", "takes no argument"},
		{"-H unix:///nowhere/linkspan.sock graph", ""},
		{"graph -H unix:///nowhere/linkspan.sock", "linkspan daemon"},
	} {
		if r := d.Linkspan(strings.Fields(c.line)...); r.Code != 1 && c.words != "" || !strings.Contains(r.Stderr, c.words) {
			t.Errorf("linkspan %s: %+v, want %q", c.line, r, c.words)
		}
	}
	for word, title := range map[string]string{"docker0": "network bridge: ", "10.93.0.2": "container mailer: ", "10.77.0.1": "network six: "} {
		if r := d.Linkspan("explain", word); r.Code != 0 || !strings.HasPrefix(r.Stdout, title) {
			t.Errorf("%s: %+v", word, r)
		}
	}
	r := d.Linkspan("explain", "old")
	if r.Code != 0 || !strings.Contains(r.Stdout, "linkspan start old") {
		t.Errorf("%+v", r)
	}
}

// missing: what somebody took away inside a container is told, with what puts it back.
func missing(t *testing.T, d *daemontest.Daemon) {
	pid := d.Docker("inspect", "-f", "{{.State.Pid}}", "mailer")
	d.Host.Run("nsenter", "--net=/proc/"+pid+"/ns/net", "ip", "route", "del", "default")
	var e explain.Explanation
	asked(t, d, 2, &e, "explain", "mailer")
	cure := ""
	for _, g := range e.Groups {
		for _, it := range g.Items {
			if it.Live == explain.Missing {
				cure = it.Cure
			}
		}
	}
	if e.Missing != 1 || !strings.Contains(cure, "route add default") {
		t.Fatalf("%d missing, cure %q", e.Missing, cure)
	}
	d.Host.Run("bash", "-c", cure)
	asked(t, d, 0, &e, "explain", "mailer")
	if r := d.Linkspan("explain", "mailer"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
}
