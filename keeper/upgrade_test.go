package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/internal/testlog"
	"linkspan/probe"
)

// TestUpgradeUnderLoad replaces the keeper's process again and again while
// everything that it does is going on, and compares every byte at the end.
func TestUpgradeUnderLoad(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	k, cfg := newProcess(t)
	var work sync.WaitGroup
	before, err := k.Info(ctxT(t))
	k.must(err)

	// A container that prints, with a quick client, a slow one, and one that comes
	// in the middle of a replay.
	const lines = 40000
	printed := func(i int) string { return fmt.Sprintf("line %06d %s\n", i, strings.Repeat("p", i%90)) }
	var want strings.Builder
	for i := range lines {
		want.WriteString(printed(i))
	}
	sh := newShim(t, k.declare(StreamSpec{ID: "c", LogPath: "log"}))
	k.must(k.Started(ctxT(t), "c"))
	clients := []*attached{
		k.attach("c", AttachOptions{Stdout: true}),
		k.attach("c", AttachOptions{Stdout: true}),
		k.attach("c", AttachOptions{Stdout: true, Replay: true}),
	}
	begin := make(chan struct{})
	work.Go(func() {
		<-begin
		for i := range lines {
			io.WriteString(sh.Out, printed(i))
		}
		sh.exit()
	})
	check := func(i int, c *attached) {
		slow := io.Reader(c)
		if i == 1 {
			slow = &slowReader{c}
		}
		got, err := io.ReadAll(slow)
		if err != nil || string(got) != want.String() {
			t.Errorf("client %d: %d bytes of %d, %v", i, len(got), want.Len(), err)
		}
		if <-c.ended {
			t.Errorf("client %d: detached", i)
		}
	}
	for i, c := range clients {
		work.Go(func() { check(i, c) })
	}
	drained := make(chan error, 1)
	go func() { drained <- k.Drain(ctxT(t), "c") }()

	// A process that reads slowly what its client types.
	typed := bytes.Repeat([]byte("the quick brown fox "), 100_000)
	in := newShim(t, k.declare(StreamSpec{ID: "in", Stdin: true, StdinOnce: true}))
	k.must(k.Started(ctxT(t), "in"))
	k.OnStdinClosed(func(string) { in.closeIO() })
	typist := k.attach("in", AttachOptions{Stdin: true})
	work.Go(func() {
		typist.Write(typed)
		typist.CloseWrite()
	})
	work.Go(func() {
		got, err := io.ReadAll(&slowReader{in.In})
		if err != nil || !bytes.Equal(got, typed) {
			t.Errorf("the process read %d bytes of %d, %v", len(got), len(typed), err)
		}
	})

	// Half of the detach keys typed before, half after.
	tty := newShim(t, k.declare(StreamSpec{ID: "tty", TTY: true, Stdin: true}))
	k.must(k.Started(ctxT(t), "tty"))
	terminal := k.attach("tty", AttachOptions{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	terminal.Write([]byte("x\x10"))
	io.ReadFull(tty.In, make([]byte, 1))

	// Ports, and connections through them.
	sum := tcpServer(t, func(c *net.TCPConn) {
		h := sha256.New()
		n, _ := io.Copy(h, &slowReader{c})
		fmt.Fprintf(c, "%d %x", n, h.Sum(nil))
	})
	echo := udpServer(t)
	k.must(k.Reserve(ctxT(t), []PortRequest{
		req("o", "tcp", "0.0.0.0", 4001, 4100), req("o", "udp", "0.0.0.0", 4001), req("o", "sctp", "0.0.0.0", 4001),
		forwardReq("tcp", "::1", 4201, sum), forwardReq("udp", "::1", 4202, echo),
	}))
	ports, err := k.Ports(ctxT(t))
	k.must(err)
	for i := range 4 {
		work.Go(func() {
			c := dialTCP(t, "[::1]:4201")
			h := sha256.New()
			const size = 8 << 20
			if _, err := io.CopyN(io.MultiWriter(c, h), rand.NewChaCha8([32]byte{byte(i)}), size); err != nil {
				t.Errorf("forwarded connection %d: %v", i, err)
			}
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d %x", size, h.Sum(nil)); err != nil || string(got) != want {
				t.Errorf("forwarded connection %d: %q %v, want %q", i, got, err, want)
			}
		})
	}
	udp, err := net.Dial("udp", "[::1]:4202")
	k.must(err)
	defer udp.Close()
	ask := func() (from string) {
		buf := make([]byte, 100)
		for range 600 { // UDP may lose some while no one is there
			_ = udp.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			udp.Write([]byte("?"))
			if n, err := udp.Read(buf); err == nil {
				from, _, _ = strings.Cut(string(buf[:n]), ":")
				return from
			}
		}
		t.Error("the UDP forwarder does not answer")
		return ""
	}
	session := ask()

	close(begin)
	for range 5 {
		time.Sleep(30 * time.Millisecond)
		k.must(k.Upgrade(ctxT(t), cfg.Exe))
		taken(t, unix.SOCK_STREAM, "0.0.0.0:4050")
		if s := ask(); s != session {
			t.Errorf("the UDP session was %s, is %s", session, s)
		}
	}
	terminal.Write([]byte{17})
	if !<-terminal.ended {
		t.Error("the detach keys got lost")
	}
	work.Wait()
	if err := <-drained; err != nil {
		t.Errorf("a drain across upgrades: %v", err)
	}
	if out, _ := logged(t, k.log); out != want.String() {
		t.Errorf("the log has %d bytes of %d", len(out), want.Len())
	}
	after, err := k.Info(ctxT(t))
	k.must(err)
	if !after.Started.Equal(before.Started) {
		t.Errorf("it says it started %v, was %v", after.Started, before.Started)
	}
	after.Started = before.Started
	if after != before {
		t.Errorf("it was %+v, is %+v", before, after)
	}
	now, err := k.Ports(ctxT(t))
	k.must(err)
	if fmt.Sprint(now) != fmt.Sprint(ports) {
		t.Errorf("ports were %v, are %v", ports, now)
	}
	if out, err := os.ReadFile(filepath.Join(cfg.Dir, "lock")); err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(after.PID) {
		t.Errorf("lock: %q %v", out, err)
	}
	// What is over left no descriptor behind.
	k.must(k.Release(ctxT(t), "o"))
	k.must(k.Release(ctxT(t), "sb"))
	for _, id := range []string{"c", "in", "tty"} {
		k.must(k.CloseStream(ctxT(t), id))
	}
	var open []string
	onlyOwn := func() bool {
		open = slices.DeleteFunc(fileList(t, after.PID), func(f string) bool {
			// Go's runtime watches the CPU quota, and keeps pipes for splice until it
			// collects garbage; FIFOs have paths.
			return f == "/dev/null" || strings.HasSuffix(f, "/keeper.log") || strings.HasSuffix(f, "/lock") ||
				strings.HasPrefix(f, "/sys/fs/cgroup/") || strings.HasPrefix(f, "pipe:")
		})
		return len(open) == 2 && strings.HasPrefix(open[0], "socket:") && strings.HasPrefix(open[1], "socket:")
	}
	for end := time.Now().Add(time.Minute); !onlyOwn(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("more is open than its socket and this connection: %v", open)
		}
	}
}

