package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	apicontainer "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/image"
	"linkspan/internal/ctdtest"
	"linkspan/internal/testlog"
	"linkspan/keeper"
	"linkspan/probe"
	"linkspan/store"
	"linkspan/store/mem"
	"linkspan/volume"
)

// world is all that an engine stands on, and survives the engine: a private
// containerd, a store, volumes, a keeper, and a network that is not one.
type world struct {
	t       testing.TB
	ctd     *ctdtest.Server
	client  *containerd.Client
	ns      string
	store   store.Store
	volumes *volume.Store
	bus     *events.Bus
	net     *fakeNet
	images  *fakeImages
	keeper  *keeper.Client
	root    string
	exec    string
	log     *testlog.Log
	hook    func(string)
	change  func(*Config)
	e       *Engine
}

func newWorld(t testing.TB) *world {
	t.Helper()
	probe.Require(t, probe.Root, probe.Overlayfs, probe.NetNS, probe.Containerd, probe.Runc)
	base, err := os.MkdirTemp("", "ctr-") // not t.TempDir: FIFO and socket paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	w := &world{t: t, ctd: ctdtest.New(t), ns: "ls-" + filepath.Base(base), bus: events.New(), root: filepath.Join(base, "root"), exec: filepath.Join(base, "exec"), log: &testlog.Log{}}
	w.client = w.ctd.Client()
	w.store = mem.New(mem.Options{})
	t.Cleanup(func() { w.store.Close() })
	if w.volumes, err = volume.New(t.Context(), volume.Config{Root: filepath.Join(base, "volumes"), Store: w.store, Events: w.bus}); err != nil {
		t.Fatal(err)
	}
	w.net = newFakeNet(t, filepath.Join(base, "netns"))
	w.images = newFakeImages(t, w.client, w.ns)
	w.keeper = startKeeper(t, filepath.Join(base, "k"), slog.New(slog.NewTextHandler(w.log, nil)))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("engine's log:\n" + w.log.String())
		}
	})
	return w
}

// start makes an engine on what is there, as a daemon does when it starts.
func (w *world) start() *Engine {
	w.t.Helper()
	cfg := Config{
		Client: w.client, Address: w.ctd.Address, Namespace: w.ns, Instance: "test", Store: w.store, Network: w.net,
		Images: w.images, Volumes: w.volumes, Keeper: w.keeper, Events: w.bus, Root: w.root, ExecRoot: w.exec,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Hook: func(p string) {
			if w.hook != nil {
				w.hook(p)
			}
		},
	}
	if w.change != nil {
		w.change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.volumes.SetUsers(e)
	w.e = e
	w.keeper.OnStdinClosed(e.StdinClosed)
	if err := e.Restore(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.stop(e) })
	return e
}

func (w *world) stop(e *Engine) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		w.t.Errorf("shutdown: %v", err)
	}
}

// create makes a container of the busybox image with what change wishes.
func (w *world) create(name string, cmd string, change ...func(*CreateRequest)) string {
	w.t.Helper()
	r := request(name, cmd)
	for _, c := range change {
		c(&r)
	}
	id, _, err := w.e.Create(w.t.Context(), r)
	if err != nil {
		w.t.Fatalf("create %s: %v", name, err)
	}
	return id
}

func request(name, cmd string) CreateRequest {
	r := CreateRequest{Name: name, Config: &apicontainer.Config{Image: "busybox"}, HostConfig: &apicontainer.HostConfig{}}
	if cmd != "" {
		r.Config.Cmd = []string{"sh", "-c", cmd}
	}
	return r
}

func (w *world) run(name, cmd string, change ...func(*CreateRequest)) string {
	w.t.Helper()
	id := w.create(name, cmd, change...)
	if err := w.e.Start(w.t.Context(), id); err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
	return id
}

// output runs a container to its end and returns its exit code and log.
func (w *world) output(name, cmd string, change ...func(*CreateRequest)) (int, string) {
	w.t.Helper()
	id := w.create(name, cmd, change...)
	done, err := w.e.Wait(w.t.Context(), id, WaitNextExit)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.e.Start(w.t.Context(), id); err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
	return w.result(done).ExitCode, w.logs(id)
}

func (w *world) result(c <-chan WaitResult) WaitResult {
	w.t.Helper()
	select {
	case r := <-c:
		if r.Err != nil {
			w.t.Fatal(r.Err)
		}
		return r
	case <-time.After(time.Minute):
		w.t.Fatal("the wait did not end")
	}
	return WaitResult{}
}

// logs are a container's without frames.
func (w *world) logs(id string) string {
	w.t.Helper()
	var b bytes.Buffer
	if err := w.e.Logs(w.t.Context(), id, LogOptions{Stdout: true, Stderr: true, Tail: -1}, &b, func() {}); err != nil {
		w.t.Fatal(err)
	}
	return unframe(b.Bytes())
}

// unframe drops stdcopy's headers.
func unframe(b []byte) string {
	var out strings.Builder
	for len(b) >= 8 && b[0] <= 2 && b[1] == 0 && b[2] == 0 && b[3] == 0 {
		n := 8 + (int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7]))
		if n > len(b) {
			break
		}
		out.Write(b[8:n])
		b = b[n:]
	}
	out.Write(b)
	return out.String()
}

