package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/internal/testlog"
)

// testKeeper is a keeper in this process, and a client of it.
type testKeeper struct {
	*Client
	t    testing.TB
	dir  string
	log  string // container log for streams
	said *testlog.Log
	stop context.CancelFunc
	done chan error
}

// newKeeper starts one; at the end of the test it is stopped, and no descriptor
// may be left.
func newKeeper(t testing.TB, change ...func(*Config)) *testKeeper {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	k := &testKeeper{t: t, dir: dir, log: filepath.Join(dir, "c.log"), said: &testlog.Log{}, done: make(chan error, 1)}
	ready := make(chan struct{})
	cfg := Config{
		Socket: filepath.Join(dir, "sock"), Dir: filepath.Join(dir, "k"), Name: "test", Version: "1",
		Logger: slog.New(slog.NewTextHandler(k.said, nil)), Ready: func() { close(ready) },
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	go func() { k.done <- Serve(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-k.done:
		t.Fatal(err)
	}
	if k.Client, err = Dial(cfg.Socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Client.Close()
		cancel()
		if err := <-k.done; err != nil {
			t.Error(err)
		}
		eventually(t, "descriptors left behind", func() bool {
			runtime.GC() // Go keeps pipes for splice until then
			return openFiles(t) <= before
		})
		os.RemoveAll(dir)
		if t.Failed() {
			t.Log(k.said.String())
		}
	})
	return k
}

func ctxT(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// must fails the test on an error.
func (k *testKeeper) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// declare opens a stream with a log of its own.
func (k *testKeeper) declare(spec StreamSpec) Stream {
	k.t.Helper()
	if spec.LogPath == "log" {
		spec.LogPath = k.log
	}
	st, err := k.OpenStream(ctxT(k.t), spec)
	k.must(err)
	return st
}

// shim opens the FIFOs as containerd's shim does: both ends of each, and two of
// stdin, of which CloseIO closes the writing one.
type shim struct {
	Out, Err   *os.File
	In         *os.File
	rest       []*os.File
	inKeepOpen *os.File
}

func newShim(t testing.TB, st Stream) *shim {
	t.Helper()
	s := &shim{}
	opens := func(path string, flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s.Out = opens(st.Stdout, os.O_WRONLY)
	s.rest = append(s.rest, opens(st.Stdout, os.O_RDONLY))
	if st.Stderr != "" {
		s.Err = opens(st.Stderr, os.O_WRONLY)
		s.rest = append(s.rest, opens(st.Stderr, os.O_RDONLY))
	}
	if st.Stdin != "" {
		// Both wait for the other end, as the shim's goroutines do.
		var wg sync.WaitGroup
		wg.Go(func() { s.inKeepOpen = opens(st.Stdin, os.O_WRONLY) })
		wg.Go(func() { s.In = opens(st.Stdin, os.O_RDONLY) })
		wg.Wait()
	}
	t.Cleanup(s.exit)
	return s
}

// closeIO is the task's CloseIO.
func (s *shim) closeIO() { s.inKeepOpen.Close() }

// exit is the container's end: the shim's copiers see EOF and close.
func (s *shim) exit() {
	for _, f := range append([]*os.File{s.Out, s.Err, s.In, s.inKeepOpen}, s.rest...) {
		if f != nil {
			f.Close()
		}
	}
}

// attached is a client as the daemon hands it over: one end of a socket pair.
type attached struct {
	*net.UnixConn
	ended chan bool
}

func (k *testKeeper) attach(id string, o AttachOptions) *attached {
	k.t.Helper()
	a := k.tryAttach(id, o)
	if a == nil {
		k.t.FailNow()
	}
	return a
}

func (k *testKeeper) tryAttach(id string, o AttachOptions) *attached {
	k.t.Helper()
	mine, theirs := unixPair(k.t)
	f, err := theirs.File()
	k.must(err)
	a := &attached{UnixConn: mine, ended: make(chan bool, 1)}
	err = k.Attach(ctxT(k.t), id, o, f, func(d bool) { a.ended <- d })
	f.Close()
	theirs.Close()
	k.must(err)
	return a
}

// all reads until EOF.
func (a *attached) all(t testing.TB) string {
	t.Helper()
	_ = a.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(a)
	if err != nil {
		t.Errorf("client read: %v (after %d bytes)", err, len(b))
	}
	return string(b)
}

// expect reads exactly want.
func (a *attached) expect(t testing.TB, want string) {
	t.Helper()
	_ = a.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(a, got); err != nil || string(got) != want {
		t.Fatalf("client got %q (%v), want %q", got[:n], err, want)
	}
}

// logged is the container log's text, stream by stream.
func logged(t testing.TB, path string) (stdout, stderr string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	for line := range bytes.Lines(raw) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if e.Stream == "stderr" {
			errs.WriteString(e.Log)
		} else {
			out.WriteString(e.Log)
		}
	}
	return out.String(), errs.String()
}
