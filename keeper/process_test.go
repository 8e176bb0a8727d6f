package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/probe"
)

func ensureConfig(t testing.TB, dir string) EnsureConfig {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return EnsureConfig{Socket: filepath.Join(dir, "sock"), Dir: filepath.Join(dir, "k"), Exe: self, Name: "test"}
}

// newProcess starts a keeper process; it is shut down at the end, and everything
// it made must be gone.
func newProcess(t testing.TB) (*testKeeper, EnsureConfig) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ensureConfig(t, dir)
	c, _, err := Ensure(ctxT(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := &testKeeper{Client: c, t: t, dir: dir, log: filepath.Join(dir, "c.log")}
	t.Cleanup(func() { endProcess(t, dir, cfg) })
	return k, cfg
}

func endProcess(t testing.TB, dir string, cfg EnsureConfig) {
	t.Helper()
	if t.Failed() {
		b, _ := os.ReadFile(filepath.Join(cfg.Dir, "keeper.log"))
		t.Logf("keeper.log:\n%s", b)
	}
	c, err := Dial(cfg.Socket)
	if err != nil {
		t.Errorf("at the end: %v", err)
		return
	}
	info, err := c.Info(ctxT(t))
	if err != nil {
		t.Error(err)
	}
	if err := c.Shutdown(ctxT(t)); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	eventually(t, "the process ends", func() bool { return !alive(info.PID) })
	for _, left := range []string{cfg.Socket, filepath.Join(cfg.Dir, "io")} {
		if _, err := os.Lstat(left); !os.IsNotExist(err) {
			t.Errorf("left behind: %s", left)
		}
	}
	os.RemoveAll(dir)
}

// alive tells whether a process runs: a zombie does not.
func alive(pid int) bool {
	s := stat(pid)
	return len(s) > 0 && s[0] != "Z"
}

// stat is the fields of /proc/PID/stat from the state on.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// actDaemon is the daemon of TestSurvivesTheDaemon: it starts a keeper, declares
// a stream, reserves a port, hands over the client that it has as descriptor 3,
// and waits to be killed.
func actDaemon(dir string) int {
	ctx := context.Background()
	fail := func(err error) int { fmt.Println("failed:", err); return 1 }
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	k, started, err := Ensure(ctx, EnsureConfig{Socket: filepath.Join(dir, "sock"), Dir: filepath.Join(dir, "k"), Exe: self, Name: "test"})
	if err != nil || !started {
		return fail(fmt.Errorf("started %v: %w", started, err))
	}
	st, err := k.OpenStream(ctx, StreamSpec{ID: "c", LogPath: filepath.Join(dir, "c.log"), Stdin: true, StdinOnce: true})
	if err != nil {
		return fail(err)
	}
	if err := k.Reserve(ctx, []PortRequest{{Owner: "c", Proto: "tcp", Addr: netip.MustParseAddr("127.0.0.1"), Port: 3001}}); err != nil {
		return fail(err)
	}
	if err := k.Attach(ctx, "c", AttachOptions{Stdin: true, Stdout: true}, os.NewFile(3, "client"), nil); err != nil {
		return fail(err)
	}
	fmt.Println("ready", st.Stdin, st.Stdout, st.Stderr)
	select {}
}

// TestSurvivesTheDaemon kills the daemon while a container runs with a client
// attached. The container then prints 1 MB without blocking, the client gets it,
// types, and the next daemon finds everything.
func TestSurvivesTheDaemon(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := unixPair(t)
	cfg := ensureConfig(t, dir)
	f, err := theirs.File()
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(cfg.Exe, "daemon", dir)
	// Descriptor 4 stands for what a test harness or a shell leaves open: if
	// the keeper kept its end, whoever waits for the daemon's end would wait for
	// the keeper's.
	harness, leftOpen, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer harness.Close()
	daemon.ExtraFiles = []*os.File{f, leftOpen}
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	leftOpen.Close()
	theirs.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	paths := strings.Fields(line)
	if err != nil || len(paths) != 4 || paths[0] != "ready" {
		t.Fatalf("the daemon said %q, %v", line, err)
	}
	defer endProcess(t, dir, cfg)
	sh := newShim(t, Stream{Stdin: paths[1], Stdout: paths[2], Stderr: paths[3]})

	daemon.Process.Signal(syscall.SIGKILL)
	daemon.Wait()
	_ = harness.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := harness.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the keeper holds a descriptor of the daemon's starter: %v", err)
	}

	text := strings.Repeat(strings.Repeat("m", 63)+"\n", 1<<14) // 1 MiB
	wrote := make(chan error, 1)
	go func() { _, err := io.WriteString(sh.Out, text); wrote <- err }()
	client := &attached{UnixConn: mine}
	client.expect(t, text)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(mine, "still typing")
	buf := make([]byte, 12)
	if _, err := io.ReadFull(sh.In, buf); err != nil || string(buf) != "still typing" {
		t.Errorf("the process read %q %v", buf, err)
	}
	// Without any client too.
	mine.Close()
	if _, err := io.WriteString(sh.Err, text); err != nil {
		t.Fatal(err)
	}

	k, started, err := Ensure(ctxT(t), cfg)
	if err != nil || started {
		t.Fatalf("the next daemon: started %v, %v", started, err)
	}
	defer k.Close()
	info, err := k.Info(ctxT(t))
	if err != nil {
		t.Fatal(err)
	}
	fields := stat(info.PID)
	if fields[1] != "1" && fields[1] == strconv.Itoa(daemon.Process.Pid) {
		t.Errorf("its parent is %s", fields[1])
	}
	if fields[2] != strconv.Itoa(info.PID) || fields[3] != strconv.Itoa(info.PID) {
		t.Errorf("group %s, session %s of pid %d: not its own", fields[2], fields[3], info.PID)
	}
	adj, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", info.PID))
	switch mayLower := exec.Command("sh", "-c", "echo -900 >/proc/self/oom_score_adj").Run() == nil; {
	case mayLower && string(adj) != "-900\n":
		t.Errorf("oom_score_adj %q", adj)
	case !mayLower:
		t.Log("oom_score_adj not tested: this root lacks CAP_SYS_RESOURCE")
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil || ns.Ino != info.NetInode {
		t.Errorf("network namespace %d, want %d", info.NetInode, ns.Ino)
	}
	streams, err := k.Streams(ctxT(t))
	if err != nil || len(streams) != 1 || streams[0].ID != "c" || !streams[0].StdinClosed || streams[0].Ended {
		t.Errorf("streams: %+v %v", streams, err)
	}
	ports, err := k.Ports(ctxT(t))
	if err != nil || len(ports) != 1 || ports[0].Owner != "c" || ports[0].Port != 3001 {
		t.Errorf("ports: %+v %v", ports, err)
	}
	taken(t, unix.SOCK_STREAM, "127.0.0.1:3001")
	if err := k.Started(ctxT(t), "c"); err != nil {
		t.Fatal(err)
	}
	sh.exit()
	if err := k.Drain(ctxT(t), "c"); err != nil {
		t.Fatal(err)
	}
	o, e := logged(t, filepath.Join(dir, "c.log"))
	if o != text || e != text {
		t.Errorf("the log has %d and %d bytes, want %d", len(o), len(e), len(text))
	}
}

func TestOneKeeper(t *testing.T) {
	_, cfg := newProcess(t)
	for _, c := range []struct{ socket, dir, want string }{
		{cfg.Socket + "2", cfg.Dir, "another keeper is running for " + cfg.Dir + " (pid "},
		{cfg.Socket, cfg.Dir + "2", "another keeper is running: something answers on socket " + cfg.Socket},
	} {
		out, err := exec.Command(cfg.Exe, "keeper", "--socket", c.socket, "--dir", c.dir).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != ExitRunning || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %s", err, out)
		}
	}
	// Several daemons at once get the same keeper.
	pids := make(chan int, 8)
	for range cap(pids) {
		go func() {
			c, _, err := Ensure(context.Background(), cfg)
			if err != nil {
				t.Error(err)
				pids <- 0
				return
			}
			defer c.Close()
			info, _ := c.Info(context.Background())
			pids <- info.PID
		}()
	}
	first := <-pids
	for range cap(pids) - 1 {
		if p := <-pids; p != first || p == 0 {
			t.Errorf("pids %d and %d", first, p)
		}
	}
}

