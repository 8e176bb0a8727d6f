package logs

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/testlog"
)

// rotor writes a log as the keeper does: full files become path.1, path.2 and so
// on, compressed if so wished.
type rotor struct {
	t        *testing.T
	path     string
	f        *os.File
	size     int
	max      int
	files    int
	compress bool
	// For rotations in single steps, of files with one entry:
	links bool
	count int
	z     *gzip.Writer
}

func (r *rotor) name(i int) string { return (&chain{path: r.path}).name(i) }

func newRotor(t *testing.T, max, files int, compress bool) *rotor {
	r := &rotor{t: t, path: filepath.Join(t.TempDir(), "json.log"), max: max, files: files, compress: compress}
	r.open()
	t.Cleanup(func() { r.f.Close() })
	return r
}

func (r *rotor) check(err error) {
	r.t.Helper()
	if err != nil && !os.IsNotExist(err) {
		r.t.Error(err)
	}
}

func (r *rotor) open() {
	var err error
	r.f, err = os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	r.check(err)
	r.size = 0
}

func (r *rotor) write(l string) {
	if r.size+len(l) > r.max && r.size > 0 {
		r.rotate()
	}
	n, err := io.WriteString(r.f, l)
	r.check(err)
	r.size += n
}

func (r *rotor) rotate() {
	f, err := os.OpenFile(r.path+".new", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	r.check(err)
	for i := r.files - 1; i > 1; i-- {
		for _, ext := range []string{"", ".gz"} {
			r.check(os.Rename(r.name(i-1)+ext, r.name(i)+ext))
		}
	}
	if r.files > 1 {
		r.check(os.Link(r.path, r.name(1)))
	}
	r.check(os.Rename(r.path+".new", r.path))
	r.f.Close()
	r.f, r.size = f, 0
	if r.compress && r.files > 2 {
		r.gzip(r.name(2))
	}
}

func (r *rotor) gzip(name string) {
	if r.zip(name) {
		r.check(os.Remove(name))
	}
}

// zip makes the compressed file beside the plain one, as the keeper does.
func (r *rotor) zip(name string) bool {
	b, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	st, err := os.Stat(name)
	r.check(err)
	f, err := os.Create(name + ".tmp")
	r.check(err)
	if r.z == nil {
		r.z = gzip.NewWriter(f)
	}
	r.z.Reset(f)
	r.z.Comment = fmt.Sprintf("inode %d", inode(st))
	_, err = r.z.Write(b)
	r.check(err)
	r.check(r.z.Close())
	r.check(f.Close())
	r.check(os.Chtimes(name+".tmp", st.ModTime(), st.ModTime()))
	r.check(os.Rename(name+".tmp", name+".gz"))
	return true
}

func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%d\n", i)
	}
	return b.String()
}

func TestRotatedFiles(t *testing.T) {
	for _, compress := range []bool{false, true} {
		r := newRotor(t, 400, 10, compress)
		for i := range 30 {
			r.write(line(i, []string{"stdout", "stderr"}[i%2], fmt.Sprintf("%d\n", i)))
		}
		if list, _ := filepath.Glob(r.path + "*"); len(list) < 5 {
			t.Fatalf("only %d files: %q", len(list), list)
		}
		if got := read(t, r.path, all()); got != numbers(0, 30) {
			t.Errorf("compressed %v: all: %q", compress, got)
		}
		for n := range 33 {
			o := all()
			o.Tail = n
			if got := read(t, r.path, o); got != numbers(max(0, 30-n), 30) {
				t.Errorf("compressed %v: tail %d: %q", compress, n, got)
			}
		}
		o := all()
		o.Tail, o.Stderr = 3, false
		if got := read(t, r.path, o); got != "24\n26\n28\n" {
			t.Errorf("tail of stdout: %q", got)
		}
		o = all()
		o.Since, o.Until = t0.Add(3*time.Second), t0.Add(20*time.Second)
		if got := read(t, r.path, o); got != numbers(3, 21) {
			t.Errorf("a window: %q", got)
		}
	}
}

