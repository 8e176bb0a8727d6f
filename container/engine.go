package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"linkspan/cnm"
	"linkspan/container/spec"
)

// Engine implements Service on containerd. Make it with New, then call Restore
// once before the first request.
type Engine struct {
	// defaultRuntime is the name that --runtime has when a client names none.
	defaultRuntime atomic.Pointer[string]
	// defaults are those of the daemon's configuration as it is now; what SetDefaults
	// can change is read from here.
	defaults atomic.Pointer[Defaults]
	cfg      Config
	log      *slog.Logger
	ctd      *runtime
	host     spec.Host
	cgroups  cgroupFacts
	security spec.Security

	// ctx ends when the engine is shut down: background work heeds it, and what a
	// client asked for does not.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	entries map[string]*entry // by full id
	names   map[string]string // name to full id
	unborn  map[string]bool   // ids under creation
	execs   map[string]*execEntry

	// tasks is what Restore asks containerd with; see LookAhead.
	tasks func(context.Context) (map[string]task, error)
	// settled is closed when Restore has brought records and containerd together.
	settled chan struct{}
}

var _ Service = (*Engine)(nil)

// New makes an engine. It looks at the host and touches nothing but its folders.
func New(cfg Config) (*Engine, error) {
	cfg.fill()
	if err := checkLog(cfg.Defaults); err != nil {
		return nil, err
	}
	profile, err := spec.SeccompFile(cfg.Defaults.SeccompProfile)
	if err != nil {
		return nil, err
	}
	host, err := hostFacts()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{
		cfg: cfg, log: cfg.Logger, host: host, ctx: ctx, cancel: cancel,
		security: spec.Security{Seccomp: profile, NoNewPrivileges: cfg.Defaults.NoNewPrivileges},
		cgroups:  readCgroupFacts(host.CgroupV2),
		entries:  map[string]*entry{}, names: map[string]string{}, unborn: map[string]bool{}, execs: map[string]*execEntry{},
		settled: make(chan struct{}),
	}
	e.defaults.Store(&e.cfg.Defaults)
	e.ctd = newRuntime(&e.cfg)
	e.tasks = e.ctd.tasks
	if err := e.SetDefaultRuntime(cfg.Defaults.Runtime); err != nil {
		return nil, err
	}
	e.sweepSubpaths()
	for _, d := range []string{e.dir(""), e.shmDir(""), e.viewDir()} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("containers: %w", err)
		}
	}
	return e, nil
}

// dir is a container's folder: its log and the files that it gets from us.
func (e *Engine) dir(id string) string { return filepath.Join(e.cfg.Root, "containers", id) }

func (e *Engine) logPath(id string) string { return filepath.Join(e.dir(id), id+"-json.log") }

// shmDir is where a shareable /dev/shm is mounted.
func (e *Engine) shmDir(id string) string { return filepath.Join(e.cfg.ExecRoot, "shm", id) }

// viewDir is an empty folder: the place of mounts in namespaces of their own.
func (e *Engine) viewDir() string { return filepath.Join(e.cfg.ExecRoot, "view") }

// Files are the host paths of what the engine keeps of a container.
type Files struct{ ResolvConf, Hostname, Hosts, Log string }

// Files tells where they are, whether they exist yet or not.
func (e *Engine) Files(id string) Files {
	d := e.dir(id)
	return Files{
		ResolvConf: filepath.Join(d, "resolv.conf"), Hostname: filepath.Join(d, "hostname"),
		Hosts: filepath.Join(d, "hosts"), Log: e.logPath(id),
	}
}

// Get implements Service.
func (e *Engine) Get(ref string) (*Container, error) {
	en, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	return en.load(), nil
}

// List implements Service: newest first.
func (e *Engine) List() []*Container {
	e.mu.Lock()
	list := make([]*Container, 0, len(e.entries))
	for _, en := range e.entries {
		list = append(list, en.load())
	}
	e.mu.Unlock()
	sortNewestFirst(list)
	return list
}

// notRunning is the conflict that most verbs answer on a container at rest.
func notRunning(c *Container) error {
	if c.State.Phase == Restarting {
		return cnm.Conflict("Container %s is restarting, wait until the container is running", c.ID)
	}
	return cnm.Conflict("container %s is not running", c.ID)
}

// lasting keeps a context's values and drops its end: what was begun on a
// container is finished, whether the client that asked waits or not.
func lasting(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
