package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
)

// runcRoot is where containerd's shim has runc keep its state: a folder for each
// containerd namespace, which nobody removes.
const runcRoot = "/run/containerd/runc"

// endTasks ends what runs in our containerd namespace, and says how many those
// were. Containers' records and snapshots stay, as after a power cut.
func (u *uninstall) endTasks(ctx context.Context) (int, error) {
	ctx = namespaces.WithNamespace(ctx, u.namespace)
	all, err := u.client.Containers(ctx)
	if err != nil {
		return 0, fmt.Errorf("containers are not ended: %w", err)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		n    int
		errs []error
	)
	for _, c := range all {
		wg.Go(func() {
			ran, err := endTask(ctx, c, graceful(u.cfg))
			mu.Lock()
			defer mu.Unlock()
			if ran {
				n++
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("container %s is not ended: %w", c.ID(), err))
			}
		})
	}
	wg.Wait()
	_ = os.Remove(filepath.Join(runcRoot, u.namespace)) // where it is empty
	return n, errors.Join(errs...)
}

func endTask(ctx context.Context, c ctd.Container, patience time.Duration) (ran bool, err error) {
	t, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st, err := t.Status(ctx); err == nil && st.Status != ctd.Stopped {
		ran = true
		if exit, err := t.Wait(ctx); err == nil {
			_ = t.Resume(ctx) // one that is frozen hears nothing
			_ = t.Kill(ctx, syscall.SIGTERM)
			select {
			case <-exit:
			case <-time.After(patience):
			}
		}
	}
	_, err = t.Delete(ctx, ctd.WithProcessKill)
	if errdefs.IsNotFound(err) {
		err = nil
	}
	return ran, err
}

// emptyNamespace removes our namespace from a containerd that others use too, with
// all that is in it. What other namespaces have as well stays theirs.
func (u *uninstall) emptyNamespace(ctx context.Context) error {
	ctx = namespaces.WithNamespace(ctx, u.namespace)
	var errs []error
	note := func(err error) {
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	all, err := u.client.Containers(ctx)
	note(err)
	for _, c := range all {
		note(c.Delete(ctx))
	}
	pulled, err := u.client.ImageService().List(ctx)
	note(err)
	for _, i := range pulled {
		note(u.client.ImageService().Delete(ctx, i.Name, images.SynchronousDelete()))
	}
	held, err := u.client.LeasesService().List(ctx)
	note(err)
	for _, l := range held {
		note(u.client.LeasesService().Delete(ctx, leases.Lease{ID: l.ID}, leases.SynchronousDelete))
	}
	note(u.removeSnapshots(ctx))
	var blobs []content.Info
	note(u.client.ContentStore().Walk(ctx, func(i content.Info) error { blobs = append(blobs, i); return nil }))
	for _, b := range blobs {
		note(u.client.ContentStore().Delete(ctx, b.Digest))
	}
	if len(errs) == 0 {
		note(u.client.NamespaceService().Delete(ctx, u.namespace))
	}
	if len(errs) > 0 {
		return fmt.Errorf("containerd namespace %s stays: %w", u.namespace, errors.Join(errs...))
	}
	u.say("the containerd namespace " + u.namespace + " was removed")
	return nil
}

// removeSnapshots removes those that nobody stands on, until there is none.
func (u *uninstall) removeSnapshots(ctx context.Context) error {
	s := u.client.SnapshotService("overlayfs")
	for {
		parents, names := map[string]bool{}, []string(nil)
		err := s.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
			parents[i.Parent] = true
			names = append(names, i.Name)
			return nil
		})
		if err != nil || len(names) == 0 {
			return err
		}
		before := len(names)
		for _, n := range names {
			if parents[n] {
				continue
			}
			if err := s.Remove(ctx, n); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("snapshot %s: %w", n, err)
			}
			before--
		}
		if before == len(names) {
			return fmt.Errorf("%d snapshots stand on each other", before)
		}
	}
}
