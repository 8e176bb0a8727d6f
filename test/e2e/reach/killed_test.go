package reach

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestKilledConnecting: the daemon dies at every point of connecting a running
// container to a second network, and of disconnecting it. The next one brings kernel and
// definition to the same answer, before or after, and the container's first network
// works all the time.
func TestKilledConnecting(t *testing.T) {
	dir := t.TempDir()
	armed, log := filepath.Join(dir, "armed"), filepath.Join(dir, "points")
	d := daemontest.Start(t, daemontest.Options{Env: []string{"LINKSPAN_FAIL_ARMED=" + armed, "LINKSPAN_FAIL_LOG=" + log}})
	t.Cleanup(d.RemoveAll)
	d.Docker("network", "create", "one")
	d.Docker("network", "create", "two")
	web := serve(t, d, "web", "--network", "one", "-p", "8080:80", "-p", "8080:80/udp")
	first := serve(t, d, "first", "--network", "one")
	serve(t, d, "second", "--network", "two")
	arm := func(on bool) {
		t.Helper()
		err := os.Remove(armed)
		if on {
			_ = os.Remove(log)
			err = os.WriteFile(armed, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	state := func() (defined, real bool) {
		t.Helper()
		nets := d.Docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", "web")
		links := web.must(t, "ip", "-o", "addr")
		return strings.Contains(nets, `"two":`), strings.Contains(links, " eth1    inet ")
	}
	check := func(when string) {
		t.Helper()
		defined, real := state()
		// What the dead one had doomed is deleted beside the next one's work, not before it.
		for end := time.Now().Add(lab.Patience); real != defined && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
			defined, real = state()
		}
		if defined != real {
			t.Errorf("%s: defined %v, in the kernel %v\n%s", when, defined, real, web.must(t, "ip", "addr"))
		}
		reached := []way{{first, address(d, "web", "one"), 90, open}, {machine(d), daemontest.HostAddr, 8080, open}, {web, address(d, "first", "one"), 90, open}}
		if defined {
			reached = append(reached, way{web, address(d, "second", "two"), 80, address(d, "web", "two")})
		}
		ways(t, when, reached...)
		if out := web.must(t, "ip", "route"); strings.Count(out, "default") != 1 {
			t.Errorf("%s: routes\n%s", when, out)
		}
	}
	for _, verb := range []string{"connect", "disconnect"} {
		undo := map[string]string{"connect": "disconnect", "disconnect": "connect"}[verb]
		if verb == "disconnect" {
			d.Docker("network", "connect", "two", "web")
		}
		// Once through, to learn the points.
		arm(true)
		d.Docker("network", verb, "two", "web")
		arm(false)
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatalf("no point was passed: %v", err)
		}
		points := strings.Count(string(b), "\n")
		d.Docker("network", undo, "two", "web")
		step := max(1, points/8)
		t.Logf("%s passes %d points", verb, points)
		for n := 1; n <= points; n += step {
			d.Restart("LINKSPAN_FAIL_AT=.", "LINKSPAN_FAIL_NTH="+strconv.Itoa(n))
			arm(true)
			d.TryDocker("network", verb, "two", "web")
			at, _ := os.ReadFile(log)
			lines := strings.Split(strings.TrimSpace(string(at)), "\n")
			// It passes fewer points when what it does beside the request has no work.
			for end := time.Now().Add(3 * time.Second); !ended(d) && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond)
			}
			arm(false)
			if ended(d) {
				_ = d.Wait(lab.Patience)
			} else {
				t.Logf("%s passed no point %d this time", verb, n)
				d.Stop()
			}
			d.Run()
			check(verb + ", killed " + lines[len(lines)-1])
			if defined, _ := state(); defined == (verb == "connect") {
				d.Docker("network", undo, "two", "web")
			}
		}
		if defined, _ := state(); defined {
			d.Docker("network", "disconnect", "two", "web")
		}
	}
}

// ended says whether the daemon has killed itself: it is nobody yet who was waited for.
func ended(d *daemontest.Daemon) bool {
	return lab.Buried(d.PID())
}
