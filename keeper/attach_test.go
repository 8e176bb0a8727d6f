package keeper

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// running declares and starts a stream.
func (k *testKeeper) running(spec StreamSpec) *shim {
	k.t.Helper()
	sh := newShim(k.t, k.declare(spec))
	k.must(k.Started(ctxT(k.t), spec.ID))
	return sh
}

// TestStdinEOF is `echo hi | docker run -i img cat`: the client types and
// half-closes before the shim is there at all.
func TestStdinEOF(t *testing.T) {
	k := newKeeper(t)
	told := make(chan string, 4)
	k.OnStdinClosed(func(id string) { told <- id })
	st := k.declare(StreamSpec{ID: "c", LogPath: "log", Stdin: true, StdinOnce: true})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true, Stderr: true, Pending: []byte("early ")})
	fmt.Fprint(client, "hi\n")
	client.CloseWrite()
	eventually(t, "stdin closes", func() bool { all, _ := k.Streams(ctxT(t)); return all[0].StdinClosed })
	select {
	case <-told:
		t.Fatal("told to call CloseIO before there is a shim")
	case <-time.After(20 * time.Millisecond):
	}
	sh := newShim(t, st)
	k.must(k.Started(ctxT(t), "c"))
	if id := <-told; id != "c" {
		t.Errorf("told of %q", id)
	}
	sh.closeIO()
	in, err := io.ReadAll(sh.In) // cat
	if err != nil || string(in) != "early hi\n" {
		t.Errorf("the process read %q, %v", in, err)
	}
	sh.Out.Write(in)
	sh.exit()
	if got := client.all(t); got != "early hi\n" {
		t.Errorf("the client got %q", got)
	}
}

func TestStdinWhileRunning(t *testing.T) {
	k := newKeeper(t)
	told := make(chan string, 4)
	k.OnStdinClosed(func(id string) { told <- id })
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: more than a pipe holds
	go func() {
		client.Write(big)
		client.CloseWrite()
	}()
	go func() { <-told; sh.closeIO() }()
	in, err := io.ReadAll(sh.In)
	if err != nil || !bytes.Equal(in, big) {
		t.Errorf("the process read %d bytes, %v", len(in), err)
	}
}

// TestStdinStaysOpen: without StdinOnce a client's end ends its attachment, and
// not the process's input.
func TestStdinStaysOpen(t *testing.T) {
	for _, tty := range []bool{false, true} {
		k := newKeeper(t)
		sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: tty, TTY: tty, LogPath: "log"})
		for i := range 3 {
			client := k.attach("c", AttachOptions{Stdin: true, Stdout: true})
			fmt.Fprintf(client, "cmd%d\n", i)
			client.CloseWrite()
			if got := client.all(t); got != "" {
				t.Errorf("client %d got %q", i, got)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(sh.In, buf); err != nil || string(buf) != fmt.Sprintf("cmd%d\n", i) {
				t.Errorf("the process read %q, %v", buf, err)
			}
		}
		if all, _ := k.Streams(ctxT(t)); all[0].StdinClosed || all[0].Ended {
			t.Errorf("tty %v: %+v", tty, all[0])
		}
		k.must(k.CloseStdin(ctxT(t), "c"))
		sh.closeIO()
		if rest, err := io.ReadAll(sh.In); err != nil || len(rest) > 0 {
			t.Errorf("after CloseStdin: %q %v", rest, err)
		}
	}
}

// TestProcessClosesStdin: a process that stops reading must not hang a client
// that goes on typing, nor lose its output.
func TestProcessClosesStdin(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true})
	sh.In.Close()
	if _, err := client.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("typing: %v", err)
	}
	fmt.Fprint(sh.Out, "done\n")
	sh.exit()
	if got := client.all(t); got != "done\n" {
		t.Errorf("got %q", got)
	}
}

