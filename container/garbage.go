package container

import (
	"context"
	"os"
	"path/filepath"
)

// Leftover is something that was made for a container and that no record declares.
type Leftover struct {
	What string // "task", "container", "snapshot", "stdio", "folder", "shm"
	ID   string // the container's
	// Take removes it.
	Take func(context.Context) error
}

// Leftovers looks for them. The start of the daemon removes them by itself; what comes
// to be after that should not be there.
func (e *Engine) Leftovers(ctx context.Context) (out []Leftover, err error) {
	stray := func(id string) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, declared := e.entries[id]
		return !declared && !e.unborn[id]
	}
	add := func(what, id string, take func(context.Context) error) {
		if stray(id) {
			out = append(out, Leftover{what, id, take})
		}
	}
	running, err := e.ctd.tasks(ctx)
	if err != nil {
		return nil, err
	}
	for id := range running {
		add("task", id, func(ctx context.Context) error { return absent(e.ctd.killTask(ctx, id)) })
	}
	made, err := e.ctd.containers(ctx, e.cfg.Instance)
	if err != nil {
		return out, err
	}
	for _, id := range made {
		add("container", id, func(ctx context.Context) error { return e.ctd.deleteContainer(ctx, id) })
	}
	snapshots, err := e.ctd.writable(ctx)
	if err != nil {
		return out, err
	}
	for _, id := range snapshots {
		add("snapshot", id, func(ctx context.Context) error { return e.ctd.removeSnapshot(ctx, id) })
	}
	streams, err := e.cfg.Keeper.Streams(ctx)
	if err != nil {
		return out, err
	}
	for _, s := range streams {
		if _, err := e.findExec(s.ID); err != nil {
			add("stdio", s.ID, func(ctx context.Context) error { return e.cfg.Keeper.CloseStream(ctx, s.ID) })
		}
	}
	for what, root := range map[string]string{"folder": e.dir(""), "shm": e.shmDir("")} {
		list, err := os.ReadDir(root)
		if err != nil {
			return out, err
		}
		for _, d := range list {
			id := d.Name()
			if !isID(id) {
				continue
			}
			add(what, id, func(context.Context) error {
				if what == "shm" {
					e.unmountShm(id)
					return nil
				}
				return e.step("folder.sweep", func() error { return os.RemoveAll(filepath.Join(root, id)) })
			})
		}
	}
	return out, nil
}