// slowReader reads a little at a time, with pauses.
type slowReader struct{ r io.Reader }

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), 60<<10)])
	time.Sleep(time.Millisecond)
	return n, err
}

// TestUpgradeThatFails: a keeper whose exec fails goes on as it was.
func TestUpgradeThatFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var states int
	k := newKeeper(t, func(c *Config) {
		c.Exec = func(exe string, state *os.File) error {
			st, err := readState(state)
			if err == nil && len(st.Streams) == 2 && len(st.Ports) == 2 {
				states++
			}
			return errors.New("exec format error")
		}
	})
	quiet := tcpServer(t, func(c *net.TCPConn) { io.Copy(c, c) })
	k.must(k.Reserve(ctxT(t), []PortRequest{req("o", "tcp", "127.0.0.1", 4301), forwardReq("tcp", "::1", 4302, quiet)}))
	conn := dialTCP(t, "[::1]:4302")
	sh := k.running(StreamSpec{ID: "c", LogPath: "log", Stdin: true})
	client := k.attach("c", AttachOptions{Stdin: true, Stdout: true})
	k.declare(StreamSpec{ID: "not-started", Stdin: true})
	fmt.Fprint(sh.Out, "half a ")
	client.expect(t, "half a ")
	for range 3 {
		err := k.Upgrade(ctxT(t), self)
		if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "exec format error") {
			t.Fatalf("upgrade: %v", err)
		}
		fmt.Fprint(conn, "ping")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "ping" {
			t.Errorf("a forwarded connection: %q %v", buf, err)
		}
		fmt.Fprint(client, "in")
		if _, err := io.ReadFull(sh.In, buf[:2]); err != nil {
			t.Error(err)
		}
	}
	if states != 3 {
		t.Errorf("%d whole states of 3", states)
	}
	fmt.Fprint(sh.Out, "line\n")
	client.expect(t, "line\n")
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
	if raw, _ := os.ReadFile(k.log); bytes.Count(raw, []byte("\n")) != 1 || !bytes.Contains(raw, []byte(`"half a line\n"`)) {
		t.Errorf("log: %s", raw)
	}
	all, err := k.Streams(ctxT(t))
	k.must(err)
	if len(all) != 2 {
		t.Errorf("streams: %+v", all)
	}
	k.must(k.Release(ctxT(t), "sb"))
	conn.Close()
}

