package container

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/term"

	"linkspan/cnm"
	"linkspan/keeper"
	"linkspan/store"
)

// execKeep is how long an ended exec can still be inspected.
const execKeep = 5 * time.Minute

// execEntry is one exec in memory.
type execEntry struct {
	ended chan struct{} // closes when its exit code is known
	done  chan struct{} // closes when its end is handled

	mu      sync.Mutex
	x       Exec
	rev     int64
	claimed bool // somebody starts it
	// passing says that the exec is a health check's: nobody asks for it later, and no
	// store has it.
	passing bool
}

// execRecord is what the store has of an exec, under execs/<ID>: from its start
// on, so that its exit code outlives the daemon.
type execRecord struct {
	ContainerID string     `json:"container_id"`
	Config      ExecConfig `json:"config"`
	Running     bool       `json:"running"`
	ExitCode    *int       `json:"exit_code,omitempty"`
	Ended       time.Time  `json:"ended,omitzero"`
}

func newExecEntry(x Exec) *execEntry {
	return &execEntry{ended: make(chan struct{}), done: make(chan struct{}), x: x}
}

func (en *execEntry) get() Exec {
	en.mu.Lock()
	defer en.mu.Unlock()
	return en.x
}

// ExecCreate implements Service.
func (e *Engine) ExecCreate(_ context.Context, ref string, cfg ExecConfig) (string, error) {
	en, err := e.find(ref)
	if err != nil {
		return "", err
	}
	c := en.load()
	if err := canExec(c); err != nil {
		return "", err
	}
	if len(cfg.Cmd) == 0 {
		return "", cnm.Invalid("no exec command specified")
	}
	for _, v := range cfg.Env {
		if k, _, _ := strings.Cut(v, "="); k == "" {
			return "", cnm.Invalid("invalid environment variable: %s", v)
		}
	}
	if _, err := detachKeys(cfg.DetachKeys); err != nil {
		return "", err
	}
	if cfg.WorkingDir != "" && !strings.HasPrefix(cfg.WorkingDir, "/") {
		return "", cnm.Invalid("Cwd must be an absolute path: %s", cfg.WorkingDir)
	}
	id := newID()
	e.mu.Lock()
	e.execs[id] = newExecEntry(Exec{ID: id, ContainerID: c.ID, Config: cfg})
	e.mu.Unlock()
	e.publish(c, "exec_create: "+strings.Join(cfg.Cmd, " "), "execID", id)
	return id, nil
}

func canExec(c *Container) error {
	switch {
	case c.State.Phase == Paused:
		return cnm.Conflict("Container %s is paused, unpause the container before exec", c.ID)
	case c.State.Phase != Running:
		return notRunning(c)
	}
	return nil
}

// defaultDetach is Docker's.
const defaultDetach = "ctrl-p,ctrl-q"

func detachKeys(keys string) ([]byte, error) {
	if keys == "" {
		keys = defaultDetach
	}
	b, err := term.ToBytes(keys)
	if err != nil {
		return nil, cnm.Invalid("Invalid detach keys (%s) provided", keys)
	}
	return b, nil
}

func (e *Engine) findExec(id string) (*execEntry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en, ok := e.execs[id]; ok {
		return en, nil
	}
	return nil, cnm.NotFound("No such exec instance: %s", id)
}

// ExecGet implements Service. A client asks for the exit code as soon as its
// stream ends, which can be before containerd told of the exit, and before the
// process, whose descriptors the kernel closes first, has quite ended.
func (e *Engine) ExecGet(id string) (*Exec, error) {
	en, err := e.findExec(id)
	if err != nil {
		return nil, err
	}
	if x := en.get(); x.Running && x.Pid != 0 {
		switch {
		case !alive(x.Pid):
			en.await(5 * time.Second)
		case e.streamEnded(id):
			// Or it closed its output and goes on, as daemons do.
			en.await(500 * time.Millisecond)
		}
	}
	x := en.get()
	return &x, nil
}

