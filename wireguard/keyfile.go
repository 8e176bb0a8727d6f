package wireguard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"linkspan/cnm"
)

// A key's file holds its text form and a newline, as `wg genkey` writes it, and can be
// read by its owner alone.

// readKey reads a key's file; that there is none is fs.ErrNotExist.
func readKey(path string) (PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return PrivateKey{}, cnm.Errorf(cnm.ErrUnavailable, "this host's WireGuard key: %w", err)
	}
	k, err := ParsePrivateKey(strings.TrimSpace(string(b)))
	if err != nil {
		return PrivateKey{}, cnm.Invalid("%s: %w; remove the file, and a new key is made", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		// A copy from a backup, for instance. It is a secret again from now on.
		if err := os.Chmod(path, 0o600); err != nil {
			return PrivateKey{}, cnm.Errorf(cnm.ErrUnavailable, "this host's WireGuard key can be read by others: %w", err)
		}
	}
	return k, nil
}

// writeKey writes a key's file: after a crash it has the key or what it had before.
func writeKey(path string, k PrivateKey) (err error) {
	defer func() {
		if err != nil {
			err = cnm.Errorf(cnm.ErrUnavailable, "this host's WireGuard key cannot be kept: %w", err)
		}
	}()
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.WriteString(k.Secret() + "\n"); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return move(f.Name(), path)
}

// move renames within a folder, and has that on the disk.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Keys are a host's key and, while it is changed, the next one. They live in one folder,
// and one process at a time works on them.
type Keys struct {
	path          string
	current, next PrivateKey
}

// OpenKeys reads a folder's keys, and makes one at first use.
func OpenKeys(dir string) (*Keys, error) {
	k := &Keys{path: filepath.Join(dir, "wireguard.key")}
	// What a crash left of writing one.
	left, err := filepath.Glob(k.path + "*.tmp*")
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "this host's WireGuard key: %w", err)
	}
	if k.current, err = readKey(k.path); errors.Is(err, fs.ErrNotExist) {
		if k.current, err = NewPrivateKey(); err == nil {
			err = writeKey(k.path, k.current)
		}
	}
	if err != nil {
		return nil, err
	}
	if k.next, err = readKey(k.nextPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Half a change of the key must not keep a host from its mesh.
		k.next = PrivateKey{}
		if rerr := os.Remove(k.nextPath()); rerr != nil {
			return nil, cnm.Errorf(cnm.ErrUnavailable, "this host's next WireGuard key: %w", errors.Join(err, rerr))
		}
	}
	return k, nil
}

func (k *Keys) nextPath() string { return k.path + ".next" }

// Current is the key in use.
func (k *Keys) Current() PrivateKey { return k.current }

// Next is the one that shall follow; zero: none.
func (k *Keys) Next() PrivateKey { return k.next }

// Begin makes the next key and keeps it, before anyone hears of it: a host that published
// a key and forgot it could not be reached.
func (k *Keys) Begin() (PrivateKey, error) {
	next, err := NewPrivateKey()
	if err == nil {
		err = writeKey(k.nextPath(), next)
	}
	if err != nil {
		return PrivateKey{}, err
	}
	k.next = next
	return next, nil
}

// Finish makes the next key the one in use.
func (k *Keys) Finish() error {
	if k.next.IsZero() {
		return nil
	}
	if err := move(k.nextPath(), k.path); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "this host's WireGuard key cannot be kept: %w", err)
	}
	k.current, k.next = k.next, PrivateKey{}
	return nil
}

// Abandon forgets the next key.
func (k *Keys) Abandon() error {
	k.next = PrivateKey{}
	if err := os.Remove(k.nextPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this host's next WireGuard key: %w", err)
	}
	return nil
}
