package etc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The names of the files in a container's folder.
const (
	HostsFile    = "hosts"
	HostnameFile = "hostname"
	ResolvFile   = "resolv.conf"
	hashFile     = "resolv.conf.hash"
)

// Write puts content into a file in place: containers have its inode mounted,
// and the ones that joined a sandbox share it by hard link.
func Write(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	// The umask must not hide it from the container's users.
	err = f.Chmod(0o644)
	if _, werr := f.Write(content); err == nil {
		err = werr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// WriteResolv writes resolv.conf unless somebody edited it since it was last
// written: an edit made in the container outlives a restart, as with Docker.
func WriteResolv(dir string, content []byte) error {
	path, hash := filepath.Join(dir, ResolvFile), filepath.Join(dir, hashFile)
	now, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		was, err := os.ReadFile(hash)
		if err == nil && string(was) != sum(now) {
			return nil
		}
	}
	// No sum while both change: after a crash in between, an unequal one would
	// take our own content for an edit.
	if err := os.Remove(hash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := Write(path, content); err != nil {
		return err
	}
	return Write(hash, []byte(sum(content)))
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Share makes dir hold the same files (inodes) as from, so that what one of two
// containers in one sandbox changes the other sees, and either outlives the
// other's removal.
func Share(from, dir string) error {
	for _, n := range []string{HostsFile, ResolvFile} {
		src, dst := filepath.Join(from, n), filepath.Join(dir, n)
		if same(src, dst) {
			continue
		}
		if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Link(src, dst); err != nil {
			return err
		}
	}
	return nil
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