func TestBrokenRotatedFile(t *testing.T) {
	r := newRotor(t, 400, 10, true)
	for i := range 30 {
		r.write(line(i, "stdout", fmt.Sprintf("%d\n", i)))
	}
	if err := os.WriteFile(r.path+".3.gz", []byte("this is no gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r.path, all()); !strings.HasSuffix(got, "28\n29\n") || !strings.HasPrefix(got, "0\n1\n") {
		t.Errorf("%q", got)
	}
}

// A follower gets every line once, in order, while the log rotates under it.
func TestFollowRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		r := newRotor(t, 4000, 200, compress)
		var out testlog.Log
		done, end := make(chan struct{}), make(chan error, 1)
		o := all()
		o.Follow = true
		go func() { end <- Copy(t.Context(), r.path, o, done, &out, nil) }()
		const n = 3000
		for i := range n {
			r.write(line(i, "stdout", fmt.Sprintf("%d\n", i)))
			if i%100 == 0 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		close(done)
		if err := <-end; err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != numbers(0, n) {
			t.Errorf("compressed %v: %d lines of %d", compress, strings.Count(got, "\n"), n)
		}
	}
}

// A follower that is slow finds its place again, also when its file was compressed
// meanwhile.
func TestFollowBehind(t *testing.T) {
	for _, compress := range []bool{false, true} {
		r := newRotor(t, 400, 50, compress)
		r.write(line(0, "stdout", "0\n"))
		out := &gate{open: make(chan struct{})}
		done, end := make(chan struct{}), make(chan error, 1)
		o := all()
		o.Follow = true
		go func() { end <- Copy(t.Context(), r.path, o, done, out, nil) }()
		eventually(t, "the first line", func() bool { return out.String() != "" })
		for i := 1; i < 60; i++ {
			r.write(line(i, "stdout", fmt.Sprintf("%d\n", i)))
		}
		close(out.open)
		close(done)
		if err := <-end; err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != numbers(0, 60) {
			t.Errorf("compressed %v: %q", compress, got)
		}
	}
}

// gate is a client that takes the first write and then waits.
type gate struct {
	testlog.Log
	open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	n, err := g.Log.Write(p)
	<-g.open
	return n, err
}

// A log of one file that was full goes on in another.
func TestFollowOneFile(t *testing.T) {
	r := newRotor(t, 400, 1, false)
	var out testlog.Log
	done, end := make(chan struct{}), make(chan error, 1)
	o := all()
	o.Follow = true
	go func() { end <- Copy(t.Context(), r.path, o, done, &out, nil) }()
	for i := range 20 {
		r.write(line(i, "stdout", fmt.Sprintf("%d\n", i)))
		eventually(t, "the line", func() bool { return out.String() == numbers(0, i+1) })
	}
	close(done)
	if err := <-end; err != nil {
		t.Fatal(err)
	}
}

// What a killed keeper left behind holds nobody up.
func TestStaleNew(t *testing.T) {
	r := newRotor(t, 400, 5, false)
	for i := range 10 {
		r.write(line(i, "stdout", fmt.Sprintf("%d\n", i)))
	}
	if err := os.WriteFile(r.path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(r.path+".new", old, old); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r.path, all()); got != numbers(0, 10) {
		t.Errorf("%q", got)
	}
}

// A log of one file is emptied by somebody else (copytruncate).
func TestFollowTruncated(t *testing.T) {
	path := write(t, line(0, "stdout", "zero\n"), line(1, "stdout", "one\n"))
	var out testlog.Log
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := all()
	o.Follow = true
	go func() { _ = Copy(ctx, path, o, nil, &out, nil) }()
	eventually(t, "what was there", func() bool { return out.String() == "zero\none\n" })
	if err := os.WriteFile(path, []byte(line(2, "stdout", "two\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what came after", func() bool { return strings.HasSuffix(out.String(), "two\n") })
}

// Reading beside a rotation finds every line that there is, once.
func TestReadWhileRotating(t *testing.T) {
	r := newRotor(t, 1000, 400, false)
	stop := make(chan struct{})
	finished := make(chan struct{})
	written := 0
	go func() {
		defer close(finished)
		for ; written < 4000; written++ {
			select {
			case <-stop:
				return
			default:
			}
			r.write(line(written, "stdout", fmt.Sprintf("%d\n", written)))
			time.Sleep(100 * time.Microsecond)
		}
	}()
	defer func() { close(stop); <-finished }()
	for range 30 {
		got := read(t, r.path, all())
		n := strings.Count(got, "\n")
		if got != numbers(0, n) {
			t.Fatalf("%d lines, not in order", n)
		}
	}
}
