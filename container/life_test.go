package container

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

func absentExists(err error) error {
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// refused fails unless err is of the class and has the words.
func refused(t *testing.T, what string, err, class error, words string) {
	t.Helper()
	if !errors.Is(err, class) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %v: %q", what, err, class, words)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()

	code, out := w.output("hello", "echo hello; usleep 50000; echo oops >&2; exit 3")
	if code != 3 || out != "hello\noops\n" {
		t.Errorf("%d %q", code, out)
	}
	c, err := e.Get("hello")
	if err != nil || c.State.Phase != Exited || c.State.ExitCode != 3 || c.State.FinishedAt.IsZero() || c.State.Pid != 0 {
		t.Errorf("%+v %v", c.State, err)
	}
	_, _, err = e.Create(ctx, request("hello", "true"))
	refused(t, "name", err, cnm.ErrConflict, `The container name "/hello" is already in use by container "`+c.ID)
	r := request("", "true")
	r.Config.Image = "nope"
	_, _, err = e.Create(ctx, r)
	refused(t, "image", err, cnm.ErrNotFound, "No such image: nope:latest")
	_, _, err = e.Create(ctx, request("nothing", ""))
	refused(t, "command", err, cnm.ErrInvalid, "no command specified")
	if _, err := e.claim("nothing", "x"); err != nil {
		t.Error("a failed create keeps the name")
	}
	e.unclaim("nothing", "x")

	id := w.run("sleeper", "trap 'exit 7' TERM; while :; do usleep 10000; done")
	refused(t, "start", e.Start(ctx, id), cnm.ErrNotModified, "already running")
	refused(t, "rm", e.Remove(ctx, id, RemoveOptions{}), cnm.ErrConflict,
		`cannot remove container "/sleeper": container is running: stop the container before removing or force remove`)
	w.eventually("the trap is set", func() bool { _, rows, _ := e.Top(ctx, id, ""); return len(rows) > 0 })
	usleep(100)
	ok(t, "stop", e.Stop(ctx, id, StopOptions{}))
	if c, _ = e.Get(id); c.State.Phase != Exited || c.State.ExitCode != 7 || !c.State.ManuallyStopped {
		t.Errorf("%+v", c.State)
	}
	refused(t, "stop", e.Stop(ctx, id, StopOptions{}), cnm.ErrNotModified, "")
	refused(t, "kill", e.Kill(ctx, id, ""), cnm.ErrConflict, "is not running")
	refused(t, "signal", e.Kill(ctx, id, "FOO"), cnm.ErrInvalid, "invalid signal: FOO")

	ok(t, "start", e.Start(ctx, id))
	usleep(100)
	ok(t, "kill", e.Kill(ctx, id, "TERM"))
	w.eventually("the signal's end", func() bool { return w.phase(id) == Exited })
	ok(t, "start", e.Start(ctx, id))
	ok(t, "kill -9", e.Kill(ctx, id, ""))
	if c, _ = e.Get(id); c.State.Phase != Exited || c.State.ExitCode != 137 {
		t.Errorf("after kill: %+v", c.State)
	}
	ok(t, "rm", e.Remove(ctx, "/sleeper", RemoveOptions{}))
	refused(t, "rm", e.Remove(ctx, id, RemoveOptions{}), cnm.ErrNotFound, "No such container: "+id)
	w.clean()
}

func usleep(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }

func TestStopTimesOut(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	id := w.run("deaf", "trap '' TERM; while :; do sleep 1; done", func(r *CreateRequest) { r.Config.StopTimeout = p(1) })
	usleep(100)
	begin := time.Now()
	ok(t, "stop", e.Stop(t.Context(), id, StopOptions{}))
	if d := time.Since(begin); d < 900*time.Millisecond || d > 5*time.Second {
		t.Errorf("the stop took %s, the container's own timeout is one second", d)
	}
	if c, _ := e.Get(id); c.State.ExitCode != 137 {
		t.Errorf("%+v", c.State)
	}
	w.clean()
}

func TestWait(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.create("w1", "usleep 100000; exit 5")
	next, err := e.Wait(ctx, id, WaitNextExit)
	ok(t, "wait", err)
	removed, err := e.Wait(ctx, id, WaitRemoved)
	ok(t, "wait", err)
	now, err := e.Wait(ctx, id, WaitNotRunning)
	ok(t, "wait", err)
	if r := w.result(now); r.ExitCode != 0 {
		t.Errorf("a container that never ran: %+v", r)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	ended, err := e.Wait(short, id, WaitNextExit)
	ok(t, "wait", err)
	if r := <-ended; r.Err == nil {
		t.Errorf("%+v", r)
	}
	ok(t, "start", e.Start(ctx, id))
	running, err := e.Wait(ctx, id, "")
	ok(t, "wait", err)
	if a, b := w.result(next), w.result(running); a.ExitCode != 5 || b.ExitCode != 5 {
		t.Errorf("%+v %+v", a, b)
	}
	select {
	case r := <-removed:
		t.Errorf("removed too early: %+v", r)
	default:
	}
	ok(t, "rm", e.Remove(ctx, id, RemoveOptions{}))
	if r := w.result(removed); r.ExitCode != 5 {
		t.Errorf("%+v", r)
	}
	_, err = e.Wait(ctx, id, WaitNextExit)
	refused(t, "wait", err, cnm.ErrNotFound, "No such container")
	w.create("x1", "true")
	_, err = e.Wait(ctx, "x1", "whenever")
	refused(t, "condition", err, cnm.ErrInvalid, "invalid condition")
	w.clean()
}

func TestPauseRenameTop(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("a1", "while :; do usleep 10000; done")
	refused(t, "unpause", e.Unpause(ctx, id), cnm.ErrConflict, "is not paused")
	ok(t, "pause", e.Pause(ctx, id))
	if w.phase(id) != Paused {
		t.Error(w.phase(id))
	}
	refused(t, "pause", e.Pause(ctx, id), cnm.ErrConflict, "already paused")
	refused(t, "start", e.Start(ctx, id), cnm.ErrConflict, "cannot start a paused container, try unpause instead")
	_, err := e.CanAttach(id)
	refused(t, "attach", err, cnm.ErrConflict, "paused")
	_, err = e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"true"}})
	refused(t, "exec", err, cnm.ErrConflict, "paused")
	refused(t, "rm", e.Remove(ctx, id, RemoveOptions{}), cnm.ErrConflict, "container is paused and must be unpaused first")
	ok(t, "unpause", e.Unpause(ctx, id))
	titles, rows, err := e.Top(ctx, id, "-o pid,args")
	if err != nil || len(titles) != 2 || len(rows) == 0 || !strings.Contains(rows[0][1], "sh -c while") {
		t.Errorf("%v %v %v", titles, rows, err)
	}
	_, _, err = e.Top(ctx, id, "-o pid=x")
	refused(t, "top", err, cnm.ErrInvalid, "not allowed")
	_, _, err = e.Top(ctx, id, "--nonsense")
	refused(t, "top", err, cnm.ErrInvalid, "ps:")
	ok(t, "pause", e.Pause(ctx, id))
	ok(t, "a paused container is stopped", e.Stop(ctx, id, StopOptions{Timeout: p(1)}))

	w.create("b1", "true")
	refused(t, "rename", e.Rename(ctx, "b1", "a1"), cnm.ErrConflict, "already in use")
	refused(t, "rename", e.Rename(ctx, "b1", "b1"), cnm.ErrInvalid, "same name")
	refused(t, "rename", e.Rename(ctx, "b1", "-x"), cnm.ErrInvalid, "Invalid container name")
	refused(t, "rename", e.Rename(ctx, "b1", ""), cnm.ErrInvalid, "may be empty")
	ok(t, "rename", e.Rename(ctx, "b1", "/c1"))
	if _, err := e.Get("b1"); !errors.Is(err, cnm.ErrNotFound) {
		t.Error("the old name still leads to it")
	}
	w.create("b1", "true")
	_, _, err = e.Top(ctx, "b1", "")
	refused(t, "top", err, cnm.ErrConflict, "is not running")
	refused(t, "resize", e.Resize(ctx, "b1", 1, 1), cnm.ErrConflict, "is not running")
	w.clean()
}

