package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func TestStreamLife(t *testing.T) {
	k := newKeeper(t)
	ctx := ctxT(t)
	st := k.declare(StreamSpec{ID: "c1", LogPath: "log"})
	if again := k.declare(StreamSpec{ID: "c1", LogPath: "log"}); again != st {
		t.Errorf("declared again: %+v, first %+v", again, st)
	}
	if st.Stdin != "" || filepath.Base(st.Stderr) != "stderr" {
		t.Errorf("paths: %+v", st)
	}
	client := k.attach("c1", AttachOptions{Stdout: true, Stderr: true, Mux: true})
	sh := newShim(t, st)
	k.must(k.Started(ctx, "c1"))
	fmt.Fprint(sh.Out, "hello\n")
	client.expect(t, "\x01\x00\x00\x00\x00\x00\x00\x06hello\n")
	fmt.Fprint(sh.Err, "oops\nmore\n")
	client.expect(t, "\x02\x00\x00\x00\x00\x00\x00\x0aoops\nmore\n")
	all, err := k.Streams(ctx)
	k.must(err)
	if len(all) != 1 || !all[0].Started || all[0].Ended || all[0].Attached != 1 || all[0].ID != "c1" {
		t.Errorf("streams: %+v", all)
	}
	fmt.Fprint(sh.Out, "bye")
	sh.exit()
	k.must(k.Drain(ctx, "c1"))
	if got := client.all(t); got != "\x01\x00\x00\x00\x00\x00\x00\x03bye" {
		t.Errorf("the end: %q", got)
	}
	if <-client.ended {
		t.Error("ended as detached")
	}
	out, errs := logged(t, k.log)
	if out != "hello\nbye" || errs != "oops\nmore\n" {
		t.Errorf("log: %q %q", out, errs)
	}
	k.must(k.CloseStream(ctx, "c1"))
	k.must(k.CloseStream(ctx, "c1"))
	k.must(k.Drain(ctx, "c1"))
	if _, err := os.Stat(filepath.Dir(st.Stdout)); !os.IsNotExist(err) {
		t.Errorf("the FIFOs are still there: %v", err)
	}
}