func TestUpgradeRefused(t *testing.T) {
	k, cfg := newProcess(t)
	dir := t.TempDir()
	script := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for exe, want := range map[string]error{
		"/nonexistent/linkspan":                       cnm.ErrInvalid,
		script("fails", "#!/bin/sh\nexit 1\n"):        cnm.ErrInvalid,
		script("other", "#!/bin/sh\necho 999\n"):      cnm.ErrUnsupported,
		script("wordy", "#!/bin/sh\necho hello me\n"): cnm.ErrUnsupported,
	} {
		if err := k.Upgrade(ctxT(t), exe); !errors.Is(err, want) {
			t.Errorf("%s: %v", exe, err)
		}
	}
	if _, err := k.Info(ctxT(t)); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	// A keeper inside another program has nothing to exec.
	in := newKeeper(t)
	if err := in.Upgrade(context.Background(), cfg.Exe); !errors.Is(err, cnm.ErrUnsupported) {
		t.Errorf("in process: %v", err)
	}
}

// TestRenew: a daemon of another version has the keeper replaced by its own, with
// what it holds; one that cannot be stays.
func TestRenew(t *testing.T) {
	k, cfg := newProcess(t)
	k.must(k.Reserve(ctxT(t), []PortRequest{req("o", "tcp", "127.0.0.1", 4401)}))
	before, err := k.Info(ctxT(t))
	k.must(err)
	exe := func(text string) string {
		p := filepath.Join(t.TempDir(), "linkspan")
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var said testlog.Log
	ensure := func(version, exe string) Info {
		t.Helper()
		next := cfg
		next.Version, next.Exe, next.Logger = version, exe, slog.New(slog.NewTextHandler(&said, nil))
		c, started, err := Ensure(ctxT(t), next)
		if err != nil || started {
			t.Fatalf("started %v: %v", started, err)
		}
		defer c.Close()
		info, err := c.Info(ctxT(t))
		k.must(err)
		ports, err := c.Ports(ctxT(t))
		if err != nil || len(ports) != 1 || info.PID != before.PID {
			t.Errorf("%s: pid %d, was %d, ports %v %v", version, info.PID, before.PID, ports, err)
		}
		return info
	}
	if v := ensure("broken", exe("exit 1")).Version; v != "test" || !strings.Contains(said.String(), "cannot be replaced") {
		t.Errorf("version %s: %s", v, said.String())
	}
	for range 2 {
		if v := ensure("new", exe("KEEPER_TEST_VERSION=new exec "+cfg.Exe+` "$@"`)).Version; v != "new" {
			t.Errorf("version %s: %s", v, said.String())
		}
	}
	if n := strings.Count(said.String(), "replaced itself"); n != 1 {
		t.Errorf("replaced %d times: %s", n, said.String())
	}
}
