// Package crash kills the daemon between each pair of steps of what a person
// asks of it, starts another, and looks whether anyone noticed. Every test has a host of
// its own: all are parallel.
package crash

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// victim is a daemon that can be told where to die.
type victim struct {
	*daemontest.Daemon
	t          *testing.T
	armed, log string
	ready      *death // where the running daemon dies when it is armed
	// seen are kinds of points at which it has died in other stories; nil: it dies
	// there again.
	seen *kindsMet
	// peers are network stacks of bystanders on networks, by their name.
	peers map[string]string
}

func start(t *testing.T) *victim {
	dir := t.TempDir()
	v := &victim{t: t, ready: &death{}, armed: filepath.Join(dir, "armed"), log: filepath.Join(dir, "points")}
	v.Daemon = daemontest.Start(t, daemontest.Options{Env: []string{"LINKSPAN_FAIL_LOG=" + v.log, "LINKSPAN_FAIL_ARMED=" + v.armed}})
	v.Docker("pull", "-q", "netprobe")
	v.Docker("pull", "-q", "busybox")
	return v
}

// in is the same daemon in a subtest.
func (v *victim) in(t *testing.T) *victim {
	return &victim{Daemon: v.Daemon.For(t), t: t, armed: v.armed, log: v.log, ready: v.ready, peers: v.peers}
}

// arm counts points from now on; disarm tells which were passed.
func (v *victim) arm() {
	v.t.Helper()
	_ = os.Remove(v.log)
	if err := os.WriteFile(v.armed, nil, 0o600); err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) disarm() []string {
	v.t.Helper()
	if err := os.Remove(v.armed); err != nil {
		v.t.Fatal(err)
	}
	b, err := os.ReadFile(v.log)
	if err != nil {
		v.t.Fatalf("no point was passed: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// dead says whether the daemon has killed itself.
func (v *victim) dead() bool {
	pid := v.PID()
	if pid == 0 {
		return true
	}
	// A zombie still takes signals; its state tells.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if strings.HasPrefix(rest, "Z") {
		return true
	}
	return unix.Kill(pid, 0) != nil
}

// dies waits a moment for an armed daemon's death: what it does behind its answer may
// lead there, or it goes another way this time and does not die.
func (v *victim) dies() {
	for deadline := time.Now().Add(3 * time.Second); !v.dead() && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
}

// kinds turn what differs from run to run in a point into a word, and that back
// into a pattern.
var kinds = []struct{ varies, word, pattern string }{
	{`/\S*/netns/[0-9a-f]{12}`, "PIN", `/\S*/netns/[0-9a-f]{12}`},
	{`\bbr-[0-9a-f]{12}\b`, "BRIDGE", `br-[0-9a-f]{12}`},
	{`\b[0-9a-f]{12}:`, "INSIDE:", `[0-9a-f]{12}:`},
	{`\bveth[0-9a-f]{7}\b`, "VETH", `veth[0-9a-f]{7}`},
	{`linkspan_[0-9a-f]{6}`, "TABLE", `linkspan_[0-9a-f]{6}`},
	{`[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/`, "ADDR/", `[0-9.]+/`},
}

// kind is a point without what differs from run to run.
func kind(point string) string {
	if strings.Contains(point, " element ") {
		point, _, _ = strings.Cut(point, " {")
	}
	for _, k := range kinds {
		point = regexp.MustCompile(k.varies).ReplaceAllString(point, k.word)
	}
	return point
}

// pattern finds the points of a kind.
func pattern(kind string) string {
	kind = regexp.QuoteMeta(kind)
	for _, k := range kinds {
		kind = strings.ReplaceAll(kind, k.word, k.pattern)
	}
	return kind
}

// TestKind: pattern is kind, backwards.
func TestKind(t *testing.T) {
	for point, want := range map[string]string{
		"store.containers.before":                                             "store.containers.before",
		"before create netns /tmp/lsd1/x/netns/04905f13ba5b":                  "before create netns PIN",
		"between create and alias link vethe3a73f8":                           "between create and alias link VETH",
		"after create sysctl 04905f13ba5b:net/ipv4/ping_group_range":          "after create sysctl INSIDE:net/ipv4/ping_group_range",
		"before create addr 04905f13ba5b:eth0 172.17.0.2/16":                  "before create addr INSIDE:eth0 ADDR/16",
		`before create element inet linkspan_cfb010 publish4_any { tcp . 1 }`: "before create element inet TABLE publish4_any",
	} {
		if got := kind(point); got != want {
			t.Errorf("%q is of kind %q, want %q", point, got, want)
		}
		if !regexp.MustCompile("^" + pattern(want)).MatchString(point) {
			t.Errorf("pattern %q does not find %q", pattern(want), point)
		}
	}
}

// talk is a connection through a published port that must live through
// everything.
type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	n    int
}

// converse opens one from the other machine to netprobe on a host port.
func (v *victim) converse(port uint16) *talk {
	v.t.Helper()
	var conn net.Conn
	addr := netip.AddrPortFrom(netip.MustParseAddr(daemontest.HostAddr), port).String()
	v.Until(10*time.Second, addr+" answers", func() (ok bool) {
		var err error
		conn, err = v.Machine.Dial("tcp", addr, 5*time.Second)
		return err == nil
	})
	c := &talk{t: v.t, conn: conn, in: bufio.NewReader(conn)}
	v.t.Cleanup(func() { conn.Close() })
	c.line("src=")
	return c
}

func (c *talk) line(want string) {
	c.t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(lab.Patience))
	got, err := c.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(got, want) {
		c.t.Fatalf("the long-lived connection got %q, %v; want %q", got, err, want)
	}
}

// on says something and hears it back.
func (c *talk) on() {
	c.t.Helper()
	c.n++
	_ = c.conn.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := fmt.Fprintf(c.conn, "still there %d\n", c.n); err != nil {
		c.t.Fatalf("the long-lived connection broke: %v", err)
	}
	c.line(fmt.Sprintf("still there %d\n", c.n))
}

// answers says whether a published port is served by netprobe.
func (v *victim) answers(port uint16) bool {
	conn, err := v.Machine.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(daemontest.HostAddr), port).String(), 10*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "src="+daemontest.MachineAddr)
}

// kernel is what a container that is merely created must not have: a line for
// each thing.
func (v *victim) kernel() string {
	v.t.Helper()
	var out []string
	for _, w := range v.Watches() {
		if w.Name != "pinned namespaces" && w.Name != "containerd tasks" && (!strings.HasPrefix(w.Name, "host ") || strings.HasSuffix(w.Name, "processes")) {
			continue
		}
		lines, err := w.List()
		if err != nil {
			v.t.Fatalf("%s: %v", w.Name, err)
		}
		for _, l := range lines {
			out = append(out, w.Name+": "+l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