func TestDetachKeys(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true, TTY: true, LogPath: "log"})
	keys := []byte{16, 17}
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true, DetachKeys: keys})
	client.Write([]byte("a\x10b\x10"))
	client.Write([]byte("\x11never"))
	if got := client.all(t); got != "" {
		t.Errorf("the client got %q", got)
	}
	if !<-client.ended {
		t.Error("the end was no detach")
	}
	client.Close()
	buf := make([]byte, 3)
	if _, err := io.ReadFull(sh.In, buf); err != nil || string(buf) != "a\x10b" {
		t.Errorf("the process read %q, %v", buf, err)
	}
	// The container goes on, and the next one can attach and type; its first keys
	// may have been read with the request.
	second := k.attach("c", AttachOptions{Stdin: true, Stdout: true, DetachKeys: keys, Pending: []byte("x\x10")})
	if _, err := io.ReadFull(sh.In, buf[:1]); err != nil || buf[0] != 'x' {
		t.Errorf("the process read %q, %v", buf[:1], err)
	}
	fmt.Fprint(sh.Out, "still here\r\n")
	second.expect(t, "still here\r\n")
	second.Write([]byte{17})
	if !<-second.ended {
		t.Error("the second end was no detach")
	}
	if all, _ := k.Streams(ctxT(t)); all[0].StdinClosed || all[0].Ended || all[0].Attached != 0 {
		eventually(t, "no one attached", func() bool { all, _ = k.Streams(ctxT(t)); return all[0].Attached == 0 })
		if all[0].StdinClosed || all[0].Ended {
			t.Errorf("after detaching: %+v", all[0])
		}
	}
}

// TestKeysWithoutTTY are data.
func TestKeysWithoutTTY(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	client.Write([]byte("\x10\x11!"))
	buf := make([]byte, 3)
	if _, err := io.ReadFull(sh.In, buf); err != nil || string(buf) != "\x10\x11!" {
		t.Errorf("the process read %q, %v", buf, err)
	}
}

// TestSlowReaderGetsEverything is `docker run img cat bigfile | slow`: 24 MiB of
// random bytes through a client that pauses, byte for byte.
func TestSlowReaderGetsEverything(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c", LogPath: "log"})
	client := k.attach("c", AttachOptions{Stdout: true})
	const size = 24 << 20
	sent := sha256.New()
	go func() {
		src := rand.NewChaCha8([32]byte{1})
		if _, err := io.CopyN(io.MultiWriter(sh.Out, sent), src, size); err != nil {
			t.Errorf("the container's write: %v", err)
		}
		sh.exit()
	}()
	got := sha256.New()
	buf := make([]byte, 256<<10)
	total := 0
	for i := 0; ; i++ {
		n, err := client.Read(buf)
		got.Write(buf[:n])
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%40 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if total != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Errorf("got %d bytes of %d, or other ones", total, size)
	}
}

// TestStoppedClientIsDropped: a client that takes nothing holds the container
// only for the stall limit; the log has everything, and other clients too.
func TestStoppedClientIsDropped(t *testing.T) {
	k := newKeeper(t, func(c *Config) { c.Stall = 300 * time.Millisecond })
	sh := k.running(StreamSpec{ID: "c", LogPath: "log"})
	stopped := k.attach("c", AttachOptions{Stdout: true})
	healthy := k.attach("c", AttachOptions{Stdout: true})
	line := strings.Repeat("z", 99) + "\n"
	const lines = 60000 // 6 MB: beyond queue and socket buffers
	go func() {
		for range lines {
			io.WriteString(sh.Out, line)
		}
		sh.exit()
	}()
	if got := healthy.all(t); len(got) != lines*len(line) {
		t.Errorf("the healthy client got %d bytes", len(got))
	}
	k.must(k.Drain(ctxT(t), "c"))
	if out, _ := logged(t, k.log); len(out) != lines*len(line) {
		t.Errorf("the log has %d bytes", len(out))
	}
	if <-stopped.ended {
		t.Error("it was told to have detached")
	}
	if !strings.Contains(k.said.String(), "attached client dropped") {
		t.Error("the keeper said nothing")
	}
}

// TestExecClientIsNotDropped: there is no log to fall back on.
func TestExecClientIsNotDropped(t *testing.T) {
	k := newKeeper(t, func(c *Config) { c.Stall = 50 * time.Millisecond })
	sh := k.running(StreamSpec{ID: "exec1"})
	client := k.attach("exec1", AttachOptions{Stdout: true})
	const size = 4 << 20
	go func() {
		sh.Out.Write(make([]byte, size))
		sh.exit()
	}()
	time.Sleep(300 * time.Millisecond)
	if got := client.all(t); len(got) != size {
		t.Errorf("got %d bytes", len(got))
	}
}

