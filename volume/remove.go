package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/store"
)

// Remove implements [Service].
func (s *Store) Remove(ctx context.Context, name string, force bool) error {
	trash, err := s.take(ctx, name)
	if force && errors.Is(err, cnm.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.publish("destroy", name)
	return s.discard(name, trash)
}

// take takes a volume out of the store and out of its place; what it held is
// then in trash. Deleting that can take long, and is done without the lock.
func (s *Store) take(ctx context.Context, name string) (trash string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.Get(ctx, name); err != nil {
		return "", err
	}
	if ids := s.usersOf(name); len(ids) > 0 {
		return "", cnm.Conflict("remove %s: volume is in use - [%s]", name, strings.Join(ids, ", "))
	}
	if err := s.step("volume.unmount", func() error { return clearMounts(s.dir(name)) }); err != nil {
		return "", disk(err, "remove %s: what is mounted in it cannot be unmounted", name)
	}
	s.taken++
	trash = filepath.Join(s.cfg.Root, fmt.Sprintf("%s%08x-%s", removing, s.taken, name))
	if err := s.step("volume.tidy", func() error { return empty(trash) }); err != nil { // what an earlier daemon could not delete
		return "", disk(err, "remove %s: the remains of an earlier volume of that name cannot be deleted", name)
	}
	if err := s.step("volume.rename", func() error { return os.Rename(s.dir(name), trash) }); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", disk(err, "remove %s", name)
	}
	if _, err := s.cfg.Store.Commit(ctx, store.Op{Key: prefix + name}); err != nil {
		if back := os.Rename(trash, s.dir(name)); back != nil && !errors.Is(back, os.ErrNotExist) {
			s.log.Error("a volume's folder could not be put back; it will be when the daemon starts", "volume", name, "error", back)
		}
		return "", fmt.Errorf("remove %s: %w", name, storeError(err))
	}
	return trash, nil
}

// empty deletes a volume's former folder.
func empty(trash string) error {
	if err := clearMounts(trash); err != nil {
		return err
	}
	return os.RemoveAll(trash)
}

func (s *Store) discard(name, trash string) error {
	err := s.step("volume.delete", func() error { return empty(trash) })
	if err != nil {
		// The volume is gone for everybody; only its bytes are not.
		s.log.Error("the files of a removed volume could not all be deleted; the next start of the daemon tries again", "volume", name, "path", trash, "error", err)
		return disk(err, "remove %s: the volume is gone, but not all of its files could be deleted", name)
	}
	return nil
}

// Prune implements [Service].
func (s *Store) Prune(ctx context.Context, match func(*Volume) bool) (removed []string, reclaimed int64, err error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range all {
		if ctx.Err() != nil {
			return removed, reclaimed, ctx.Err()
		}
		if !match(v) {
			continue
		}
		trash, err := s.take(ctx, v.Name)
		if errors.Is(err, cnm.ErrConflict) || errors.Is(err, cnm.ErrNotFound) {
			continue // in use, or somebody was faster
		}
		if err != nil {
			return removed, reclaimed, err
		}
		size, _ := diskUsage(ctx, trash)
		removed, reclaimed = append(removed, v.Name), reclaimed+size
		s.publish("destroy", v.Name)
		if err := s.discard(v.Name, trash); err != nil {
			return removed, reclaimed, err
		}
	}
	if s.cfg.Events != nil {
		s.cfg.Events.Publish(events.Event{Type: "volume", Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(reclaimed, 10)}})
	}
	return removed, reclaimed, nil
}

// Size implements [Service].
func (s *Store) Size(ctx context.Context, name string) (int64, error) {
	v, err := s.Get(ctx, name)
	if err != nil {
		return 0, err
	}
	if v.IsMount() {
		return 0, cnm.Unsupported("volume %s is a mount of %s: what it holds is not the data root's, and is not counted", name, v.Options["device"])
	}
	return diskUsage(ctx, s.mountpoint(name))
}

// diskUsage adds up the blocks below dir, each inode once. Files that vanish
// meanwhile count nothing.
func diskUsage(ctx context.Context, dir string) (total int64, err error) {
	seen := map[[2]uint64]bool{}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[[2]uint64{st.Dev, st.Ino}] {
			seen[[2]uint64{st.Dev, st.Ino}] = true
			total += st.Blocks * 512 // always units of 512 bytes (stat(2))
		}
		return nil
	})
	return total, err
}
