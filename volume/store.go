package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/store"
)

// Config is what New needs. Events and Logger may be nil.
type Config struct {
	// Root is the folder of all volumes: data-root/volumes.
	Root   string
	Store  store.Store
	Events *events.Bus
	Logger *slog.Logger
	// Hook is called at every fail point, with its name; nil in production.
	Hook func(point string)
}

const (
	prefix = "volumes/"
	data   = "_data"
	// removing precedes a number of 8 digits, a dash and the name in the name of a
	// folder whose volume is being removed.
	removing = ".removing-"
	trashLen = len(removing) + 8 + 1
	// populating, beside _data, says that a CopyUp is not complete.
	populating = ".populating"
)

// Store implements [Service].
type Store struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // creation, removal and holds
	users Users
	holds map[string]map[*hold]struct{}
	taken uint32 // counts removals, so that two of one name differ

	fillMu sync.Mutex // one CopyUp at a time

	mounting keyed
}

type hold struct{ who string }

// New opens the volumes under cfg.Root and finishes what a crash cut short.
func New(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, log: cfg.Logger, holds: map[string]map[*hold]struct{}{}}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.cfg.Hook == nil {
		s.cfg.Hook = func(string) {}
	}
	// As in Docker, only root looks around in here; a container's user passes.
	if err := os.MkdirAll(cfg.Root, 0o711); err != nil {
		return nil, disk(err, "volumes: the folder %s cannot be made", cfg.Root)
	}
	return s, s.recover(ctx)
}

// recover brings folders and store together. A removal renames the folder
// first, then commits, then deletes: so a renamed folder whose volume is still
// in the store goes back, and one whose volume is not is deleted. A folder of
// which the store knows nothing is left alone: it may be all that is left of
// somebody's data.
func (s *Store) recover(ctx context.Context) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, v := range all {
		known[v.Name] = true
	}
	entries, err := os.ReadDir(s.cfg.Root)
	if err != nil {
		return disk(err, "volumes: %s cannot be read", s.cfg.Root)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, removing) || len(name) <= trashLen {
			if !known[name] && validName.MatchString(name) {
				s.log.Warn("a volume's folder is not in the store; it is left as it is, and `docker volume create` with its name takes it up", "volume", name)
			}
			continue
		}
		old := filepath.Join(s.cfg.Root, name)
		name = name[trashLen:]
		err = s.step("volume.tidy", func() error {
			if _, there := os.Lstat(s.dir(name)); known[name] && there != nil {
				return os.Rename(old, s.dir(name))
			}
			return empty(old)
		})
		if err != nil {
			s.log.Error("a half-removed volume could not be tidied", "volume", name, "error", err)
		}
	}
	for name := range known {
		if err := s.makeDir(name); err != nil {
			s.log.Error("a volume's folder is missing and cannot be made", "volume", name, "error", err)
		}
	}
	return nil
}

// SetUsers says who knows which containers use a volume.
func (s *Store) SetUsers(u Users) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = u
}

func (s *Store) dir(name string) string        { return filepath.Join(s.cfg.Root, name) }
func (s *Store) mountpoint(name string) string { return filepath.Join(s.cfg.Root, name, data) }