// TestClientGoes: the keeper notices without any output, also from a client that
// half-closed long ago, as the docker CLI does without -i.
func TestClientGoes(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c", LogPath: "log"})
	client := k.attach("c", AttachOptions{Stdout: true})
	client.CloseWrite()
	fmt.Fprint(sh.Out, "1\n")
	client.expect(t, "1\n")
	if all, _ := k.Streams(ctxT(t)); all[0].Attached != 1 {
		t.Errorf("a half-closed client counts as gone: %+v", all[0])
	}
	client.Close()
	if <-client.ended {
		t.Error("ended as detached")
	}
	eventually(t, "the client is gone", func() bool { all, _ := k.Streams(ctxT(t)); return all[0].Attached == 0 })
	fmt.Fprint(sh.Out, "2\n")
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
	if out, _ := logged(t, k.log); out != "1\n2\n" {
		t.Errorf("log %q", out)
	}
}

// TestKilledClientClosesStdin: with StdinOnce the death of `docker run -i` ends
// the process's input.
func TestKilledClientClosesStdin(t *testing.T) {
	k := newKeeper(t)
	told := make(chan string, 1)
	k.OnStdinClosed(func(id string) { told <- id })
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true, LogPath: "log"})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true})
	fmt.Fprint(client, "x")
	client.Close()
	<-told
	sh.closeIO()
	if in, err := io.ReadAll(sh.In); err != nil || string(in) != "x" {
		t.Errorf("the process read %q, %v", in, err)
	}
}

func TestAttachOverTCP(t *testing.T) {
	k := newKeeper(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	k.must(err)
	defer l.Close()
	mine, err := net.Dial("tcp", l.Addr().String())
	k.must(err)
	defer mine.Close()
	theirs, err := l.Accept()
	k.must(err)
	sh := k.running(StreamSpec{ID: "c", Stdin: true, StdinOnce: true, LogPath: "log"})
	f, err := theirs.(*net.TCPConn).File()
	k.must(err)
	k.must(k.Attach(ctxT(t), "c", AttachOptions{Stdin: true, Stdout: true, Stderr: true, Mux: true}, f, nil))
	f.Close()
	theirs.Close() // the daemon's copy; the connection lives on
	fmt.Fprint(mine, "typed")
	buf := make([]byte, 5)
	if _, err := io.ReadFull(sh.In, buf); err != nil || string(buf) != "typed" {
		t.Errorf("the process read %q, %v", buf, err)
	}
	fmt.Fprint(sh.Err, "e")
	// Input that no one reads must not turn the end into a reset.
	sh.In.Close()
	fmt.Fprint(mine, strings.Repeat("unread", 1000))
	time.Sleep(20 * time.Millisecond)
	sh.exit()
	_ = mine.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(mine)
	if err != nil || string(got) != "\x02\x00\x00\x00\x00\x00\x00\x01e" {
		t.Errorf("the client got %q, %v", got, err)
	}
}

// TestOnlyWhatWasAsked: a client of one output gets only that one.
func TestOnlyWhatWasAsked(t *testing.T) {
	k := newKeeper(t)
	sh := k.running(StreamSpec{ID: "c"})
	out := k.attach("c", AttachOptions{Stdout: true})
	errs := k.attach("c", AttachOptions{Stderr: true})
	none := k.attach("c", AttachOptions{})
	fmt.Fprint(sh.Out, "to out")
	fmt.Fprint(sh.Err, "to err")
	sh.exit()
	for name, c := range map[string]struct {
		*attached
		want string
	}{"stdout": {out, "to out"}, "stderr": {errs, "to err"}, "nothing": {none, ""}} {
		if got := c.all(t); got != c.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// TestAttachFailsOpen: a refused attach leaves the client with the caller.
func TestAttachFailsOpen(t *testing.T) {
	k := newKeeper(t)
	mine, theirs := unixPair(t)
	f, err := theirs.File()
	k.must(err)
	defer f.Close()
	called := make(chan bool, 1)
	if err := k.Attach(ctxT(t), "nope", AttachOptions{Stdout: true}, f, func(d bool) { called <- d }); err == nil {
		t.Fatal("attached to nothing")
	}
	fmt.Fprint(theirs, "mine again")
	buf := make([]byte, 10)
	if _, err := io.ReadFull(mine, buf); err != nil || string(buf) != "mine again" {
		t.Errorf("%q %v", buf, err)
	}
	select {
	case <-called:
		t.Error("ended was called for an attachment that never was")
	case <-time.After(20 * time.Millisecond):
	}
}
