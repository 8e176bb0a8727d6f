package docker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/dataplane"
	"linkspan/events"
	"linkspan/image"
	"linkspan/network"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
)

// fakeContainers is a container engine in memory: its containers say what they
// were told to say and exit with the code they were told.
type fakeContainers struct {
	container.Service
	mu    sync.Mutex
	all   map[string]*container.Container
	execs map[string]*container.Exec
	waits map[string][]chan container.WaitResult
	ends  map[string][]func() // what happens to attached clients at the end
	calls []string
	// created is the last create request.
	created container.CreateRequest
	// fail makes the named call fail.
	fail map[string]error
	put  []byte
	bus  *events.Bus
	// What the last connect, update and commit brought, and how often stats were read.
	endpoint  *apinetwork.EndpointSettings
	updated   apicontainer.UpdateConfig
	committed container.CommitOptions
	samples   int
}

func newFakeContainers(cs ...*container.Container) *fakeContainers {
	f := &fakeContainers{
		all: map[string]*container.Container{}, execs: map[string]*container.Exec{},
		waits: map[string][]chan container.WaitResult{}, ends: map[string][]func(){},
		fail: map[string]error{}, bus: events.New(),
	}
	for _, c := range cs {
		f.all[c.ID] = c
	}
	return f
}

func (f *fakeContainers) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, call)
	verb, _, _ := strings.Cut(call, " ")
	return f.fail[verb]
}

func (f *fakeContainers) noted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeContainers) Get(ref string) (*container.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.all {
		if c.ID == ref || c.Name == strings.TrimPrefix(ref, "/") || len(ref) >= 4 && strings.HasPrefix(c.ID, ref) {
			copied := *c
			return &copied, nil
		}
	}
	return nil, cnm.NotFound("No such container: %s", ref)
}

func (f *fakeContainers) List() []*container.Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []*container.Container
	for _, c := range f.all {
		copied := *c
		l = append(l, &copied)
	}
	return l
}

func (f *fakeContainers) Create(_ context.Context, r container.CreateRequest) (string, []string, error) {
	if err := f.note("create %s", r.Name); err != nil {
		return "", nil, err
	}
	if r.Config.Image == "absent" {
		return "", nil, cnm.NotFound("No such image: absent:latest")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.created = r
	id := fmt.Sprintf("%064x", len(f.all)+0xabc)
	name := r.Name
	if name == "" {
		name = "fake_" + id[60:]
	}
	f.all[id] = &container.Container{
		ID: id, Name: name, Created: time.Now(), Config: r.Config, HostConfig: r.HostConfig,
		Networks: r.Networks, ImageID: testImageID, Path: "true", State: container.State{Phase: container.Created},
	}
	return id, nil, nil
}

// Start runs the container to its end at once: it prints, exits with 7, and
// everyone who waits is told.
func (f *fakeContainers) Start(_ context.Context, ref string) error {
	if err := f.note("start %s", ref); err != nil {
		return err
	}
	c, err := f.Get(ref)
	if err != nil {
		return err
	}
	f.bus.Publish(events.Event{Type: "container", Action: "start", ID: c.ID, Attributes: map[string]string{"name": c.Name, "image": c.Config.Image}})
	f.mu.Lock()
	defer f.mu.Unlock()
	st := &f.all[c.ID].State
	st.Phase, st.ExitCode, st.StartedAt, st.FinishedAt = container.Exited, 7, time.Now(), time.Now()
	for _, end := range f.ends[c.ID] {
		end()
	}
	for _, w := range f.waits[c.ID] {
		w <- container.WaitResult{ExitCode: 7}
	}
	f.waits[c.ID], f.ends[c.ID] = nil, nil
	return nil
}

func (f *fakeContainers) Stop(_ context.Context, ref string, o container.StopOptions) error {
	t := "own"
	if o.Timeout != nil {
		t = fmt.Sprint(*o.Timeout)
	}
	return f.note("stop %s %s %s", ref, o.Signal, t)
}
func (f *fakeContainers) Restart(_ context.Context, ref string, o container.StopOptions) error {
	return f.note("restart %s", ref)
}
func (f *fakeContainers) Kill(_ context.Context, ref, signal string) error {
	return f.note("kill %s %s", ref, signal)
}
func (f *fakeContainers) Pause(_ context.Context, ref string) error { return f.note("pause %s", ref) }
func (f *fakeContainers) Unpause(_ context.Context, ref string) error {
	return f.note("unpause %s", ref)
}
func (f *fakeContainers) Rename(_ context.Context, ref, name string) error {
	return f.note("rename %s %s", ref, name)
}
func (f *fakeContainers) Remove(_ context.Context, ref string, o container.RemoveOptions) error {
	if o.Link {
		return f.note("remove link %s", ref)
	}
	if err := f.note("remove %s %v %v", ref, o.Force, o.Volumes); err != nil {
		return err
	}
	c, err := f.Get(ref)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, c.ID)
	return nil
}
func (f *fakeContainers) Resize(_ context.Context, ref string, h, w uint) error {
	return f.note("resize %s %dx%d", ref, h, w)
}

