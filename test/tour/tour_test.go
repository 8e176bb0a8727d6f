// Package tour replays the README's tour: the scripts in testdata are what a new
// user types, with what must come out of it, against a real daemon, real servers and
// real clients.
package tour

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// patience bounds what a script waits for: a database that is initialized on a
// busy machine.
const patience = 2 * lab.Patience

func TestTour(t *testing.T) {
	p := testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host":    on(func(d *daemontest.Daemon) string { return d.Host.NS }),
			"machine": on(func(d *daemontest.Daemon) string { return d.Machine.NS }),
			"until":   until,
			"capture": capture,
		},
		Setup: func(e *testscript.Env) error {
			d := e.T().(runner).daemon
			e.Values[daemonKey{}] = d
			for _, v := range d.Env() {
				if strings.HasPrefix(v, "DOCKER_") {
					e.Vars = append(e.Vars, v)
				}
			}
			// The folder that the README calls /data, and no proxy between clients
			// and servers.
			e.Vars = append(e.Vars, "PATH="+filepath.Dir(daemontest.Binary(e.T().(runner)))+":"+os.Getenv("PATH"), "DATA="+filepath.Join(e.WorkDir, "data"), "HOST="+daemontest.HostAddr,
				"MACHINE="+daemontest.MachineAddr, "PGPASSWORD=123456", "PGCONNECT_TIMEOUT=60", "no_proxy=*", "TERM=xterm")
			return nil
		},
	}
	if deadline, ok := t.Deadline(); ok {
		p.Deadline = deadline
	}
	testscript.RunT(runner{T: t}, p)
}

type daemonKey struct{}

// runner runs the scripts one after the other, each on the daemon as it found
// it and with its own leak check.
type runner struct {
	*testing.T
	daemon *daemontest.Daemon
}

func (r runner) Parallel()     {}
func (r runner) Verbose() bool { return testing.Verbose() }
func (r runner) Run(name string, f func(testscript.T)) {
	r.T.Run(name, func(t *testing.T) { f(runner{t, daemontest.Shared(t)}) })
}

// on makes `host CMD…` and `machine CMD…`: a command as typed on that machine.
// What it prints is for stdout and stderr.
func on(ns func(*daemontest.Daemon) string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) == 0 {
			ts.Fatalf("usage: host|machine command…")
		}
		d := ts.Value(daemonKey{}).(*daemontest.Daemon)
		err := ts.Exec("nsenter", append([]string{"--net=" + ns(d), "--"}, args...)...)
		switch {
		case neg && err == nil:
			ts.Fatalf("it succeeded")
		case !neg && err != nil:
			ts.Fatalf("%v", err)
		}
	}
}

// until is `until host CMD…`: repeated until it succeeds.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until host|machine command…")
	}
	d := ts.Value(daemonKey{}).(*daemontest.Daemon)
	ns := map[string]string{"host": d.Host.NS, "machine": d.Machine.NS}[args[0]]
	if ns == "" {
		ts.Fatalf("until knows host and machine, not %q", args[0])
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec("nsenter", append([]string{"--net=" + ns, "--"}, args[1:]...)...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %v", patience, err)
		}
	}
}

// capture is `capture NAME regexp`: the first group found in stdout becomes a
// variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME regexp")
	}
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("stdout has no %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// TestREADME holds the tour in the README to the scripts: every command there, in
// that order, is replayed by them.
func TestREADME(t *testing.T) {
	typed, err := scripts()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		told, err := commands(filepath.Join(daemontest.Root(), name))
		if err != nil {
			t.Fatal(err)
		}
		if len(told) < 15 {
			t.Errorf("%s: only %d commands in its tour", name, len(told))
		}
		at := 0
		for _, c := range told {
			i := slices.Index(typed[at:], c)
			if i < 0 {
				t.Errorf("%s: %q is not in the tour's scripts after %q", name, c, typed[max(at-1, 0)])
				continue
			}
			at += i + 1
		}
	}
}

// scripts returns what is typed in all scripts: "host docker ps".
func scripts() (typed []string, err error) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no scripts: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(string(b)) {
			l = strings.TrimPrefix(strings.TrimPrefix(words(l), "! "), "until ")
			if strings.HasPrefix(l, "host ") || strings.HasPrefix(l, "machine ") {
				typed = append(typed, strings.NewReplacer("$DATA", "/data", "$HOST", daemontest.HostAddr, "$MACHINE", daemontest.MachineAddr).Replace(l))
			}
		}
	}
	return typed, nil
}

// commands returns what is typed in the tour of a README: lines that start with
// "$ " or, on another machine, with "machine$ ".
func commands(file string) (told []string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, tour, ok := strings.Cut(string(b), "<!-- tour -->")
	tour, _, end := strings.Cut(tour, "<!-- end of tour -->")
	if !ok || !end {
		return nil, fmt.Errorf("%s has no tour", file)
	}
	for l := range strings.Lines(tour) {
		l, _, _ := strings.Cut(l, "   #") // a remark
		if c, ok := strings.CutPrefix(l, "$ "); ok {
			told = append(told, "host "+words(c))
		} else if c, ok := strings.CutPrefix(l, "machine$ "); ok {
			told = append(told, "machine "+words(c))
		}
	}
	return told, nil
}

func words(s string) string { return strings.Join(strings.Fields(s), " ") }
