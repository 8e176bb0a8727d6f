package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"linkspan/internal/testlog"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func line(i int, stream, text string) string {
	b, _ := json.Marshal(map[string]string{"log": text, "stream": stream, "time": t0.Add(time.Duration(i) * time.Second).Format(time.RFC3339Nano)})
	return string(b) + "\n"
}

func write(t *testing.T, lines ...string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "json.log")
	if err := os.WriteFile(f, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, path string, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Copy(t.Context(), path, o, nil, &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func all() Options { return Options{Stdout: true, Stderr: true, Tail: -1} }

func TestCopy(t *testing.T) {
	f := write(t, line(0, "stdout", "zero\n"), line(1, "stderr", "one\n"), line(2, "stdout", "two\n"), line(3, "stderr", "three"))
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Second) }
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"all", func(*Options) {}, "zero\none\ntwo\nthree"},
		{"stdout", func(o *Options) { o.Stderr = false }, "zero\ntwo\n"},
		{"stderr", func(o *Options) { o.Stdout = false }, "one\nthree"},
		{"tail 0", func(o *Options) { o.Tail = 0 }, ""},
		{"tail 1", func(o *Options) { o.Tail = 1 }, "three"},
		{"tail 2 of stdout", func(o *Options) { o.Tail, o.Stderr = 2, false }, "zero\ntwo\n"},
		{"tail beyond", func(o *Options) { o.Tail = 9 }, "zero\none\ntwo\nthree"},
		{"since", func(o *Options) { o.Since = at(2) }, "two\nthree"},
		{"until", func(o *Options) { o.Until = at(1) }, "zero\none\n"},
		{"window", func(o *Options) { o.Since, o.Until = at(1), at(2) }, "one\ntwo\n"},
		{"tail before until", func(o *Options) { o.Tail, o.Until = 1, at(1) }, "one\n"},
		{"timestamps", func(o *Options) { o.Tail, o.Timestamps = 1, true }, "2026-01-02T03:04:08.000006000Z three"},
		{"details", func(o *Options) { o.Tail, o.Timestamps, o.Details = 1, true, true }, "2026-01-02T03:04:08.000006000Z  three"},
		{"mux", func(o *Options) { o.Tail, o.Mux = 2, true }, "\x01\x00\x00\x00\x00\x00\x00\x04two\n\x02\x00\x00\x00\x00\x00\x00\x05three"},
	} {
		o := all()
		c.change(&o)
		if d := cmp.Diff(c.want, read(t, f, o)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestDamage(t *testing.T) {
	whole := line(1, "stdout", "whole\n")
	f := write(t, line(0, "stdout", "zero\n"), `{"log":"torn`+whole, "garbage\n", "\n", line(2, "stdout", "two\n"), `{"log":"unfin`)
	if got := read(t, f, all()); got != "zero\nwhole\ntwo\n" {
		t.Errorf("%q", got)
	}
	o := all()
	o.Tail = 2
	if got := read(t, f, o); got != "whole\ntwo\n" {
		t.Errorf("tail: %q", got)
	}
	if got := read(t, f+".none", all()); got != "" {
		t.Errorf("no file: %q", got)
	}
}

func TestDetails(t *testing.T) {
	o := all()
	o.Details = true
	e, ok := parse([]byte(`{"log":"x\n","stream":"stdout","attrs":{"b":"2 3","a":"1"},"time":"2026-01-02T03:04:05Z"}`))
	if got := string(o.render(&e)); !ok || got != "a=1,b=2+3 x\n" {
		t.Errorf("%q", got)
	}
}

// Lines of every length around the block size: the tail must begin at a line.
func TestTailAcrossBlocks(t *testing.T) {
	var lines []string
	for i, n := range []int{1, block - 90, block, 3 * block, 5, block - 60, 1, 1} {
		lines = append(lines, line(i, "stdout", strings.Repeat("x", n)+"\n"))
	}
	f := write(t, lines...)
	whole := read(t, f, all())
	for n := range len(lines) + 2 {
		o := all()
		o.Tail = n
		got := read(t, f, o)
		if c := strings.Count(got, "\n"); c != min(n, len(lines)) || !strings.HasSuffix(whole, got) {
			t.Errorf("tail %d gave %d lines", n, c)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	var out testlog.Log
	var flushes int
	done, end := make(chan struct{}), make(chan error, 1)
	o := all()
	o.Follow = true
	go func() { end <- Copy(t.Context(), path, o, done, &out, func() { flushes++ }) }()

	time.Sleep(20 * time.Millisecond)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, line(0, "stdout", "zero\n"))
	eventually(t, "the first line", func() bool { return out.String() == "zero\n" })
	// Half a line is not a line.
	l := line(1, "stdout", "one\n")
	fmt.Fprint(f, l[:20])
	time.Sleep(20 * time.Millisecond)
	if out.String() != "zero\n" {
		t.Errorf("half a line was read: %q", out.String())
	}
	fmt.Fprint(f, l[20:])
	eventually(t, "the second line", func() bool { return out.String() == "zero\none\n" })
	// What was written before done closed belongs to it.
	fmt.Fprint(f, line(2, "stdout", "two\n"))
	close(done)
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "zero\none\ntwo\n" || flushes < 2 {
		t.Errorf("%q after %d flushes", got, flushes)
	}
}

func TestFollowEnds(t *testing.T) {
	f := write(t, line(0, "stdout", "zero\n"))
	run := func(ctx context.Context, o Options, done chan struct{}) string {
		var out testlog.Log
		begin := time.Now()
		if err := Copy(ctx, f, o, done, &out, nil); err != nil {
			t.Error(err)
		}
		if time.Since(begin) > 30*time.Second {
			t.Error("ended late")
		}
		return out.String()
	}
	o := all()
	o.Follow = true

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := run(ctx, o, nil); got != "zero\n" {
		t.Errorf("cancelled: %q", got)
	}
	closed := make(chan struct{})
	close(closed)
	if got := run(t.Context(), o, closed); got != "zero\n" {
		t.Errorf("ended before: %q", got)
	}
	o.Until = time.Now().Add(50 * time.Millisecond)
	if got := run(t.Context(), o, nil); got != "zero\n" {
		t.Errorf("until: %q", got)
	}
	if got := func() string { o.Until = t0.Add(-time.Hour); return run(t.Context(), o, nil) }(); got != "" {
		t.Errorf("until long ago: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line(0, "stdout", "x\n")))
	f.Add([]byte(`{"log":"a{"log":"b","stream":"stdout","time":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := all()
		o.Mux, o.Details, o.Timestamps = true, true, true
		if e, ok := parse(b); ok {
			if out := o.render(&e); len(out) < 8 {
				t.Fatalf("%q", out)
			}
		}
	})
}
