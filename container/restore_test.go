package container

import (
	"errors"
	"os"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// reborn ends the engine, lets f happen meanwhile, and starts a new one.
func (w *world) reborn(f func()) *Engine {
	w.t.Helper()
	w.stop(w.e)
	if f != nil {
		f()
	}
	return w.start()
}

func TestRestoreRunning(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("r1", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; usleep 20000; done; echo end; exit 4")
	w.create("r2", "true")
	pausedID := w.run("r3", "sleep 1000")
	ok(t, "pause", e.Pause(ctx, pausedID))
	before, _ := e.Get(id)
	e = w.reborn(func() { usleep(200) })
	after, err := e.Get("r1")
	if err != nil || after.State.Pid != before.State.Pid || !after.State.StartedAt.Equal(before.State.StartedAt) || after.State.Phase != Running {
		t.Fatalf("%+v %v", after.State, err)
	}
	if w.phase("r2") != Created || w.phase("r3") != Paused {
		t.Error(w.phase("r2"), w.phase("r3"))
	}
	done, err := e.Wait(ctx, id, WaitNotRunning)
	ok(t, "wait", err)
	// The container may end, and take it along, before it has ended itself.
	if code, out := w.execute(id, ExecConfig{Cmd: []string{"touch", "/stop"}}, ""); code != 0 && code != 137 {
		t.Errorf("exec: %d %s", code, out)
	}
	if r := w.result(done); r.ExitCode != 4 {
		t.Errorf("%+v", r)
	}
	// Not a line is missing or doubled.
	lines := strings.Fields(w.logs(id))
	for i, l := range lines[:len(lines)-1] {
		if l != itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	if lines[len(lines)-1] != "end" || len(lines) < 10 {
		t.Errorf("%d lines", len(lines))
	}
	ok(t, "stop", e.Stop(ctx, pausedID, StopOptions{Timeout: p(0)}))
	if _, _, err := e.Create(ctx, request("r2", "true")); !errors.Is(err, cnm.ErrConflict) {
		t.Error("a name was forgotten")
	}
	w.clean()
}

// A container that prints a lot while no daemon is there neither blocks nor
// loses a line.
func TestOutputWithoutDaemon(t *testing.T) {
	w := newWorld(t)
	w.start()
	sig := t.TempDir()
	id := w.run("loud", "while [ ! -e /sig/go ]; do usleep 10000; done; seq 1 150000; touch /sig/done; sleep 1000", func(r *CreateRequest) {
		r.HostConfig.Binds = []string{sig + ":/sig"}
	})
	w.reborn(func() {
		touch(t, sig+"/go")
		w.eventually("all is printed", func() bool { _, err := os.Stat(sig + "/done"); return err == nil })
	})
	w.eventually("all is in the log", func() bool { return strings.HasSuffix(w.logs(id), "\n150000\n") })
	for i, l := range strings.Fields(w.logs(id)) {
		if l != itoa(i+1) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	w.clean()
}

// What ended while nobody looked has its exit code, its policy and its --rm.
func TestRestoreExited(t *testing.T) {
	w := newWorld(t)
	w.start()
	until := "while [ ! -e /sig/go ]; do usleep 10000; done; "
	sig := t.TempDir()
	bind := func(r *CreateRequest) { r.HostConfig.Binds = []string{sig + ":/sig"} }
	w.run("code", until+"echo bye; exit 42", bind)
	w.run("again", until+"test -e /sig/twice && sleep 1000; touch /sig/twice; exit 1", bind, func(r *CreateRequest) {
		r.HostConfig.RestartPolicy = apicontainer.RestartPolicy{Name: "on-failure"}
	})
	w.run("gone", until, bind, func(r *CreateRequest) {
		r.HostConfig.AutoRemove = true
		r.Config.Volumes = map[string]struct{}{"/v": {}}
	})
	stopped := w.run("stopped", "sleep 1000", func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "unless-stopped" })
	always := w.run("always", "sleep 1000", func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "always" })
	for _, id := range []string{stopped, always} {
		ok(t, "stop", w.e.Stop(t.Context(), id, StopOptions{Timeout: p(0)}))
	}
	e := w.reborn(func() {
		touch(t, sig+"/go")
		usleep(400)
	})
	w.eventually("the exit", func() bool { return w.phase("code") == Exited })
	if c, _ := e.Get("code"); c.State.ExitCode != 42 {
		t.Errorf("%+v", c.State)
	}
	if w.logs("code") != "bye\n" {
		t.Errorf("%q", w.logs("code"))
	}
	w.eventually("the restart", func() bool { c, _ := e.Get("again"); return c.State.Phase == Running && c.State.Restarts == 1 })
	w.eventually("the removal", func() bool { return w.phase("gone") == "" })
	w.eventually("always", func() bool { return w.phase("always") == Running })
	if w.phase("stopped") != Exited {
		t.Error(w.phase("stopped"))
	}
	w.clean()
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := writeFile(path); err != nil {
		t.Fatal(err)
	}
}

// The client of an exec asks for its exit code after the daemon was replaced.
func TestRestoreExec(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("r1", "sleep 1000")
	start := func(cmd string) (string, *client) {
		x, err := e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"sh", "-c", cmd}, AttachStdout: true})
		ok(t, "create", err)
		c := newClient(t)
		go func() { _ = e.ExecStart(ctx, x, false, nil, c.door, nil) }()
		w.eventually("the exec runs", func() bool { s, _ := e.ExecGet(x); return s.Pid != 0 })
		return x, c
	}
	long, lc := start("echo a; while [ ! -e /go ]; do usleep 10000; done; echo b; exit 8")
	short, _ := start("usleep 100000; exit 9")
	e = w.reborn(func() { usleep(300) })
	if s, err := e.ExecGet(short); err != nil || s.ExitCode == nil || *s.ExitCode != 9 {
		w.eventually("the short one's code", func() bool { s, _ := e.ExecGet(short); return s != nil && s.ExitCode != nil && *s.ExitCode == 9 })
	}
	w.execute(id, ExecConfig{Cmd: []string{"touch", "/go"}}, "")
	<-lc.end
	if lc.text() != "\x01\x00\x00\x00\x00\x00\x00\x02a\n\x01\x00\x00\x00\x00\x00\x00\x02b\n" && unframe([]byte(lc.text())) != "a\nb\n" {
		t.Errorf("%q", lc.text())
	}
	if s, err := e.ExecGet(long); err != nil || s.ExitCode == nil || *s.ExitCode != 8 {
		t.Errorf("%+v %v", s, err)
	}
	w.clean()
}

