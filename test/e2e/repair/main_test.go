// Package repair proves, with the real docker command on a real daemon, that whatever
// somebody else changes of Linkspan's kernel objects is put right by itself, told, and
// that what goes on meanwhile goes on.
package repair

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// world is a daemon with a container, as one test sees it.
type world struct {
	*daemontest.Daemon
	t *testing.T
	// table and veth are the names in the kernel, and inside is web's namespace.
	table, veth, inside string
	whole               string
}

// patience bounds how long a repair may take here: news can be lost, and then the full
// check finds it, within a minute or so. How quick it is, bench measures.
const patience = 3 * lab.Patience

// peace between two damages: who does more than one a second is a fight (network.fightSoon),
// and left alone, for longer each time.
const peace = 1200 * time.Millisecond

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Daemon: daemontest.Shared(t), t: t}
	logged := len(w.Log())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", w.Log()[logged:])
		}
	})
	w.Docker("run", "-d", "--name", "web", "-p", "8080:9000", "netprobe")
	w.Docker("run", "-d", "--name", "other", "-p", "127.0.0.1:9090:9000/udp", "busybox", "sleep", "1000")
	w.Reached(8080)
	w.learn()
	return w
}

// learn looks up the names.
func (w *world) learn() {
	w.t.Helper()
	w.whole = w.Still()
	w.table = regexp.MustCompile(`linkspan_[0-9a-f]{6}\b`).FindString(w.whole)
	var r []struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ EndpointID string }
		}
	}
	if err := json.Unmarshal([]byte(w.Docker("inspect", "web")), &r); err != nil || len(r) != 1 {
		w.t.Fatal(err)
	}
	w.veth = "veth" + r[0].NetworkSettings.Networks["bridge"].EndpointID[:7]
	w.inside = fmt.Sprintf("/proc/%d/ns/net", r[0].State.Pid)
}

// named puts the names into a command line.
func (w *world) named(line string) string {
	return strings.NewReplacer("TABLE", w.table, "VETH", w.veth, "INSIDE", "nsenter --net="+w.inside).Replace(line)
}

// repairs are the events of repairs since a time, as docker tells them.
func (w *world) repairs(since time.Time) []event {
	w.t.Helper()
	out := w.Docker("events", "--since", stamp(since), "--until", stamp(time.Now()), "--filter", "event=repair", "--format", "{{json .}}")
	var all []event
	for l := range strings.Lines(out) {
		var e event
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			w.t.Fatalf("%v: %s", err, l)
		}
		all = append(all, e)
	}
	return all
}

type event struct {
	Type  string
	Actor struct {
		ID         string
		Attributes map[string]string
	}
}

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// linkspan runs the binary under test with the daemon as its host.
func (w *world) linkspan(args ...string) (out string, code int) {
	w.t.Helper()
	cmd := exec.Command(daemontest.Binary(w.t), args...)
	cmd.Env = w.Env()
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}
