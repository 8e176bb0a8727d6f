// Package networks tells, as scripts, what people type: networks made and used with
// the real docker command on a fresh daemon each. A script is testdata/*.txtar.
package networks

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/test/e2e/clients/program"
)

var only = flag.String("story", "", "run the scripts whose name has this in it")

// TestStories runs every script on a host, a machine beside it and a daemon of its own.
// Besides testscript's commands there are:
//
//	daemon [FLAG...]             stop the daemon, start it with these flags
//	nodaemon | kill9 | up        stop it; kill it; start it again
//	on host|machine CMD...       run a command there; its output is what stdout matches
//	serve host|machine CMD...    run one until the script ends
//	until SECONDS REGEXP CMD...  run a command again until it succeeds and prints a match
//	let NAME CMD...              what a command prints becomes $NAME
//
// CMD "docker" is the docker command in all of them, and "netprobe" the image's program.
func TestStories(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txtar")
		if !strings.Contains(name, *only) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each in a world of its own
			s := &story{d: daemontest.Start(t, daemontest.Options{}), docker: program.Docker28(t), netprobe: daemontest.Netprobe(t)}
			lab.LeakCheck(t, lasting(s.d)...)
			t.Cleanup(s.d.RemoveAll)
			testscript.RunT(runner{t}, testscript.Params{
				Files: []string{f}, RequireExplicitExec: true, ContinueOnError: true, Setup: s.setup,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"daemon": s.daemon, "nodaemon": s.nodaemon, "kill9": s.kill9, "up": s.up,
					"on": s.on, "serve": s.serve, "until": s.until, "let": s.let, "docker": s.dockerCmd,
				},
			})
		})
	}
}

// runner runs a story's script as a part of it: testscript's own is parallel to what
// else is parallel, which would leave a story's place to the next when its daemon stands.
type runner struct{ *testing.T }

func (r runner) Parallel()     {}
func (r runner) Verbose() bool { return testing.Verbose() }
func (r runner) Run(name string, f func(testscript.T)) {
	r.T.Run(name, func(t *testing.T) { f(runner{t}) })
}

// lasting leaves out the guard that comes with the first IPv6 network and stays until
// uninstall: where we turned forwarding on, our table closes it between others.
func lasting(d *daemontest.Daemon) []lab.Watch {
	ws := d.Lasting()
	for i, w := range ws {
		ws[i].List = func() ([]string, error) {
			lines, err := w.List()
			return slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "elements = { ipv4 : goto drop_not_forwarded") }), err
		}
	}
	return ws
}

// story is one script's world.
type story struct {
	d                *daemontest.Daemon
	docker, netprobe string
	path             string // PATH=…, with both
}

func (s *story) setup(e *testscript.Env) error {
	bin := filepath.Join(e.WorkDir, ".bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for name, path := range map[string]string{"docker": s.docker, "netprobe": s.netprobe} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	s.path = "PATH=" + bin + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
	for _, v := range s.d.Env() {
		if strings.HasPrefix(v, "DOCKER_") {
			e.Vars = append(e.Vars, v)
		}
	}
	e.Setenv("PATH", strings.TrimPrefix(s.path, "PATH="))
	e.Setenv("HOST", daemontest.HostAddr)
	e.Setenv("MACHINE", daemontest.MachineAddr)
	e.Setenv("HOST6", daemontest.HostAddr6)
	e.Setenv("MACHINE6", daemontest.MachineAddr6)
	return nil
}

// daemon is what `linkspan daemon FLAGS` does on a host that has had another life
// with these roots.
func (s *story) daemon(ts *testscript.TestScript, neg bool, args []string) {
	s.d.Stop()
	var flags []string // TryRun wants a flag and its value in one word
	for _, a := range args {
		if n := len(flags); n > 0 && !strings.HasPrefix(a, "-") && !strings.Contains(flags[n-1], "=") {
			flags[n-1] += "=" + a
			continue
		}
		flags = append(flags, a)
	}
	err := s.d.TryRun(flags...)
	switch {
	case neg && err == nil:
		ts.Fatalf("the daemon starts")
	case !neg && err != nil:
		ts.Fatalf("the daemon does not start: %v\n%s", err, s.d.Log())
	}
}

func (s *story) nodaemon(*testscript.TestScript, bool, []string) { s.d.Stop() }
func (s *story) kill9(*testscript.TestScript, bool, []string)    { s.d.Kill9() }

func (s *story) up(ts *testscript.TestScript, neg bool, args []string) { s.daemon(ts, neg, args) }

func (s *story) host(ts *testscript.TestScript, name string) *lab.Host {
	switch name {
	case "host":
		return s.d.Host
	case "machine":
		return s.d.Machine
	}
	ts.Fatalf("there is a host and a machine, and no %q", name)
	return nil
}

func (s *story) on(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: on host|machine CMD...")
	}
	s.exec(ts, neg, s.enter(ts, args))
}

func (s *story) enter(ts *testscript.TestScript, args []string) []string {
	return append([]string{"nsenter", "--net=" + s.host(ts, args[0]).NS, "--"}, args[1:]...)
}

func (s *story) dockerCmd(ts *testscript.TestScript, neg bool, args []string) {
	s.exec(ts, neg, append([]string{"docker"}, args...))
}

// exec leaves the output to testscript's stdout and stderr.
func (s *story) exec(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	switch {
	case neg && err == nil:
		ts.Fatalf("%s: succeeded", strings.Join(args, " "))
	case !neg && err != nil:
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

func (s *story) serve(ts *testscript.TestScript, _ bool, args []string) {
	s.host(ts, args[0]).Start(args[1:], func(c *exec.Cmd) { c.Dir = ts.MkAbs(".") })
}

// command is CMD: with on's places.
func (s *story) command(ts *testscript.TestScript, args []string) []string {
	if args[0] == "on" {
		return s.enter(ts, args[1:])
	}
	return args
}

func (s *story) try(ts *testscript.TestScript, args []string) (string, error) {
	path := args[0]
	if path == "docker" {
		path = s.docker
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(s.d.Env(), s.path)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *story) until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: until SECONDS REGEXP CMD...")
	}
	seconds, err := strconv.Atoi(args[0])
	ts.Check(err)
	want, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	cmd := s.command(ts, args[2:])
	for deadline := time.Now().Add(max(time.Duration(seconds)*time.Second, lab.Patience)); ; time.Sleep(50 * time.Millisecond) {
		out, err := s.try(ts, cmd)
		if neg && err != nil || !neg && err == nil && want.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: after %d s still %v\n%s", strings.Join(cmd, " "), seconds, err, out)
		}
	}
}

func (s *story) let(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: let NAME CMD...")
	}
	cmd := s.command(ts, args[1:])
	out, err := s.try(ts, cmd)
	if err != nil {
		ts.Fatalf("%s: %v\n%s", strings.Join(cmd, " "), err, out)
	}
	ts.Setenv(args[0], out)
}