func (f *fakeContainers) Wait(_ context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResult, error) {
	if err := f.note("wait %s %s", ref, cond); err != nil {
		return nil, err
	}
	c, err := f.Get(ref)
	if err != nil {
		return nil, err
	}
	ch := make(chan container.WaitResult, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if cond == container.WaitNotRunning && c.State.Phase == container.Exited {
		ch <- container.WaitResult{ExitCode: c.State.ExitCode}
		return ch, nil
	}
	f.waits[c.ID] = append(f.waits[c.ID], ch)
	return ch, nil
}

func (f *fakeContainers) CanAttach(ref string) (*container.Container, error) {
	if err := f.note("canattach %s", ref); err != nil {
		return nil, err
	}
	return f.Get(ref)
}

// Attach keeps a descriptor of its own, as the keeper does, and says at the end
// what the client had sent before it.
func (f *fakeContainers) Attach(_ context.Context, ref string, o container.AttachOptions, client *os.File) error {
	f.mu.Lock()
	fail := f.fail["attach"]
	f.mu.Unlock()
	if fail != nil {
		return fail
	}
	conn, err := net.FileConn(client)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.ends[ref] = append(f.ends[ref], func() {
		out, errs := []byte("hello\n"), []byte("trouble\n")
		if o.Mux {
			out, errs = frame(1, out), frame(2, errs)
		}
		_, _ = conn.Write(append(out, errs...))
		_ = conn.Close()
	})
	f.mu.Unlock()
	return f.note("attach %s pending=%s", ref, o.Pending) // last: who sees it may start the container
}

func (f *fakeContainers) Logs(_ context.Context, ref string, o container.LogOptions, w io.Writer, flush func()) error {
	if err := f.note("logs %s follow=%v tail=%d", ref, o.Follow, o.Tail); err != nil {
		return err
	}
	_, err := w.Write(frame(1, []byte("line\n")))
	flush()
	return err
}

func (f *fakeContainers) Top(_ context.Context, ref, args string) ([]string, [][]string, error) {
	return []string{"PID", "CMD"}, [][]string{{"1", "sleep"}}, f.note("top %s %s", ref, args)
}

func (f *fakeContainers) ExecCreate(_ context.Context, ref string, c container.ExecConfig) (string, error) {
	ctr, err := f.Get(ref)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := fmt.Sprintf("%064x", len(f.execs)+0xe)
	f.execs[id] = &container.Exec{ID: id, ContainerID: ctr.ID, Config: c}
	return id, nil
}

func (f *fakeContainers) ExecStart(_ context.Context, id string, tty bool, size *[2]uint, client *os.File, pending []byte) error {
	if err := f.note("execstart tty=%v size=%v detached=%v", tty, size, client == nil); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	code := 3
	f.execs[id].Started, f.execs[id].ExitCode = true, &code
	if client == nil {
		return nil
	}
	conn, err := net.FileConn(client)
	if err != nil {
		return err
	}
	out := []byte("from exec\n")
	if !tty {
		out = frame(1, out)
	}
	_, _ = conn.Write(out)
	return conn.Close()
}

func (f *fakeContainers) ExecGet(id string) (*container.Exec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.execs[id]; ok {
		copied := *e
		return &copied, nil
	}
	return nil, cnm.NotFound("No such exec instance: %s", id)
}
func (f *fakeContainers) ExecResize(_ context.Context, id string, h, w uint) error {
	return f.note("execresize %dx%d", h, w)
}
func (f *fakeContainers) StatPath(_ context.Context, ref, path string) (*container.PathStat, error) {
	return &container.PathStat{Name: filepath.Base(path), Size: 5, Mode: 0o644}, f.note("stat %s %s", ref, path)
}
func (f *fakeContainers) GetArchive(_ context.Context, ref, path string) (io.ReadCloser, *container.PathStat, error) {
	return io.NopCloser(strings.NewReader("a tar")), &container.PathStat{Name: filepath.Base(path)}, f.note("getarchive %s %s", ref, path)
}
func (f *fakeContainers) PutArchive(_ context.Context, ref, path string, tar io.Reader, noOverwrite, copyIDs bool) error {
	f.put, _ = io.ReadAll(tar)
	return f.note("putarchive %s %s %v %v", ref, path, noOverwrite, copyIDs)
}
func (f *fakeContainers) ExecIDs(ref string) []string { return nil }

// fakeNetwork knows the three predefined networks and what sandboxes it is given.
type fakeNetwork struct {
	network.Service
	networks  []*cnm.Network
	sandboxes []*cnm.Sandbox
	wish      network.NetworkWish // the last one
	warning   string              // of the next creation
}

const (
	bridgeID    = "669dbc1a5e1adaddc2103d2b2ce9892e5027e716e502c17e355929ea8cc0396f"
	hostID      = "c6a805cb667657705a7151f83a57c1258e0a00b0a80d49e9fa0552307d52602c"
	noneID      = "48a30fab32bb26a0f67af19dc6a85e00b20f13ada02bd34479051fdf8ca0ca19"
	testImageID = "sha256:75459641c9708eecf6df075707123266e74053a12a0615e35851cd09056ebb10"
)

func newFakeNetwork(sandboxes ...*cnm.Sandbox) *fakeNetwork {
	at := time.Date(2026, 11, 21, 5, 33, 15, 743464771, time.UTC)
	return &fakeNetwork{
		sandboxes: sandboxes,
		networks: []*cnm.Network{
			{ID: bridgeID, Name: "bridge", Driver: "bridge", Created: at, Predefined: true, Pools: []cnm.Pool{{
				Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"),
			}}},
			{ID: hostID, Name: "host", Driver: "host", Created: at, Predefined: true},
			{ID: noneID, Name: "none", Driver: "none", Created: at, Predefined: true},
		},
	}
}

func (f *fakeNetwork) Networks() []*cnm.Network  { return f.networks }
func (f *fakeNetwork) Sandboxes() []*cnm.Sandbox { return f.sandboxes }
func (f *fakeNetwork) Network(ref string) (*cnm.Network, error) {
	for _, n := range f.networks {
		if n.Name == ref || n.ID == ref || len(ref) >= 4 && strings.HasPrefix(n.ID, ref) {
			return n, nil
		}
	}
	return nil, cnm.NotFound("network %s not found", ref)
}
func (f *fakeNetwork) Sandbox(id string) (*cnm.Sandbox, bool) {
	for _, s := range f.sandboxes {
		if slices.Contains(s.Members, id) {
			return s, true
		}
	}
	return nil, false
}
func (f *fakeNetwork) Plan(context.Context, network.Request) ([]dataplane.Object, error) {
	return nil, nil
}

// fakeImages has one image, "box".
type fakeImages struct{ image.Service }

func (fakeImages) Get(_ context.Context, ref string) (*image.Image, error) {
	if ref == "box" || ref == "box:latest" || ref == testImageID {
		return &image.Image{ID: testImageID, RepoTags: []string{"box:latest"}, Size: 1 << 20}, nil
	}
	return nil, cnm.NotFound("No such image: %s", ref)
}
func (f fakeImages) List(ctx context.Context) ([]*image.Image, error) {
	i, err := f.Get(ctx, "box")
	return []*image.Image{i}, err
}

// testFiles are the paths of a packaged dockerd, so that goldens compare.
func testFiles(c *container.Container) Files {
	dir := "/var/lib/docker/containers/" + c.ID + "/"
	return Files{ResolvConf: dir + "resolv.conf", Hostname: dir + "hostname", Hosts: dir + "hosts", Log: dir + c.ID + "-json.log"}
}

// testConfig is a door in front of the fakes.
func testConfig(cs *fakeContainers, n *fakeNetwork) Config {
	return Config{
		Containers: cs, Images: fakeImages{}, Network: n, Events: cs.bus,
		Info: func(context.Context) Facts {
			return Facts{
				ID: "7c6e4f22", Name: "quay", RootDir: "/var/lib/linkspan", Driver: "overlayfs", CgroupDriver: "cgroupfs", CgroupVersion: "1",
				KernelVersion: "6.18.0", OperatingSystem: "Debian GNU/Linux 12 (bookworm)", OSVersion: "12", Arch: "x86_64", NCPU: 2, MemTotal: 1 << 34,
				ContainerdVersion: "1.6.20", RuncVersion: "1.1.5", ContainerdAddress: "/run/containerd/containerd.sock", ContainerdNamespace: "linkspan",
				Runtimes: map[string]string{"runc": "runc"}, DefaultRuntime: "runc", Firewall: "nftables",
				MemoryLimit: true, SwapLimit: true, PidsLimit: true, CPUShares: true, CPUCfs: true, CPUSet: true, OomKillDisable: true, IPv4Forwarding: true,
				BridgeNfIptables: true, BridgeNfIP6tables: true,
				SecurityOptions: []string{"name=seccomp,profile=builtin"}, NetworkDrivers: []string{"bridge", "host", "none"},
				RegistryMirrors: []string{"http://127.0.0.1:5000/"},
			}
		},
		Files: testFiles, Version: "0.1.0", Commit: "abcdef0", Built: "2026-11-21T00:00:00Z",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// serveUnix answers on a unix socket until the test ends and returns its path.
func serveUnix(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "door") // t.TempDir can be too long for sun_path
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, h, slog.New(slog.NewTextHandler(io.Discard, nil)), l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	return path
}

// testContainer is a minimal container of a name and phase.
func testContainer(n int, name string, phase container.Phase) *container.Container {
	at := time.Date(2026, 11, 21, 5, n, 0, 0, time.UTC)
	c := &container.Container{
		ID: fmt.Sprintf("%04d%060x", n, n), Name: name, Created: at, ImageID: testImageID,
		Config: &apicontainer.Config{Image: "box"}, HostConfig: &apicontainer.HostConfig{NetworkMode: "default"},
		Path: "sleep", Args: []string{"600"}, State: container.State{Phase: phase},
	}
	if phase != container.Created {
		c.State.StartedAt = at.Add(time.Second)
	}
	if phase == container.Exited {
		c.State.FinishedAt = at.Add(time.Minute)
	}
	return c
}
