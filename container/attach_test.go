package container

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func TestAttach(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.create("a1", "read x; echo got $x; cat; usleep 100000; echo end >&2", func(r *CreateRequest) {
		r.Config.OpenStdin, r.Config.StdinOnce, r.Config.AttachStdin = true, true, true
	})
	c := newClient(t)
	ok(t, "attach before the start", e.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stderr: true, Stream: true, Mux: true, Pending: []byte("first\n")}, c.door))
	c.door.Close()
	done, _ := e.Wait(ctx, id, WaitNextExit)
	ok(t, "start", e.Start(ctx, id))
	w.eventually("the answer", func() bool { return unframe([]byte(c.text())) == "got first\n" })
	c.send(t, "more\n")
	c.closeWrite(t)
	if r := w.result(done); r.ExitCode != 0 {
		t.Errorf("%+v", r)
	}
	<-c.end
	if out := unframe([]byte(c.text())); out != "got first\nmore\nend\n" {
		t.Errorf("%q", out)
	}
	if !strings.Contains(c.text(), "\x02\x00\x00\x00\x00\x00\x00\x04end\n") {
		t.Errorf("stderr is not framed as such: %q", c.text())
	}
	if w.logs(id) != "got first\nmore\nend\n" {
		t.Errorf("%q", w.logs(id))
	}
	// And once more: the stream of the next run.
	c = newClient(t)
	ok(t, "attach", e.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stream: true}, c.door))
	c.door.Close()
	ok(t, "start", e.Start(ctx, id))
	c.send(t, "second\n")
	c.closeWrite(t)
	<-c.end
	if c.text() != "got second\n" {
		t.Errorf("%q", c.text())
	}
	_, err := e.CanAttach("nope")
	refused(t, "attach", err, cnm.ErrNotFound, "No such container")
	refused(t, "keys", e.Attach(ctx, id, AttachOptions{DetachKeys: "ctrl-!"}, nil), cnm.ErrInvalid, "Invalid detach keys")
	w.clean()
}

func TestAttachTTY(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.create("t1", "stty size; read x; stty size", func(r *CreateRequest) { r.Config.Tty, r.Config.OpenStdin = true, true })
	c := newClient(t)
	ok(t, "attach", e.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stream: true}, c.door))
	c.door.Close()
	ok(t, "start", e.Start(ctx, id))
	w.eventually("the size", func() bool { return strings.Contains(c.text(), "\n") })
	ok(t, "resize", e.Resize(ctx, id, 40, 120))
	c.send(t, "\n")
	<-c.end
	if !strings.Contains(c.text(), "40 120\r\n") {
		t.Errorf("%q", c.text())
	}
	w.clean()
}

func TestLogsFollow(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	id := w.run("l1", "echo one; usleep 300000; echo two; exit 1")
	var out bytes.Buffer
	begin := time.Now()
	ok(t, "logs", e.Logs(t.Context(), id, LogOptions{Stdout: true, Stderr: true, Follow: true, Tail: -1}, &out, func() {}))
	if got := unframe(out.Bytes()); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("following ended after %s", d)
	}
	out.Reset()
	ok(t, "logs of one at rest", e.Logs(t.Context(), id, LogOptions{Stdout: true, Follow: true, Tail: 1}, &out, func() {}))
	if got := unframe(out.Bytes()); got != "two\n" {
		t.Errorf("%q", got)
	}
	none := w.run("l2", "echo x", func(r *CreateRequest) { r.HostConfig.LogConfig.Type = "none" })
	refused(t, "no log", e.Logs(t.Context(), none, LogOptions{}, &out, nil), cnm.ErrUnsupported, "does not support reading")
	w.clean()
}
