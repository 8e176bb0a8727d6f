package container

import (
	"context"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/leases"

	"linkspan/image"
)

// sweep removes what an earlier process made and no record declares: it died
// between making it and saying so. The containerd namespace is this daemon's
// own, so that everything in it is either declared or left over. Requests are served
// meanwhile.
func (e *Engine) sweep(ctx context.Context, running map[string]task) {
	stray := func(id string) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, declared := e.entries[id]
		return !declared && !e.unborn[id]
	}
	warn := func(what, id string, err error) {
		if err != nil {
			e.log.Error("something left over cannot be removed", "what", what, "id", id, "error", err)
		} else {
			e.log.Info("removed what an earlier process left over", "what", what, "id", id)
		}
	}
	for id := range running {
		if stray(id) {
			warn("task", id, absent(e.ctd.killTask(ctx, id)))
		}
	}
	made, err := e.ctd.containers(ctx, e.cfg.Instance)
	if err != nil {
		e.log.Error("containerd's containers are not swept", "error", err)
	}
	for _, id := range made {
		if stray(id) {
			warn("container", id, e.ctd.deleteContainer(ctx, id))
		}
	}
	snapshots, err := e.ctd.writable(ctx)
	if err != nil {
		e.log.Error("containerd's snapshots are not swept", "error", err)
	}
	for _, id := range snapshots {
		if stray(id) {
			warn("snapshot", id, e.ctd.removeSnapshot(ctx, id))
		}
	}
	e.sweepStreams(ctx, stray, warn)
	e.sweepDirs(e.dir(""), stray, warn)
	e.sweepDirs(e.shmDir(""), stray, warn)
}

// sweepStreams closes stdio of what is neither container nor exec, and passes on
// which inputs ended while no daemon was there.
func (e *Engine) sweepStreams(ctx context.Context, stray func(string) bool, warn func(what, id string, err error)) {
	streams, err := e.cfg.Keeper.Streams(ctx)
	if err != nil {
		e.log.Error("the keeper's streams are not swept", "error", err)
		return
	}
	for _, s := range streams {
		if _, err := e.findExec(s.ID); err != nil && stray(s.ID) {
			warn("stdio", s.ID, e.cfg.Keeper.CloseStream(ctx, s.ID))
		} else if s.StdinClosed && s.Started && !s.Ended {
			e.StdinClosed(s.ID)
		}
	}
}

func (e *Engine) sweepDirs(root string, stray func(string) bool, warn func(what, id string, err error)) {
	list, err := os.ReadDir(root)
	if err != nil {
		e.log.Error("folders of containers are not swept", "error", err)
		return
	}
	for _, d := range list {
		id := d.Name()
		if !isID(id) || !stray(id) {
			continue
		}
		if root == e.shmDir("") {
			e.unmountShm(id)
			continue
		}
		warn("folder", id, e.step("folder.sweep", func() error { return os.RemoveAll(filepath.Join(root, id)) }))
	}
}

// dropLeases removes all leases of the namespace: they belong to pulls of an
// earlier process. It runs before this one pulls.
func (r *runtime) dropLeases(ctx context.Context) error {
	return r.call(ctx, "lease.sweep", quick, func(ctx context.Context) error {
		m := r.client.LeasesService()
		list, err := m.List(ctx)
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := absent(m.Delete(ctx, leases.Lease{ID: l.ID})); err != nil {
				return err
			}
		}
		return nil
	})
}

// ImageUsers implements image.Users.
func (e *Engine) ImageUsers(imageID string) []image.User {
	var out []image.User
	for _, c := range e.List() {
		if c.ImageID == imageID {
			out = append(out, image.User{ContainerID: c.ID, Running: c.State.Phase.running() || c.State.Phase == Restarting, Ref: c.ImageRef})
		}
	}
	return out
}