func TestRestartKeepsSandbox(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("r1", "readlink /proc/self/ns/net; sleep 100")
	w.eventually("the first line", func() bool { return strings.Count(w.logs(id), "\n") == 1 })
	next, _ := e.Wait(ctx, id, WaitNextExit)
	ok(t, "restart", e.Restart(ctx, id, StopOptions{Timeout: p(0)}))
	w.result(next)
	w.eventually("the second line", func() bool { return strings.Count(w.logs(id), "\n") == 2 })
	l := strings.Fields(w.logs(id))
	if l[0] != l[1] {
		t.Errorf("another namespace after the restart: %v", l)
	}
	c, _ := e.Get(id)
	if c.State.Phase != Running || c.State.Restarts != 0 || c.State.ManuallyStopped {
		t.Errorf("%+v", c.State)
	}
	w.create("s1", "sleep 100")
	ok(t, "restart of one at rest", e.Restart(ctx, "s1", StopOptions{}))
	if w.phase("s1") != Running {
		t.Error(w.phase("s1"))
	}
	w.clean()
}

func TestRestartPolicies(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	policy := func(name apicontainer.RestartPolicyMode, max int) func(*CreateRequest) {
		return func(r *CreateRequest) {
			r.HostConfig.RestartPolicy = apicontainer.RestartPolicy{Name: name, MaximumRetryCount: max}
		}
	}
	w.run("failing", "echo x; exit 1", policy("on-failure", 2))
	w.run("fine", "echo x; exit 0", policy("on-failure", 2))
	w.run("always", "echo x; exit 0", policy("always", 0))
	w.eventually("two restarts", func() bool { c, _ := e.Get("failing"); return c.State.Restarts == 2 && c.State.Phase == Exited })
	if out := w.logs("failing"); out != "x\nx\nx\n" {
		t.Errorf("%q", out)
	}
	if c, _ := e.Get("fine"); c.State.Restarts != 0 || c.State.Phase != Exited {
		t.Errorf("%+v", c.State)
	}
	w.eventually("four restarts", func() bool { c, _ := e.Get("always"); return c.State.Restarts >= 4 })
	w.eventually("a wait", func() bool { return w.phase("always") == Restarting })
	_, err := e.CanAttach("always")
	refused(t, "attach", err, cnm.ErrConflict, "restarting")
	refused(t, "rm", e.Remove(ctx, "always", RemoveOptions{}), cnm.ErrConflict, "container is restarting")
	done, err := e.Wait(ctx, "always", WaitNotRunning)
	ok(t, "wait", err)
	ok(t, "stop while it waits", e.Stop(ctx, "always", StopOptions{}))
	w.result(done)
	usleep(1200)
	if c, _ := e.Get("always"); c.State.Phase != Exited || !c.State.ManuallyStopped {
		t.Errorf("%+v", c.State)
	}
	ok(t, "start", e.Start(ctx, "always"))
	if c, _ := e.Get("always"); c.State.Restarts != 0 || c.State.ManuallyStopped {
		t.Errorf("a person's start begins anew: %+v", c.State)
	}
	// A person's stop is not an exit that the policy answers.
	w.run("stopped", "sleep 100", policy("unless-stopped", 0))
	ok(t, "stop", e.Stop(ctx, "stopped", StopOptions{Timeout: p(0)}))
	usleep(300)
	if c, _ := e.Get("stopped"); c.State.Phase != Exited || c.State.Restarts != 0 {
		t.Errorf("%+v", c.State)
	}
	w.clean()
}

func TestAutoRemove(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	rm := func(r *CreateRequest) {
		r.HostConfig.AutoRemove = true
		r.Config.Volumes = map[string]struct{}{"/v": {}}
	}
	id := w.create("once", "exit 9", rm)
	removed, err := e.Wait(t.Context(), id, WaitRemoved)
	ok(t, "wait", err)
	ok(t, "start", e.Start(t.Context(), id))
	if r := w.result(removed); r.ExitCode != 9 {
		t.Errorf("%+v", r)
	}
	if _, err := e.Get(id); !errors.Is(err, cnm.ErrNotFound) {
		t.Error("it is still there")
	}
	// One that cannot start goes too, and whoever waits hears of it.
	id = w.create("never", "", rm, func(r *CreateRequest) { r.Config.Cmd = []string{"nosuch"} })
	removed, err = e.Wait(t.Context(), id, WaitRemoved)
	ok(t, "wait", err)
	refused(t, "start", e.Start(t.Context(), id), cnm.ErrInvalid, "executable file not found in $PATH")
	if r := w.result(removed); r.ExitCode != 127 {
		t.Errorf("%+v", r)
	}
	w.clean()
}