// await waits for the end of the process, not for that of its handling.
func (en *execEntry) await(limit time.Duration) {
	select {
	case <-en.ended:
	case <-time.After(limit):
	}
}

func (e *Engine) streamEnded(id string) bool {
	ctx, cancel := context.WithTimeout(e.ctx, time.Second)
	defer cancel()
	streams, err := e.cfg.Keeper.Streams(ctx)
	i := slices.IndexFunc(streams, func(s keeper.StreamInfo) bool { return s.ID == id })
	return err == nil && i >= 0 && streams[i].Ended
}

// alive: a zombie has ended, whoever will reap it.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// The name, in parentheses, may hold anything: the state is behind the last.
	i := strings.LastIndexByte(string(b), ')')
	return i < 0 || i+2 >= len(b) || b[i+2] != 'Z' && b[i+2] != 'X'
}

// ExecIDs are the execs of a container that can be inspected.
func (e *Engine) ExecIDs(ref string) []string {
	c, err := e.Get(ref)
	if err != nil {
		return nil
	}
	var ids []string
	for _, en := range e.execsOf(c.ID) {
		ids = append(ids, en.get().ID)
	}
	slices.Sort(ids)
	return ids
}

func (e *Engine) execsOf(id string) (list []*execEntry) {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.execs))
	e.mu.Unlock()
	// Outside of the engine's lock: an exec's own may be held through a commit.
	for _, en := range all {
		if en.get().ContainerID == id {
			list = append(list, en)
		}
	}
	return list
}

// ExecResize implements Service.
func (e *Engine) ExecResize(ctx context.Context, id string, height, width uint) error {
	en, err := e.findExec(id)
	if err != nil {
		return err
	}
	x := en.get()
	if !x.Running {
		return cnm.Conflict("exec process %s is not running", id)
	}
	return e.ctd.resize(ctx, x.ContainerID, id, height, width)
}

// commitExec writes what is to outlive the daemon.
func (e *Engine) commitExec(ctx context.Context, what string, en *execEntry) error {
	if en.passing {
		return nil
	}
	en.mu.Lock()
	defer en.mu.Unlock()
	r := execRecord{ContainerID: en.x.ContainerID, Config: en.x.Config, Running: en.x.Running, ExitCode: en.x.ExitCode}
	if !r.Running {
		r.Ended = time.Now().UTC()
	}
	value, err := encode(r)
	if err != nil {
		return err
	}
	rev, err := e.write(ctx, what, store.Op{Key: execPrefix + en.x.ID, Value: value, Guard: true, IfRev: en.rev})
	if err == nil {
		en.rev = rev
	}
	return err
}

// forgetExec drops an exec from memory and store.
func (e *Engine) forgetExec(ctx context.Context, en *execEntry) {
	en.mu.Lock()
	id, stored := en.x.ID, en.rev != 0
	en.mu.Unlock()
	e.mu.Lock()
	delete(e.execs, id)
	e.mu.Unlock()
	if stored {
		if _, err := e.write(ctx, "exec.forgotten", store.Op{Key: execPrefix + id}); err != nil {
			e.log.Warn("an exec that has ended stays in the store", "exec", id, "error", err)
		}
	}
}

// forgetExecs drops those of a container that goes.
func (e *Engine) forgetExecs(ctx context.Context, id string) {
	for _, en := range e.execsOf(id) {
		_ = e.cfg.Keeper.CloseStream(ctx, en.get().ID)
		e.forgetExec(ctx, en)
	}
}

// endExecs waits for the execs of a container whose first process has ended:
// the kernel has killed them, and their exit codes are lost with the task.
func (e *Engine) endExecs(ctx context.Context, id string) {
	limit := time.After(time.Second)
	for _, en := range e.execsOf(id) {
		if !en.get().Started {
			e.forgetExec(ctx, en)
			continue
		}
		select {
		case <-en.done:
		case <-limit:
			return
		}
	}
}