func (w *world) phase(ref string) Phase {
	c, err := w.e.Get(ref)
	if err != nil {
		return ""
	}
	return c.State.Phase
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

func (w *world) remove(ref string) {
	w.t.Helper()
	if err := w.e.Remove(w.t.Context(), ref, RemoveOptions{Force: true, Volumes: true}); err != nil {
		w.t.Errorf("rm %s: %v", ref, err)
	}
}

// clean fails the test for whatever is left when all containers are removed.
func (w *world) clean() {
	w.t.Helper()
	ctx := w.t.Context()
	for _, c := range w.e.List() {
		// One that is to be removed at its end may be gone by now.
		if err := w.e.Remove(ctx, c.ID, RemoveOptions{Force: true, Volumes: true}); err != nil && !errors.Is(err, cnm.ErrNotFound) {
			w.t.Errorf("rm %s: %v", c.ID, err)
		}
	}
	complain := func(what string, list []string, err error) {
		w.t.Helper()
		if err != nil || len(list) > 0 {
			w.t.Errorf("left over: %s: %q %v", what, list, err)
		}
	}
	tasks, err := w.e.ctd.tasks(ctx)
	var ids []string
	for id := range tasks {
		ids = append(ids, id)
	}
	complain("tasks", ids, err)
	ids, err = w.e.ctd.containers(ctx, "test")
	complain("containers", ids, err)
	ids, err = w.e.ctd.writable(ctx)
	complain("snapshots", ids, err)
	for _, prefix := range []string{recordPrefix, execPrefix, "volumes/"} {
		entries, _, err := w.store.List(ctx, prefix)
		ids = nil
		for _, en := range entries {
			ids = append(ids, en.Key)
		}
		complain(prefix, ids, err)
	}
	streams, err := w.keeper.Streams(ctx)
	ids = nil
	for _, s := range streams {
		ids = append(ids, s.ID)
	}
	complain("streams", ids, err)
	for _, d := range []string{w.e.dir(""), w.e.shmDir("")} {
		list, err := os.ReadDir(d)
		ids = nil
		for _, f := range list {
			ids = append(ids, f.Name())
		}
		complain(d, ids, err)
	}
	complain("sandboxes", w.net.names(), nil)
	b, err := os.ReadFile("/proc/self/mountinfo")
	for l := range strings.Lines(string(b)) {
		if strings.Contains(l, w.exec) || strings.Contains(l, w.root) {
			complain("mounts", []string{l}, err)
		}
	}
}

// fakeImages has one image: Debian's static busybox.
type fakeImages struct {
	image.Service
	client *containerd.Client
	ns     string
	config ocispec.ImageConfig
	health *image.Healthcheck
	fail   error // of Prepare
}

const baseLayer = "busybox-layer"

func newFakeImages(t testing.TB, c *containerd.Client, ns string) *fakeImages {
	ctx := namespaces.WithNamespace(t.Context(), ns)
	s := c.SnapshotService("overlayfs")
	root := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "1"})
	ms, err := s.Prepare(ctx, "making-"+baseLayer, "", root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := mount.All(ms, dir); err != nil {
		t.Fatal(err)
	}
	fillBusybox(t, dir)
	if err := mount.UnmountAll(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, baseLayer, "making-"+baseLayer, root); err != nil {
		t.Fatal(err)
	}
	return &fakeImages{client: c, ns: ns, config: ocispec.ImageConfig{Env: []string{"PATH=/bin"}}}
}

func fillBusybox(t testing.TB, dir string) {
	const busybox = "/bin/busybox"
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Skipf("probe: the busybox program is not available: %v (needed for containers of tests; apt install busybox-static)", err)
	}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "dev", "sys", "root", "data/sub", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"bin/busybox":   string(b),
		"etc/passwd":    "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/home:/bin/sh\n",
		"etc/group":     "root:x:0:\nweb:x:33:\naudio:x:29:web\n",
		"data/file":     "from the image\n",
		"data/sub/deep": "deep\n",
	}
	for f, s := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(s), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "data"), 33, 33); err != nil {
		t.Fatal(err)
	}
	for _, n := range strings.Fields("sh cat echo sleep id ls mount hostname env touch mkdir rm ps kill true false stat head dd wc test pwd stty nc ip printf seq date grep chmod ln readlink yes usleep nproc") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", n)); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fakeImages) Get(_ context.Context, ref string) (*image.Image, error) {
	if ref != "busybox" && ref != "sha256:busybox" {
		return nil, cnm.NotFound("No such image: %s:latest", ref)
	}
	i := &image.Image{ID: "sha256:busybox", Ref: "docker.io/library/busybox:latest", Size: 2 << 20}
	i.Config.OS, i.Config.Architecture = "linux", "amd64"
	i.Config.Config, i.Healthcheck = f.config, f.health
	return i, nil
}

func (f *fakeImages) Prepare(ctx context.Context, _ *image.Image, key string) error {
	if f.fail != nil {
		return f.fail
	}
	_, err := f.client.SnapshotService("overlayfs").Prepare(namespaces.WithNamespace(ctx, f.ns), key, baseLayer)
	return absentExists(err)
}

// client is one end of a connection as the API door has it, and the other as
// the docker CLI has it.
type client struct {
	door *os.File
	mu   sync.Mutex
	got  bytes.Buffer
	end  chan struct{}
	cli  *os.File
}

func newClient(t testing.TB) *client {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		_ = unix.SetNonblock(fd, true)
	}
	c := &client{door: os.NewFile(uintptr(fds[0]), "door"), cli: os.NewFile(uintptr(fds[1]), "cli"), end: make(chan struct{})}
	t.Cleanup(func() { c.door.Close(); c.cli.Close() })
	go func() {
		defer close(c.end)
		buf := make([]byte, 4096)
		for {
			n, err := c.cli.Read(buf)
			c.mu.Lock()
			c.got.Write(buf[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *client) text() string { c.mu.Lock(); defer c.mu.Unlock(); return c.got.String() }

func (c *client) send(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(c.cli, s); err != nil {
		t.Fatal(err)
	}
}

func (c *client) closeWrite(t testing.TB) {
	t.Helper()
	rc, err := c.cli.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = rc.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
}
