package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"

	"linkspan/cnm"
	"linkspan/store"
)

// damageErr says that the file's content is not what was written.
type damageErr struct{ what string }

func (e *damageErr) Error() string { return e.what }

func damaged(format string, args ...any) error { return &damageErr{fmt.Sprintf(format, args...)} }

func isDamage(err error) bool {
	var d *damageErr
	return errors.As(err, &d)
}

// errNotOurs: a bbolt file, but not one of this store, or of a newer format.
var errNotOurs = errors.New("not a state file of this version")

// guard runs fn and turns the panics into which bbolt falls on a damaged page,
// and the faults of a mapping whose file became shorter, into errors.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = damaged("a page cannot be read: %v", r)
		default:
			err = damaged("%v", r)
		}
	}()
	return fn()
}

// openError describes why the file could not be opened.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return lockedError(path)
	case isDamage(err),
		errors.Is(err, berrors.ErrInvalid),
		errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch),
		errors.Is(err, berrors.ErrInvalidMapping),
		strings.HasPrefix(err.Error(), "file size too small"): // bbolt has no sentinel for it
		return damageError(path, err)
	case errors.Is(err, errNotOurs):
		return cnm.Errorf(cnm.ErrUnavailable, "%s: %w; it was left as it is: "+
			"use the Linkspan that wrote it, or another data root", path, err)
	}
	return describe(path, "open", err)
}

// damageError tells that the file is kept and where the last good copy is.
func damageError(path string, err error) error {
	cure := cureRepair(path) + "; there is no copy of it"
	if info, e := os.Stat(copyPath(path)); e == nil {
		cure = fmt.Sprintf("%s; the last good copy is %s of %s", cureRepair(path), copyPath(path), info.ModTime().UTC().Format("2006-01-02 15:04:05 MST"))
	}
	return cnm.Errorf(cnm.ErrUnavailable, "state file %s is damaged (%w) and was left as it is; %s", path, err, cure)
}

// describe gives an operating system's refusal its class, place and cure.
func describe(path, verb string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		errors.Is(err, berrors.ErrMaxSizeReached),
		strings.Contains(err.Error(), syscall.ENOSPC.Error()): // bbolt's grow cuts the chain with %s
		return cnm.Errorf(cnm.ErrExhausted, "cannot %s state file %s: %w (%s); nothing was changed: "+
			"free some space in %s, for instance by removing unused images, and try again", verb, path, store.ErrFull, room(dir), dir)
	case errors.Is(err, syscall.EROFS):
		return cnm.Errorf(cnm.ErrUnavailable, "cannot %s state file %s: %w; "+
			"mount the file system of %s writable (mount -o remount,rw), or choose another --data-root", verb, path, syscall.EROFS, dir)
	case errors.Is(err, fs.ErrPermission):
		return cnm.Errorf(cnm.ErrUnavailable, "cannot %s state file %s: %w; "+
			"run the daemon as root, or choose another --data-root", verb, path, fs.ErrPermission)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "cannot %s state file %s: %w", verb, path, err)
}

// room says how much space is left where dir lies.
func room(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "free space unknown"
	}
	mib := func(blocks uint64) uint64 { return blocks * uint64(st.Bsize) >> 20 }
	return fmt.Sprintf("%d of %d MiB free", mib(st.Bavail), mib(st.Blocks))
}