func (s *Store) makeDir(name string) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{s.dir(name), 0o711}, {s.mountpoint(name), 0o755}} {
		if _, err := os.Lstat(d.path); err == nil {
			continue
		}
		err := s.step("volume.folder", func() error { return os.Mkdir(d.path, d.mode) })
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// step does something outside of the store between two fail points.
func (s *Store) step(point string, do func() error) error {
	s.cfg.Hook(point + ".before")
	err := do()
	s.cfg.Hook(point + ".after")
	return err
}

// Create implements [Service].
func (s *Store) Create(ctx context.Context, r CreateRequest) (*Volume, error) {
	labels := maps.Clone(r.Labels)
	if r.Name == "" {
		r.Name = anonymousName()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[AnonymousLabel] = ""
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, err := s.Get(ctx, r.Name); err == nil || !errors.Is(err, cnm.ErrNotFound) {
		return v, err
	}
	v := &Volume{Name: r.Name, Created: time.Now().UTC(), Labels: labels, Options: maps.Clone(r.Options), Mountpoint: s.mountpoint(r.Name)}
	value, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	// The store first: a crash then leaves a volume without a folder, which
	// recover makes, and not a folder that belongs to nothing.
	if _, err := s.cfg.Store.Commit(ctx, store.Op{Key: prefix + v.Name, Value: value, Guard: true}); err != nil {
		return nil, fmt.Errorf("create %s: %w", v.Name, storeError(err))
	}
	if err := s.makeDir(v.Name); err != nil {
		if _, undo := s.cfg.Store.Commit(context.WithoutCancel(ctx), store.Op{Key: prefix + v.Name}); undo != nil {
			s.log.Error("a volume without a folder stays in the store", "volume", v.Name, "error", undo)
		}
		return nil, disk(err, "create %s: the volume's folder cannot be made", v.Name)
	}
	s.publish("create", v.Name)
	return v, nil
}

// Get implements [Service].
func (s *Store) Get(ctx context.Context, name string) (*Volume, error) {
	if !validName.MatchString(name) {
		return nil, cnm.NotFound("get %s: no such volume", name)
	}
	e, ok, err := s.cfg.Store.Get(ctx, prefix+name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, storeError(err))
	}
	if !ok {
		return nil, cnm.NotFound("get %s: no such volume", name)
	}
	return s.decode(e)
}

// List implements [Service].
func (s *Store) List(ctx context.Context) ([]*Volume, error) {
	entries, _, err := s.cfg.Store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", storeError(err))
	}
	all := make([]*Volume, 0, len(entries))
	for _, e := range entries {
		v, err := s.decode(e)
		if err != nil {
			// One unreadable volume must not hide the others.
			s.log.Error("a volume in the store cannot be read", "key", e.Key, "error", err)
			continue
		}
		all = append(all, v)
	}
	return all, nil
}

func (s *Store) decode(e store.Entry) (*Volume, error) {
	v := &Volume{}
	if err := json.Unmarshal(e.Value, v); err != nil {
		return nil, fmt.Errorf("volume %s in the store: %w", strings.TrimPrefix(e.Key, prefix), err)
	}
	v.Name = strings.TrimPrefix(e.Key, prefix)
	v.Mountpoint = s.mountpoint(v.Name)
	return v, nil
}

// Hold implements [Service].
func (s *Store) Hold(name, who string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &hold{who}
	if s.holds[name] == nil {
		s.holds[name] = map[*hold]struct{}{}
	}
	s.holds[name][h] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.holds[name], h); len(s.holds[name]) == 0 {
			delete(s.holds, name)
		}
	}
}

// usersOf returns who uses a volume, sorted; s.mu is held.
func (s *Store) usersOf(name string) []string {
	var ids []string
	for h := range s.holds[name] {
		ids = append(ids, h.who)
	}
	if s.users != nil {
		ids = append(ids, s.users.VolumeUsers(name)...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *Store) publish(action, name string) {
	if s.cfg.Events != nil {
		s.cfg.Events.Publish(events.Event{Type: "volume", Action: action, ID: name, Attributes: map[string]string{"driver": Driver, "name": name}})
	}
}

// storeError gives the store's errors the classes that the doors know.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrFull):
		return cnm.Errorf(cnm.ErrExhausted, "the data root is full: %w", err)
	case errors.Is(err, store.ErrClosed):
		return cnm.Errorf(cnm.ErrUnavailable, "the daemon is stopping: %w", err)
	}
	return err
}

// disk classes an error of the file system.
func disk(err error, format string, args ...any) error {
	class := cnm.ErrUnavailable
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		class = cnm.ErrExhausted
	}
	return cnm.Errorf(class, format+": %w", append(args, err)...)
}
