package container

import (
	"context"
	"errors"
	"fmt"
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
func (e *Engine) Leftovers(ctx context.Context) ([]Leftover, error) {
	running, err := e.ctd.tasks(ctx)
	if err != nil {
		return nil, err
	}
	return e.leftovers(ctx, running)
}

// leftovers are found although some places cannot be looked at: the error says which.
// The containerd namespace is this daemon's own, so that everything in it is either
// declared or left over.
func (e *Engine) leftovers(ctx context.Context, running map[string]task) (out []Leftover, err error) {
	add := func(what, id string, take func(context.Context) error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, declared := e.entries[id]; !declared && !e.unborn[id] {
			out = append(out, Leftover{what, id, take})
		}
	}
	var errs []error
	unseen := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for id := range running {
		add("task", id, func(ctx context.Context) error { return absent(e.ctd.killTask(ctx, id)) })
	}
	made, err := e.ctd.containers(ctx, e.cfg.Instance)
	unseen("containerd's containers", err)
	for _, id := range made {
		add("container", id, func(ctx context.Context) error { return e.ctd.deleteContainer(ctx, id) })
	}
	snapshots, err := e.ctd.writable(ctx)
	unseen("containerd's snapshots", err)
	for _, id := range snapshots {
		add("snapshot", id, func(ctx context.Context) error { return e.ctd.removeSnapshot(ctx, id) })
	}
	streams, err := e.cfg.Keeper.Streams(ctx)
	unseen("the keeper's streams", err)
	for _, s := range streams {
		if _, err := e.findExec(s.ID); err != nil {
			add("stdio", s.ID, func(ctx context.Context) error { return e.cfg.Keeper.CloseStream(ctx, s.ID) })
		}
	}
	for _, at := range []struct{ what, root string }{{"folder", e.dir("")}, {"shm", e.shmDir("")}} {
		list, err := os.ReadDir(at.root)
		unseen("folders of containers", err)
		for _, d := range list {
			id := d.Name()
			if !isID(id) {
				continue
			}
			add(at.what, id, func(context.Context) error {
				if at.what == "shm" {
					e.unmountShm(id)
					return nil
				}
				return e.step("folder.sweep", func() error { return os.RemoveAll(filepath.Join(at.root, id)) })
			})
		}
	}
	return out, errors.Join(errs...)
}
