package keeper

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container/logs"
	"linkspan/internal/testlog"
)

// files are a log's, the current one first, with their sizes' order kept.
func logFiles(t testing.TB, path string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		names = append(names, strings.TrimPrefix(p, filepath.Dir(path)+"/"))
	}
	slices.Sort(names)
	return names
}

// content is a file's, unpacked.
func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil && strings.HasSuffix(path, ".gz") {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(z)
		}
	}
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// write appends numbered lines of 20 bytes to a log.
func writeLines(t testing.TB, l *logFile, from, n, batch int) {
	t.Helper()
	for i := from; i < from+n; i += batch {
		var b []byte
		for j := i; j < min(i+batch, from+n); j++ {
			b = fmt.Appendf(b, "line %014d\n", j)
		}
		if err := l.write(b); err != nil {
			t.Fatal(err)
		}
	}
}

func openTestLog(t testing.TB, o LogOptions) *logFile {
	t.Helper()
	l, err := openLog(filepath.Join(t.TempDir(), "c.log"), o, slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

func TestRotate(t *testing.T) {
	for _, c := range []struct {
		name         string
		o            LogOptions
		lines, batch int
		want         map[string]int // lines in each
		first        int            // the oldest that is kept
	}{
		{"no bound", LogOptions{}, 100, 7, map[string]int{"c.log": 100}, 0},
		{"number without size", LogOptions{MaxFile: 3}, 100, 7, map[string]int{"c.log": 100}, 0},
		{"at the size", LogOptions{MaxSize: 200, MaxFile: 3}, 10, 1, map[string]int{"c.log": 10}, 0},
		{"one more", LogOptions{MaxSize: 200, MaxFile: 3}, 11, 1, map[string]int{"c.log": 1, "c.log.1": 10}, 0},
		{"a size between lines", LogOptions{MaxSize: 190, MaxFile: 3}, 11, 4, map[string]int{"c.log": 1, "c.log.1": 10}, 0},
		{"one byte less than lines", LogOptions{MaxSize: 181, MaxFile: 3}, 11, 4, map[string]int{"c.log": 1, "c.log.1": 10}, 0},
		{"three files", LogOptions{MaxSize: 200, MaxFile: 3}, 45, 1, map[string]int{"c.log": 5, "c.log.1": 10, "c.log.2": 10}, 20},
		{"three files in one write", LogOptions{MaxSize: 200, MaxFile: 3}, 45, 45, map[string]int{"c.log": 5, "c.log.1": 10, "c.log.2": 10}, 20},
		{"one file", LogOptions{MaxSize: 200, MaxFile: 1}, 45, 3, map[string]int{"c.log": 5}, 40},
		{"no number", LogOptions{MaxSize: 200}, 45, 3, map[string]int{"c.log": 5}, 40},
		{"less than a line", LogOptions{MaxSize: 1, MaxFile: 3}, 5, 5, map[string]int{"c.log": 1, "c.log.1": 1, "c.log.2": 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := openTestLog(t, c.o)
			writeLines(t, l, 0, c.lines, c.batch)
			got := logFiles(t, l.path)
			if len(got) != len(c.want) {
				t.Errorf("files %q", got)
			}
			slices.Reverse(got) // .2, .1, the current one
			var all strings.Builder
			for _, name := range got {
				s := content(t, filepath.Join(filepath.Dir(l.path), name))
				if n := strings.Count(s, "\n"); n != c.want[name] {
					t.Errorf("%s has %d lines, want %d", name, n, c.want[name])
				}
				all.WriteString(s)
			}
			var want strings.Builder
			for i := c.first; i < c.lines; i++ {
				fmt.Fprintf(&want, "line %014d\n", i)
			}
			if all.String() != want.String() {
				t.Errorf("they hold %q", all.String())
			}
		})
	}
}

// TestRotateCompressed: every old file becomes a .gz of the same time; a kill in
// the middle leaves what the next open puts right.
func TestRotateCompressed(t *testing.T) {
	o := LogOptions{MaxSize: 200, MaxFile: 4, Compress: true}
	l := openTestLog(t, o)
	for i := range 3 {
		writeLines(t, l, 10*i, 10, 10)
		if i < 2 {
			writeLines(t, l, 10*i+10, 0, 1)
		}
	}
	writeLines(t, l, 30, 1, 1)
	eventually(t, "old files are compressed", func() bool { return !l.compressing() })
	l.compressOld() // what came while it was busy
	eventually(t, "old files are compressed", func() bool {
		return slices.Equal(logFiles(t, l.path), []string{"c.log", "c.log.1.gz", "c.log.2.gz"}) ||
			slices.Equal(logFiles(t, l.path), []string{"c.log", "c.log.1.gz", "c.log.2.gz", "c.log.3.gz"}) ||
			slices.Equal(logFiles(t, l.path), []string{"c.log", "c.log.1.gz"})
	})
	var all string
	for n := 3; n > 0; n-- {
		if exists(l.old(n) + gz) {
			all += content(t, l.old(n)+gz)
		}
	}
	all += content(t, l.path)
	var want strings.Builder
	for i := range 31 {
		fmt.Fprintf(&want, "line %014d\n", i)
	}
	if all != want.String() {
		t.Errorf("they hold %q", all)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	// As a kill leaves it.
	was := content(t, l.old(1)+gz)
	for name, text := range map[string]string{l.old(1): was, l.old(1) + ".gz.new": "half", l.path + ".new": "", l.old(4): "too many", l.old(5) + gz: "too many"} {
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	l2, err := openLog(l.path, o, l.logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l2.close()
	eventually(t, "it is put right", func() bool { return !l2.compressing() })
	for _, f := range logFiles(t, l.path) {
		if strings.HasSuffix(f, ".new") || f == "c.log.1" || strings.HasPrefix(f, "c.log.4") || strings.HasPrefix(f, "c.log.5") {
			t.Errorf("%s is there", f)
		}
	}
	if got := content(t, l.old(1)+gz); got != was {
		t.Errorf("%q, was %q", got, was)
	}
}

// TestRotateThatFails: the log goes on in its file, which is said and tried again
// later; nothing is lost.
func TestRotateThatFails(t *testing.T) {
	l := openTestLog(t, LogOptions{MaxSize: 100, MaxFile: 2})
	var said testlog.Log
	l.logger = slog.New(slog.NewTextHandler(&said, nil))
	if err := os.MkdirAll(l.old(1)+"/x", 0o700); err != nil { // neither renamed over nor removed
		t.Fatal(err)
	}
	writeLines(t, l, 0, 50, 3)
	if n := strings.Count(content(t, l.path), "\n"); n != 50 {
		t.Errorf("%d lines of 50", n)
	}
	if n := strings.Count(said.String(), "cannot be rotated"); n != 1 {
		t.Errorf("said %d times: %s", n, said.String())
	}
	os.RemoveAll(l.old(1))
	l.notBefore = time.Time{}
	writeLines(t, l, 50, 1, 1)
	if n := strings.Count(content(t, l.path), "\n"); n != 1 {
		t.Errorf("%d lines in the new file", n)
	}
	// Truncated and removed by hand.
	writeLines(t, l, 0, 4, 4)
	if err := os.Truncate(l.path, 0); err != nil {
		t.Fatal(err)
	}
	writeLines(t, l, 90, 1, 1)
	if got := content(t, l.path); got != "line 00000000000090\n" {
		t.Errorf("after truncation %q", got)
	}
	os.Remove(l.path)
	writeLines(t, l, 91, 20, 1)
	if !exists(l.path) {
		t.Error("a removed log does not come back with the next rotation")
	}
}

// TestLogOptions: through the keeper, with attributes; options that change when
// the stream is declared again, living or ended.
func TestLogOptions(t *testing.T) {
	k := newKeeper(t)
	for _, o := range []LogOptions{{MaxSize: -1}, {MaxFile: -1}} {
		if _, err := k.OpenStream(ctxT(t), StreamSpec{ID: "c", LogPath: k.log, Log: o}); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	spec := StreamSpec{ID: "c", LogPath: "log", Log: LogOptions{MaxSize: 1000, MaxFile: 3, Attrs: map[string]string{"tag": "a<b", "env": "x"}}}
	sh := newShim(t, k.declare(spec))
	k.must(k.Started(ctxT(t), "c"))
	print := func(from, n int) {
		for i := from; i < from+n; i++ {
			fmt.Fprintf(sh.Out, "%04d\n", i)
		}
	}
	print(0, 2)
	eventually(t, "it is logged", func() bool { return strings.Count(content(t, k.log), "\n") == 2 })
	if got := content(t, k.log); !strings.HasPrefix(got, `{"log":"0000\n","stream":"stdout","attrs":{"env":"x","tag":"a\u003cb"},"time":"20`) {
		t.Errorf("%s", got)
	}
	// Declared again while it lives, by the next daemon.
	spec.Log = LogOptions{MaxSize: 200, MaxFile: 2}
	k.declare(spec)
	print(2, 20)
	eventually(t, "it rotates by the new options", func() bool {
		return slices.Equal(logFiles(t, k.log), []string{"c.log", "c.log.1"}) && strings.Contains(content(t, k.log), "0021")
	})
	if got := content(t, k.log); strings.Contains(got, "attrs") || strings.Count(got, "\n") > 3 {
		t.Errorf("%s", got)
	}
	all, err := k.Streams(ctxT(t))
	if err != nil || len(all) != 1 || all[0].Log.MaxSize != 200 || all[0].Log.Attrs != nil {
		t.Errorf("%+v %v", all, err)
	}
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
	// Started anew with one file only: the old one goes.
	spec.Log = LogOptions{MaxSize: 200, MaxFile: 1}
	sh = newShim(t, k.declare(spec))
	k.must(k.Started(ctxT(t), "c"))
	if got := logFiles(t, k.log); !slices.Equal(got, []string{"c.log"}) {
		t.Errorf("files %q", got)
	}
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
}

// TestFollowAcrossRotation: followers (docker logs -f) and attached clients that
// get the log first lose nothing and see nothing twice, compressed or not, and
// across upgrades of the keeper.
func TestFollowAcrossRotation(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %v", compressed), func(t *testing.T) {
			k, cfg := newProcess(t)
			sh := newShim(t, k.declare(StreamSpec{ID: "c", LogPath: "log", Log: LogOptions{MaxSize: 30_000, MaxFile: 500, Compress: compressed}}))
			k.must(k.Started(ctxT(t), "c"))
			const lines = 30_000
			var want strings.Builder
			for i := range lines {
				fmt.Fprintf(&want, "line %06d\n", i)
			}
			done := make(chan struct{})
			var work sync.WaitGroup
			var followed testlog.Log
			work.Go(func() {
				o := logs.Options{Stdout: true, Stderr: true, Follow: true, Tail: -1}
				if err := logs.Copy(context.Background(), k.log, o, done, &followed, nil); err != nil {
					t.Error(err)
				}
			})
			rest := want.String()
			for i := range 4 {
				io.WriteString(sh.Out, rest[:len(rest)/(4-i)])
				rest = rest[len(rest)/(4-i):]
				c := k.attach("c", AttachOptions{Stdout: true, Replay: true})
				work.Go(func() {
					if got := c.all(t); got != want.String() {
						t.Errorf("client %d got %d bytes of %d", i, len(got), want.Len())
					}
				})
				if i == 1 || i == 2 {
					k.must(k.Upgrade(ctxT(t), cfg.Exe))
				}
			}
			io.WriteString(sh.Out, rest)
			sh.exit()
			k.must(k.Drain(ctxT(t), "c"))
			close(done)
			work.Wait()
			if got := followed.String(); got != want.String() {
				t.Errorf("the follower got %d bytes of %d", len(got), want.Len())
			}
			var read testlog.Log
			if err := logs.Copy(t.Context(), k.log, logs.Options{Stdout: true, Stderr: true, Tail: -1}, nil, &read, nil); err != nil || read.String() != want.String() {
				t.Errorf("the log's files have %d bytes of %d: %v", len(read.String()), want.Len(), err)
			}
			if n := len(logFiles(t, k.log)); n < 4 {
				t.Errorf("only %d files", n)
			}
			k.must(k.CloseStream(ctxT(t), "c"))
		})
	}
}

// TestReadersAtEachStep: between any two steps of a rotation, who reads all files
// finds the last entries in order, as many as the files hold, and a follower has every
// entry once. (The steps of the reader: container/logs, TestEachLook.)
func TestReadersAtEachStep(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %v", compressed), func(t *testing.T) {
			const perFile, files = 3, 4
			entry := func(i int) []byte {
				at := time.Unix(1e9, int64(i)).UTC().AppendFormat(nil, time.RFC3339Nano)
				return appendEntry(nil, fmt.Appendf(nil, "%04d\n", i), "stdout", nil, at)
			}
			l := openTestLog(t, LogOptions{MaxSize: int64(perFile * len(entry(0))), MaxFile: files, Compress: compressed})
			written, steps := 0, map[string]int{}
			want := func(from int) string {
				var b strings.Builder
				for i := from; i < written; i++ {
					fmt.Fprintf(&b, "%04d\n", i)
				}
				return b.String()
			}
			var followed testlog.Log
			done, ended := make(chan struct{}), make(chan error, 1)
			l.step = func(step string) {
				steps[step]++
				var b testlog.Log
				if err := logs.Copy(t.Context(), l.path, logs.Options{Stdout: true, Tail: -1}, nil, &b, nil); err != nil {
					t.Error(err)
				}
				least := max(0, written-perFile*(files-1))
				if got := b.String(); !strings.HasSuffix(want(0), got) || len(got) < len(want(least)) {
					t.Errorf("before %q the files hold %q, want %q at least", step, got, want(least))
				}
				eventually(t, "the follower has it", func() bool { return followed.String() == want(0) })
			}
			go func() {
				o := logs.Options{Stdout: true, Follow: true, Tail: -1}
				ended <- logs.Copy(context.Background(), l.path, o, done, &followed, nil)
			}()
			for ; written < 10*perFile; written++ {
				if err := l.write(entry(written)); err != nil {
					t.Error(err)
				}
			}
			close(done)
			if err := <-ended; err != nil || followed.String() != want(0) {
				t.Errorf("%v, followed %q", err, followed.String())
			}
			for _, step := range []string{"remove", "move", "link", "replace", "compress"} {
				if steps[step] < 3 {
					t.Errorf("%d steps %q", steps[step], step)
				}
			}
		})
	}
}

// TestRotationCutShort: what a kill left between two steps of a rotation is told once,
// and the rotations after it leave no hole.
func TestRotationCutShort(t *testing.T) {
	for _, at := range []string{"remove", "move", "link", "replace"} {
		o := LogOptions{MaxSize: 60, MaxFile: 5}
		l := openTestLog(t, o)
		writeLines(t, l, 0, 9, 1)
		l.step = func(step string) {
			if step == at {
				panic(at) // as if killed there
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no step %q", at)
				}
			}()
			writeLines(t, l, 9, 1, 1)
		}()
		next, err := openLog(l.path, o, l.logger, nil)
		if err != nil {
			t.Fatal(err)
		}
		writeLines(t, next, 9, 5, 1)
		var all string
		for _, name := range slices.Backward(logFiles(t, l.path)) {
			all += content(t, filepath.Join(filepath.Dir(l.path), name))
		}
		var want strings.Builder
		for i := range 14 {
			fmt.Fprintf(&want, "line %014d\n", i)
		}
		if got := logFiles(t, l.path); all != want.String() || len(got) != 5 {
			t.Errorf("cut short before %q: files %q hold\n%s", at, got, all)
		}
		next.close()
	}
}
