package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"

	"linkspan/cnm"
)

// bump is added to the revision of what is restored, so that no host takes a revision for
// one that it has seen before the backup: what watched lists again
// (etcd.io/docs, disaster recovery, "revision bump").
const bump = 1_000_000_000

// Restore makes the data folder of a first, lone member from a backup. The folder must be
// empty or not there; it is complete or not there afterwards. c is the Config that the
// member is opened with later.
func Restore(ctx context.Context, c Config, file string) error {
	if err := c.check(); err != nil {
		return err
	}
	switch _, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist):
		return cnm.NotFound("backup %s: there is no such file", file)
	case err != nil:
		return cnm.Errorf(cnm.ErrUnavailable, "backup %s: %w", file, err)
	}
	if names, err := os.ReadDir(c.Dir); err == nil && len(names) > 0 {
		return cnm.Conflict("data folder %s is not empty: a backup is restored into a new one; move the old one away (`mv %s %s.old`)", c.Dir, c.Dir, c.Dir)
	}
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o700); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "data folder %s: %w", c.Dir, err)
	}
	made, err := os.MkdirTemp(filepath.Dir(c.Dir), filepath.Base(c.Dir)+".restore-")
	if err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "data folder %s: %w", c.Dir, err)
	}
	defer os.RemoveAll(made)
	if err := c.restore(ctx, file, filepath.Join(made, "data")); err != nil {
		if full(err) {
			return cnm.Errorf(cnm.ErrExhausted, "backup %s: the disk of %s is full: make room there: %w", file, c.Dir, err)
		}
		return cnm.Invalid("backup %s: it is damaged or no backup of a mesh (%w): take another one", file, err)
	}
	_ = os.Remove(c.Dir) // an empty one
	if err := os.Rename(filepath.Join(made, "data"), c.Dir); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "data folder %s: %w", c.Dir, err)
	}
	return syncDir(filepath.Dir(c.Dir))
}

func (c Config) restore(ctx context.Context, file, dir string) error {
	m := &member{dir: dir, failed: make(chan struct{}), quiet: make(chan struct{})}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	token := c.Token
	if token == "" {
		token = "etcd-cluster"
	}
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { // etcd panics at a file that is none of its own
			if r := recover(); r != nil {
				err = errors.New("it cannot be read")
			}
			done <- err
		}()
		err = snapshot.NewV3(logger(log, m, m.hear)).Restore(snapshot.RestoreConfig{
			SnapshotPath: file, Name: c.Name, OutputDataDir: dir,
			PeerURLs: []string{c.PeerURL()}, InitialCluster: c.Name + "=" + c.PeerURL(), InitialClusterToken: token,
			RevisionBump: bump, MarkCompacted: true,
		})
	}()
	select {
	case <-m.failed:
		m.sever()
		return m.err
	case err := <-done:
		select {
		case <-m.failed: // both, when the goroutine ended by what zap called
			m.sever()
			return m.err
		default:
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