// A process that nobody saw end: the shim was killed, or the machine.
func TestRestoreLost(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	w.run("lost", "sleep 1000")
	w.run("back", "sleep 1000", func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "always" })
	ids := e.List()
	e = w.reborn(func() {
		for _, c := range ids {
			ok(t, "kill", e.ctd.killTask(ctx, c.ID))
		}
	})
	if c, _ := e.Get("lost"); c.State.Phase != Exited || c.State.ExitCode != lostCode {
		t.Errorf("%+v", c.State)
	}
	w.eventually("the restart", func() bool { return w.phase("back") == Running })
	w.clean()
}

func TestShutdownStops(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.StopOnShutdown = true }
	e := w.start()
	w.run("one", "sleep 1000", func(r *CreateRequest) { r.Config.StopTimeout = p(0) })
	w.run("two", "sleep 1000", func(r *CreateRequest) {
		r.Config.StopTimeout, r.HostConfig.RestartPolicy.Name = p(0), "unless-stopped"
	})
	e = w.reborn(func() {
		if l, err := e.ctd.tasks(t.Context()); len(l) != 0 || err != nil {
			t.Errorf("%v %v", l, err)
		}
	})
	w.eventually("two", func() bool { return w.phase("two") == Running })
	if c, _ := e.Get("one"); c.State.Phase != Exited || c.State.ManuallyStopped {
		t.Errorf("%+v", c.State)
	}
	w.clean()
}

// containerd goes away and comes back: containers never notice, calls say so,
// and afterwards all is as it should be.
func TestContainerdAway(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	stays := w.run("stays", "sleep 1000")
	sig := t.TempDir()
	w.run("ends", "while [ ! -e /sig/go ]; do usleep 10000; done; exit 6", func(r *CreateRequest) { r.HostConfig.Binds = []string{sig + ":/sig"} })
	rest := w.create("rest", "true")
	w.ctd.Kill()
	touch(t, sig+"/go")
	const words = "does not answer"
	w.eventually("the first error", func() bool { return errors.Is(e.Kill(ctx, stays, "HUP"), cnm.ErrUnavailable) })
	refused(t, "start", e.Start(ctx, rest), cnm.ErrUnavailable, "containerd at "+w.ctd.Address+" "+words)
	_, _, err := e.Create(ctx, request("new", "true"))
	refused(t, "create", err, cnm.ErrUnavailable, "containers keep running")
	refused(t, "rm", e.Remove(ctx, rest, RemoveOptions{}), cnm.ErrUnavailable, words)
	if w.phase("stays") != Running || len(e.List()) != 3 {
		t.Error("what is known must still be told")
	}
	usleep(200)
	w.ctd.Run()
	w.eventually("the exit that was missed", func() bool { return w.phase("ends") == Exited })
	if c, _ := e.Get("ends"); c.State.ExitCode != 6 {
		t.Errorf("%+v", c.State)
	}
	w.eventually("the removal is finished", func() bool { return w.phase("rest") == "" })
	if code, out := w.output("after", "echo fine"); code != 0 || out != "fine\n" {
		t.Errorf("%d %q", code, out)
	}
	if code, out := w.execute(stays, ExecConfig{Cmd: []string{"echo", "alive"}}, ""); code != 0 || out != "alive\n" {
		t.Errorf("%d %q", code, out)
	}
	ok(t, "stop", e.Stop(ctx, stays, StopOptions{Timeout: p(0)}))
	w.clean()
}

// The daemon starts while containerd is away.
func TestRestoreWithoutContainerd(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.run("stays", "sleep 1000")
	w.create("rest", "true")
	e := w.reborn(func() { w.ctd.Kill() })
	if len(e.List()) != 2 {
		t.Error("the records must be served")
	}
	w.ctd.Run()
	w.eventually("the adoption", func() bool {
		en, _ := e.find("stays")
		return en.currentRun() != nil
	})
	ok(t, "stop", e.Stop(t.Context(), "stays", StopOptions{Timeout: p(0)}))
	w.clean()
}