// TestNoEndBeforeStarted: writers come and go before Started, as a shim does
// that fails; only afterwards is the last one's leaving the end.
func TestNoEndBeforeStarted(t *testing.T) {
	k := newKeeper(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log"})
	for range 3 {
		sh := newShim(t, st)
		fmt.Fprint(sh.Out, "x")
		sh.exit()
	}
	time.Sleep(50 * time.Millisecond)
	if all, _ := k.Streams(ctxT(t)); all[0].Ended {
		t.Fatal("it ended before Started")
	}
	k.must(k.Started(ctxT(t), "c"))
	k.must(k.Drain(ctxT(t), "c"))
	if out, _ := logged(t, k.log); out != "xxx" {
		t.Errorf("log: %q", out)
	}
}

func TestRestartAppends(t *testing.T) {
	k := newKeeper(t)
	ctx := ctxT(t)
	for i := range 3 {
		st := k.declare(StreamSpec{ID: "c", LogPath: "log", TTY: i == 2})
		client := k.attach("c", AttachOptions{Stdout: true, Replay: i == 1})
		sh := newShim(t, st)
		k.must(k.Started(ctx, "c"))
		fmt.Fprintf(sh.Out, "run %d\n", i)
		sh.exit()
		k.must(k.Drain(ctx, "c"))
		want := []string{"run 0\n", "run 0\nrun 1\n", "run 2\n"}[i]
		if got := client.all(t); got != want {
			t.Errorf("run %d: client got %q", i, got)
		}
	}
	if out, _ := logged(t, k.log); out != "run 0\nrun 1\nrun 2\n" {
		t.Errorf("log: %q", out)
	}
}

// TestReplayHasNoGap attaches with a replay again and again while the container
// prints without pause: each client must see every line once, in order.
func TestReplayHasNoGap(t *testing.T) {
	k := newKeeper(t)
	ctx := ctxT(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log"})
	sh := newShim(t, st)
	k.must(k.Started(ctx, "c"))
	const lines = 60000
	go func() {
		for i := range lines {
			fmt.Fprintf(sh.Out, "line %d\n", i)
		}
		fmt.Fprint(sh.Out, "$ ")
		sh.exit()
	}()
	results := make(chan error, 8)
	for range cap(results) {
		time.Sleep(15 * time.Millisecond)
		c := k.attach("c", AttachOptions{Stdout: true, Replay: true})
		go func() {
			got, err := io.ReadAll(c)
			rest := string(got)
			for i := 0; err == nil && i < lines; i++ {
				line := fmt.Sprintf("line %d\n", i)
				if !strings.HasPrefix(rest, line) {
					err = fmt.Errorf("at line %d: %.40q", i, rest)
					break
				}
				rest = rest[len(line):]
			}
			if err == nil && rest != "$ " {
				err = fmt.Errorf("after the lines: %q", rest)
			}
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestReplayShowsThePrompt: what has no newline yet is in no log, and a client
// with a replay sees it nevertheless.
func TestReplayShowsThePrompt(t *testing.T) {
	k := newKeeper(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log", TTY: true})
	sh := newShim(t, st)
	k.must(k.Started(ctxT(t), "c"))
	first := k.attach("c", AttachOptions{Stdout: true})
	fmt.Fprint(sh.Out, "welcome\r\n# ")
	first.expect(t, "welcome\r\n# ")
	second := k.attach("c", AttachOptions{Stdout: true, Replay: true})
	second.expect(t, "welcome\r\n# ")
	fmt.Fprint(sh.Out, "ls\r\n")
	first.expect(t, "ls\r\n")
	second.expect(t, "ls\r\n")
}

func TestAttachToEndedStream(t *testing.T) {
	k := newKeeper(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log"})
	sh := newShim(t, st)
	k.must(k.Started(ctxT(t), "c"))
	fmt.Fprint(sh.Out, "out\n")
	fmt.Fprint(sh.Err, "err\n")
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
	if got := k.attach("c", AttachOptions{Stdout: true}).all(t); got != "" {
		t.Errorf("without replay: %q", got)
	}
	if got := k.attach("c", AttachOptions{Stderr: true, Replay: true}).all(t); got != "err\n" {
		t.Errorf("replay of stderr: %q", got)
	}
}

// TestCloseTakesTheRest: what lies in the FIFO of a stream that is closed while
// its writer is alive still gets into the log.
func TestCloseTakesTheRest(t *testing.T) {
	k := newKeeper(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log"})
	client := k.attach("c", AttachOptions{Stdout: true})
	sh := newShim(t, st)
	k.must(k.Started(ctxT(t), "c"))
	fmt.Fprint(sh.Out, strings.Repeat("y\n", 10000))
	k.must(k.CloseStream(ctxT(t), "c"))
	if out, _ := logged(t, k.log); len(out) != 20000 {
		t.Errorf("log has %d bytes", len(out))
	}
	if got := client.all(t); len(got) != 20000 {
		t.Errorf("client got %d bytes", len(got))
	}
}

func TestFullDiskDoesNotBlock(t *testing.T) {
	k := newKeeper(t)
	ctx := ctxT(t)
	st := k.declare(StreamSpec{ID: "c", LogPath: "log"})
	client := k.attach("c", AttachOptions{Stdout: true})
	sh := newShim(t, st)
	k.must(k.Started(ctx, "c"))
	fmt.Fprint(sh.Out, "kept\n")
	client.expect(t, "kept\n")
	// A file size limit fails as a full disk does, and is this process's own.
	restore := limitFileSize(t, k.log)
	fmt.Fprint(sh.Out, "lost\n")
	client.expect(t, "lost\n")
	restore()
	fmt.Fprint(sh.Out, "again\n")
	client.expect(t, "again\n")
	all, err := k.Streams(ctx)
	k.must(err)
	if all[0].LogLost != 5 {
		t.Errorf("lost %d bytes, want 5", all[0].LogLost)
	}
	sh.exit()
	k.must(k.Drain(ctx, "c"))
	if out, _ := logged(t, k.log); out != "kept\nagain\n" {
		t.Errorf("log: %q", out)
	}
	if said := k.said.String(); !strings.Contains(said, "cannot be written") || !strings.Contains(said, "lost_bytes=5") {
		t.Errorf("said: %s", said)
	}
}

func TestStreamErrors(t *testing.T) {
	k := newKeeper(t)
	ctx := ctxT(t)
	_, err := k.OpenStream(ctx, StreamSpec{ID: "../x"})
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"id is a path", err, cnm.ErrInvalid},
		{"unknown, started", k.Started(ctx, "nope"), cnm.ErrNotFound},
		{"unknown, stdin", k.CloseStdin(ctx, "nope"), cnm.ErrNotFound},
		{"close a path", k.CloseStream(ctx, "a/b"), cnm.ErrInvalid},
		{"no socket", k.Attach(ctx, "nope", AttachOptions{}, nil, nil), cnm.ErrInvalid},
		{"no folder for the log", openErr(k, StreamSpec{ID: "c", LogPath: "/nonexistent/x.log"}), cnm.ErrInvalid},
		{"relative log", openErr(k, StreamSpec{ID: "c", LogPath: "x.log"}), cnm.ErrInvalid},
		{"not a socket", k.Attach(ctx, open1(k), AttachOptions{Stdout: true}, devNull(t), nil), cnm.ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := k.Drain(short, "ok"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain of a running stream: %v", err)
	}
}

func openErr(k *testKeeper, s StreamSpec) error {
	_, err := k.OpenStream(ctxT(k.t), s)
	return err
}

func open1(k *testKeeper) string {
	k.declare(StreamSpec{ID: "ok"})
	return "ok"
}

func devNull(t testing.TB) *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
