package core

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestReconcile: whatever a person took away comes back, and the published port
// works again.
func TestReconcile(t *testing.T) {
	// A daemon that repairs by itself (test/e2e/repair) would leave nothing to do.
	w := core(t, daemontest.Start(t, daemontest.Options{Args: []string{"--repair=false"}}))
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
	w.Docker("run", "-d", "--name", "other", "-p", "127.0.0.1:9090:9000/udp", "busybox", "sleep", "1000")
	w.Reached(8080)
	whole := w.Still()
	table := regexp.MustCompile(`linkspan_[0-9a-f]{6}`).FindString(whole)
	veth := func() string {
		t.Helper()
		var r []struct{ NetworkSettings struct{ EndpointID string } }
		if err := json.Unmarshal([]byte(w.Docker("inspect", "web")), &r); err != nil || len(r) != 1 {
			t.Fatal(err)
		}
		return "veth" + r[0].NetworkSettings.EndpointID[:7]
	}()
	for _, c := range []struct{ name, line string }{
		{"the whole ruleset", "nft flush ruleset"},
		{"our table", "nft delete table inet " + table},
		{"a chain's rules", "nft flush chain inet " + table + " publish"},
		{"all rules of our table", "nft flush table inet " + table},
		{"a map's elements", "nft flush map inet " + table + " publish4_any"},
		{"the wire", "ip link del " + veth},
		{"the wire's master", "ip link set " + veth + " nomaster"},
		{"the wire, down", "ip link set " + veth + " down"},
		{"the bridge's address", "ip addr del 172.17.0.1/16 dev docker0"},
		{"the bridge, down", "ip link set docker0 down"},
		{"the bridge", "ip link del docker0"},
		{"the bridge's MTU", "ip link set docker0 mtu 1300"},
		{"forwarding", "sysctl -qw net.ipv4.ip_forward=0"},
		{"route_localnet", "sysctl -qw net.ipv4.conf.docker0.route_localnet=0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := core(t, w.For(t))
			w.Host.Run(strings.Fields(c.line)...)
			dry, errs, code := w.linkspan("reconcile", "--dry-run")
			if code != 2 || !strings.Contains(dry, "nothing was changed (dry run)") {
				t.Errorf("dry run: exit code %d\n%s%s", code, dry, errs)
			}
			w.reconciled()
			w.Settled("not as before", whole)
			w.Reached(8080)
			if out := w.Host.Run("sysctl", "-n", "net.ipv4.ip_forward"); strings.TrimSpace(out) != "1" {
				t.Error("the host does not forward")
			}
		})
	}
	t.Run("a restart repairs too", func(t *testing.T) {
		w := core(t, w.For(t))
		w.Host.Run("nft", "flush", "ruleset")
		w.Host.Run("ip", "link", "del", veth)
		w.Restart()
		w.Settled("not as before", whole)
		w.Reached(8080)
	})
	t.Run("inside a sandbox", func(t *testing.T) {
		w := core(t, w.For(t))
		pid := w.pid("web")
		in := func(args ...string) {
			w.Host.Run(append([]string{"nsenter", "--net=/proc/" + pid + "/ns/net", "ip"}, args...)...)
		}
		in("route", "del", "default")
		in("addr", "add", "10.9.9.9/32", "dev", "eth0")
		out := w.linkspanOut(t, "reconcile")
		if !strings.Contains(out, "changed by someone inside a sandbox, left alone: route") {
			t.Errorf("not told:\n%s", out)
		}
		if out := w.Host.Run("nsenter", "--net=/proc/"+pid+"/ns/net", "ip", "route"); strings.Contains(out, "default") {
			t.Errorf("undone: %s", out)
		}
		in("route", "add", "default", "via", "172.17.0.1")
		in("addr", "del", "10.9.9.9/32", "dev", "eth0")
		w.Reached(8080)
	})
}

func (w *world) linkspanOut(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := w.linkspan(args...)
	if code != 0 {
		t.Fatalf("linkspan %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// TestPlan: a plan makes nothing, and says exactly what a run then makes.
func TestPlan(t *testing.T) {
	dir := t.TempDir()
	log, armed := filepath.Join(dir, "points"), filepath.Join(dir, "armed")
	w := core(t, daemontest.Start(t, daemontest.Options{Env: []string{"LINKSPAN_FAIL_LOG=" + log, "LINKSPAN_FAIL_ARMED=" + armed}}))
	w.Docker("pull", "-q", "netprobe")
	before := w.Still()
	text := w.linkspanOut(t, "plan", "run", "--name", "web", "-p", "8080:9000", "-p", "127.0.0.1:8081:9001/udp", "netprobe")
	plan, err := w.admin().Plan(t.Context(), "web", []byte(`{"Image":"netprobe","ExposedPorts":{"9000/tcp":{},"9001/udp":{}},
		"HostConfig":{"PortBindings":{"9000/tcp":[{"HostPort":"8080"}],"9001/udp":[{"HostIp":"127.0.0.1","HostPort":"8081"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	w.Settled("the plan made something", before)
	if out := w.Docker("ps", "-aq"); out != "" {
		t.Errorf("the plan made a container: %s", out)
	}
	var planned []string
	for _, o := range plan.Objects {
		planned = append(planned, nameless(o.Key))
		for _, c := range o.Commands {
			if !strings.Contains(nameless(text), nameless(c)) {
				t.Errorf("the command line does not say %q:\n%s", c, text)
			}
		}
		if !strings.Contains(text, "# "+o.Reason) {
			t.Errorf("the command line does not say why: %q", o.Reason)
		}
	}
	if err := os.WriteFile(armed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "-p", "127.0.0.1:8081:9001/udp", "netprobe")
	_ = os.Remove(armed)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for l := range strings.Lines(string(b)) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(l), "after create "); ok {
			made = append(made, nameless(key))
		}
	}
	slices.Sort(planned)
	slices.Sort(made)
	if len(planned) < 10 || !slices.Equal(planned, made) {
		t.Errorf("planned and made differ:\n%s", lab.Differ(strings.Join(planned, "\n"), strings.Join(made, "\n")))
	}
	for name, args := range map[string][]string{
		"8080":             {"run", "-p", "8080:1", "netprobe"}, // held by web now
		"No such image":    {"run", "absent"},
		"not found":        {"run", "--net=shop", "netprobe"},
		"what would be pl": {"ps"},
	} {
		if out, errs, code := w.linkspan(append([]string{"plan"}, args...)...); code == 0 || !strings.Contains(errs, name) {
			t.Errorf("plan %v: exit code %d, %q %q, want %q", args, code, out, errs, name)
		}
	}
}

// nameless is a key or a command without what is rolled anew for each container.
func nameless(s string) string {
	s = regexp.MustCompile(`\bveth[0-9a-f]{7}\b`).ReplaceAllString(s, "VETH")
	return regexp.MustCompile(`(netns/|\b)[0-9a-f]{12}\b`).ReplaceAllString(s, "${1}SANDBOX")
}
