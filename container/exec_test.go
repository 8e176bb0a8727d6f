package container

import (
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// exec runs one to its end, as the docker CLI does: stream first, then the exit
// code.
func (w *world) execute(ref string, cfg ExecConfig, input string) (int, string) {
	w.t.Helper()
	cfg.AttachStdout, cfg.AttachStderr = true, true
	id, err := w.e.ExecCreate(w.t.Context(), ref, cfg)
	if err != nil {
		w.t.Fatalf("exec create: %v", err)
	}
	c := newClient(w.t)
	if cfg.AttachStdin {
		c.send(w.t, input)
		c.closeWrite(w.t)
	}
	if err := w.e.ExecStart(w.t.Context(), id, cfg.Tty, nil, c.door, nil); err != nil {
		w.t.Fatalf("exec start: %v", err)
	}
	c.door.Close()
	select {
	case <-c.end:
	case <-time.After(10 * time.Second):
		w.t.Fatalf("the exec's stream did not end: %q", c.text())
	}
	x, err := w.e.ExecGet(id)
	if err != nil || x.ExitCode == nil {
		w.t.Fatalf("%+v %v", x, err)
	}
	return *x.ExitCode, unframe([]byte(c.text()))
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("e1", "sleep 1000", func(r *CreateRequest) {
		r.Config.Env, r.Config.WorkingDir, r.Config.User = []string{"A=1", "B=2"}, "/tmp", "web"
	})
	for _, c := range []struct {
		name string
		cfg  ExecConfig
		in   string
		code int
		out  string
	}{
		{"plain", ExecConfig{Cmd: []string{"sh", "-c", "echo out; exit 7"}}, "", 7, "out\n"},
		{"inherits", ExecConfig{Cmd: []string{"sh", "-c", "echo $A$B; pwd; id -u"}}, "", 0, "12\n/tmp\n33\n"},
		{"own", ExecConfig{Cmd: []string{"sh", "-c", "echo $A$B; pwd; id -un"}, Env: []string{"B=3"}, WorkingDir: "/etc", User: "root"}, "", 0, "13\n/etc\nroot\n"},
		{"stdin", ExecConfig{Cmd: []string{"cat"}, AttachStdin: true}, "typed\n", 0, "typed\n"},
		{"tty", ExecConfig{Cmd: []string{"sh", "-c", "test -t 1 && stty size && echo $TERM"}, Tty: true, ConsoleSize: &[2]uint{30, 90}}, "", 0, "30 90\r\nxterm\r\n"},
		{"caps", ExecConfig{Cmd: []string{"grep", "CapEff", "/proc/self/status"}, User: "root"}, "", 0, "CapEff:\t00000000a80425fb\n"},
		{"much", ExecConfig{Cmd: []string{"sh", "-c", "yes | head -c 300000 | wc -c; yes | head -c 300000"}}, "", 0, ""},
	} {
		code, out := w.execute(id, c.cfg, c.in)
		if c.name == "much" {
			c.out = "300000\n" + strings.Repeat("y\n", 150000)
		}
		if code != c.code || out != c.out {
			t.Errorf("%s: %d %.200q", c.name, code, out)
		}
	}
	if _, out := w.execute(id, ExecConfig{Cmd: []string{"grep", "CapEff", "/proc/self/status"}, User: "root", Privileged: true}, ""); strings.Contains(out, "a80425fb") {
		t.Errorf("privileged: %q", out)
	}
	// An error after the 101 is told to the client, with the exit code behind it.
	code, out := w.execute(id, ExecConfig{Cmd: []string{"nosuch"}}, "")
	if code != 127 || !strings.HasPrefix(out, "OCI runtime exec failed: ") || !strings.Contains(out, `exec: "nosuch": executable file not found in $PATH`) {
		t.Errorf("%d %q", code, out)
	}
	_, err := e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"x"}, Env: []string{"=y"}})
	refused(t, "env", err, cnm.ErrInvalid, "invalid environment variable: =y")
	_, err = e.ExecCreate(ctx, id, ExecConfig{})
	refused(t, "nothing", err, cnm.ErrInvalid, "no exec command")
	_, err = e.ExecGet("nope")
	refused(t, "get", err, cnm.ErrNotFound, "No such exec instance: nope")
	x, err := e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"id"}, User: "nobodyhere"})
	ok(t, "create", err)
	refused(t, "user", e.ExecStart(ctx, x, false, nil, nil, nil), cnm.ErrInvalid, "unable to find user nobodyhere")

	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	_, err = e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"true"}})
	refused(t, "exec", err, cnm.ErrConflict, "is not running")
	w.clean()
}

func TestExecDetached(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("e1", "sleep 1000")
	x, err := e.ExecCreate(ctx, id, ExecConfig{Cmd: []string{"sh", "-c", "echo lost; sleep 1000"}})
	ok(t, "create", err)
	if s, _ := e.ExecGet(x); s.Running || s.Started {
		t.Errorf("%+v", s)
	}
	refused(t, "resize", e.ExecResize(ctx, x, 1, 1), cnm.ErrConflict, "is not running")
	ok(t, "start", e.ExecStart(ctx, x, false, nil, nil, nil))
	s, err := e.ExecGet(x)
	if err != nil || !s.Running || s.Pid == 0 || s.ExitCode != nil {
		t.Errorf("%+v %v", s, err)
	}
	if ids := e.ExecIDs(id); len(ids) != 1 || ids[0] != x {
		t.Error(ids)
	}
	refused(t, "again", e.ExecStart(ctx, x, false, nil, nil, nil), cnm.ErrConflict, "is already running")
	// The container's end is the exec's.
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	if s, err = e.ExecGet(x); err != nil || s.Running || s.ExitCode == nil || *s.ExitCode != 137 {
		t.Errorf("%+v %v", s, err)
	}
	w.clean()
}
