package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// unixPair is a connected pair of unix stream sockets.
func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}

func TestFramesAndDescriptors(t *testing.T) {
	a, b := unixPair(t)
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	r1, w1 := pipe()
	r2, w2 := pipe()
	big := bytes.Repeat([]byte("x"), 1<<20)
	fd1, fd2 := int(w1.Fd()), int(w2.Fd())
	go func() {
		for i, f := range []struct {
			v     any
			files []int
		}{
			{request{ID: 1, Op: "one"}, nil},
			{request{ID: 2, Op: "two"}, []int{fd1}},
			{request{ID: 3, Op: "big", Body: mustJSON(t, string(big))}, []int{fd2, fd1}},
			{request{ID: 4, Op: "four"}, nil},
		} {
			frame, err := makeFrame(f.v, len(f.files))
			if err == nil {
				err = sendFrame(a, frame, f.files...)
			}
			if err != nil {
				t.Errorf("frame %d: %v", i, err)
			}
		}
		a.Close()
	}()
	rd := &frameReader{c: b}
	var got []string
	for {
		body, files, err := rd.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var q request
		if err := json.Unmarshal(body, &q); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(q.ID, q.Op, len(files)))
		for i, fd := range files {
			f := os.NewFile(uintptr(fd), "w")
			fmt.Fprintf(f, "%s%d ", q.Op, i)
			f.Close()
		}
	}
	if want := "[1one0 2two1 3big2 4four0]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	w1.Close()
	w2.Close()
	one, _ := io.ReadAll(r1)
	two, _ := io.ReadAll(r2)
	if string(one) != "two0 big1 " || string(two) != "big0 " {
		t.Errorf("descriptors went to the wrong frames: %q %q", one, two)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrameViolations(t *testing.T) {
	for name, raw := range map[string][]byte{
		"too long":             {0xff, 0xff, 0xff, 0xff, 0},
		"too many descriptors": {0, 0, 0, 0, 9},
		"descriptor missing":   {0, 0, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := unixPair(t)
			a.Write(raw)
			a.Close()
			if _, _, err := (&frameReader{c: b}).next(); !errors.Is(err, errFrame) {
				t.Errorf("got %v", err)
			}
		})
	}
	a, b := unixPair(t)
	a.Write([]byte{0, 0, 0, 9, 0, 'h'})
	a.Close()
	if _, _, err := (&frameReader{c: b}).next(); err != io.ErrUnexpectedEOF {
		t.Errorf("a torn frame: %v", err)
	}
}

func TestErrorsTravel(t *testing.T) {
	travel := func(err error) error {
		var w wireError
		if jerr := json.Unmarshal(mustJSON(t, toWire(err)), &w); jerr != nil {
			t.Fatal(jerr)
		}
		return w.err()
	}
	for _, c := range classes {
		got := travel(cnm.Errorf(c.class, "stream %s: %w", "x", io.EOF))
		if !errors.Is(got, c.class) || got.Error() != "stream x: EOF" {
			t.Errorf("%s: %v", c.word, got)
		}
	}
	if got := travel(errors.New("plain")); got.Error() != "plain" {
		t.Errorf("plain: %v", got)
	}
	in := &PortError{Index: 3, Proto: "tcp", Addr: netip.MustParseAddr("127.0.0.1"), Port: 80, Errno: int(syscall.EADDRINUSE)}
	got := travel(fmt.Errorf("wrapped: %w", in))
	var pe *PortError
	if !errors.As(got, &pe) || *pe != *in {
		t.Errorf("PortError: %#v", got)
	}
	if !errors.Is(got, cnm.ErrConflict) || !errors.Is(got, syscall.EADDRINUSE) {
		t.Errorf("PortError is of no class: %v", got)
	}
	if want := "host port 127.0.0.1:80/tcp cannot be reserved: address already in use"; got.Error() != want {
		t.Errorf("got %q", got.Error())
	}
}

// FuzzCutFrame: no input makes the parser panic, lose bytes or take more than
// is there.
func FuzzCutFrame(f *testing.F) {
	whole, _ := makeFrame(request{ID: 7, Op: opInfo}, 0)
	f.Add(whole)
	f.Add(whole[:7])
	f.Add([]byte{0, 0, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		rest := in
		for {
			before := len(rest)
			body, files, next, ok, err := cutFrame(rest)
			if err != nil {
				return
			}
			if !ok {
				if len(next) != before {
					t.Fatalf("%d bytes left of %d, and no frame", len(next), before)
				}
				return
			}
			if headerLen+len(body)+len(next) != before || files > maxFiles {
				t.Fatalf("frame of %d and %d left of %d, %d descriptors", len(body), len(next), before, files)
			}
			var q request
			_ = json.Unmarshal(body, &q)
			rest = next
		}
	})
}