func TestEnsureAtOnce(t *testing.T) {
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ensureConfig(t, dir)
	pids := make(chan int, 6)
	for range cap(pids) {
		go func() {
			c, _, err := Ensure(context.Background(), cfg)
			if err != nil {
				t.Error(err)
				pids <- 0
				return
			}
			info, _ := c.Info(context.Background())
			c.Close()
			pids <- info.PID
		}()
	}
	first := <-pids
	for range cap(pids) - 1 {
		if p := <-pids; p != first {
			t.Errorf("two keepers: %d and %d", first, p)
		}
	}
	endProcess(t, dir, cfg)
}

func TestEnsureSaysWhy(t *testing.T) {
	cfg := ensureConfig(t, t.TempDir())
	cfg.Exe = "/nonexistent/linkspan"
	if _, _, err := Ensure(ctxT(t), cfg); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), cfg.Exe) {
		t.Errorf("no binary: %v", err)
	}
	cfg = ensureConfig(t, t.TempDir())
	cfg.Args = []string{"--no-such-flag"}
	if _, _, err := Ensure(ctxT(t), cfg); err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("bad flag: %v", err)
	}
	if _, err := Dial(cfg.Socket); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("dial: %v", err)
	}
}

// TestEnsureRefusesAnotherPlace: a keeper of another network namespace is not
// this daemon's.
func TestEnsureRefusesAnotherPlace(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	dir, err := os.MkdirTemp("", "keeper")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cfg := ensureConfig(t, dir)
	away := exec.Command(cfg.Exe, "keeper", "--socket", cfg.Socket, "--dir", cfg.Dir)
	away.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := away.Start(); err != nil {
		t.Fatal(err)
	}
	defer away.Wait()
	defer away.Process.Signal(syscall.SIGTERM)
	eventually(t, "it serves", func() bool {
		c, err := Dial(cfg.Socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	_, _, err = Ensure(ctxT(t), cfg)
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d) runs in network namespace", away.Process.Pid)) {
		t.Errorf("got %v", err)
	}
}

// TestReplacedAtOnce kills the keeper: the container blocks at most for a
// moment, nothing that it printed is lost, and its port is taken again.
func TestReplacedAtOnce(t *testing.T) {
	probe.Require(t, probe.Root, probe.NetNS)
	k, cfg := newProcess(t)
	spec := StreamSpec{ID: "c", LogPath: k.log}
	ports := []PortRequest{req("c", "tcp", "127.0.0.1", 3101)}
	declare := func(ctx context.Context) {
		if _, err := k.OpenStream(ctx, spec); err != nil {
			t.Error(err)
		}
		if err := k.Started(ctx, "c"); err != nil {
			t.Error(err)
		}
		if err := k.Reserve(ctx, ports); err != nil {
			t.Error(err)
		}
	}
	sh := newShim(t, k.declare(spec))
	declare(ctxT(t))
	client := k.attach("c", AttachOptions{Stdout: true})
	ctx, cancel := context.WithCancel(context.Background())
	replaced := make(chan bool, 4)
	over := make(chan bool)
	go func() {
		k.Supervise(ctx, cfg, func(ctx context.Context) { declare(ctx); replaced <- true })
		close(over)
	}()
	const lines = 30000
	done := make(chan error, 1)
	go func() {
		for i := range lines {
			if _, err := fmt.Fprintf(sh.Out, "line %d\n", i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 2 {
		info, err := k.Info(ctxT(t))
		k.must(err)
		k.must(syscall.Kill(info.PID, syscall.SIGKILL))
		<-replaced
	}
	if <-client.ended {
		t.Error("the client was told to have detached")
	}
	if err := <-done; err != nil {
		t.Fatalf("the container's write: %v", err)
	}
	taken(t, unix.SOCK_STREAM, "127.0.0.1:3101")
	sh.exit()
	k.must(k.Drain(ctxT(t), "c"))
	cancel()
	<-over
	// What a killed keeper had read and not yet written to the log is lost: a
	// chunk at most each time. All else is there, in order.
	out, _ := logged(t, k.log)
	last, missing := -1, 0
	for line := range strings.Lines(out) {
		var n int
		if _, err := fmt.Sscanf(line, "line %d\n", &n); err != nil {
			continue
		}
		if n <= last {
			t.Fatalf("line %d after %d", n, last)
		}
		missing += n - last - 1
		last = n
	}
	missing += lines - 1 - last
	if missing > 2*chunkSize/8 {
		t.Errorf("the log ends with line %d, %d are missing", last, missing)
	}
	t.Logf("%d lines lost in two kills", missing)
}

func TestLeavesWhenIdle(t *testing.T) {
	dir := t.TempDir()
	cfg := ensureConfig(t, dir)
	cfg.Socket = filepath.Join(os.TempDir(), fmt.Sprintf("keeper-idle-%d", os.Getpid()))
	cfg.Args = []string{"--idle-exit", "100ms"}
	k, _, err := Ensure(ctxT(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := k.Info(ctxT(t))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	if !alive(info.PID) {
		t.Fatal("it left a connected daemon")
	}
	if _, err := k.OpenStream(ctxT(t), StreamSpec{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	k.Close()
	time.Sleep(400 * time.Millisecond)
	if !alive(info.PID) {
		t.Fatal("it left a stream")
	}
	k, started, err := Ensure(ctxT(t), cfg)
	if err != nil || started {
		t.Fatal(err)
	}
	if err := k.CloseStream(ctxT(t), "x"); err != nil {
		t.Fatal(err)
	}
	k.Close()
	eventually(t, "an idle keeper leaves", func() bool { return !alive(info.PID) })
}

// TestProcessIsSmall: what an idle keeper costs, and what 200 idle containers
// add. The test binary is not linkspan, whose start-up adds its own.
func TestProcessIsSmall(t *testing.T) {
	k, _ := newProcess(t)
	info, err := k.Info(ctxT(t))
	k.must(err)
	time.Sleep(2500 * time.Millisecond)
	idle := rss(t, info.PID)
	for i := range 200 {
		st := k.declare(StreamSpec{ID: fmt.Sprint("c", i), LogPath: k.log + fmt.Sprint(i), Stdin: true})
		sh := newShim(t, st)
		k.must(k.Started(ctxT(t), fmt.Sprint("c", i)))
		fmt.Fprint(sh.Out, "one line\n")
	}
	full := rss(t, info.PID)
	t.Logf("resident: %d KiB idle, %d KiB with 200 containers", idle, full)
	if !raceDetector && (idle > 24<<10 || full > idle+16<<10) {
		t.Errorf("too big: %d KiB idle, %d KiB with 200 containers", idle, full)
	}
}

func rss(t testing.TB, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	fmt.Sscan(after, &kib)
	return kib
}
