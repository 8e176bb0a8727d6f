package etc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The names of the files in a container's folder.
const (
	HostsFile    = "hosts"
	HostnameFile = "hostname"
	ResolvFile   = "resolv.conf"
	hashFile     = "resolv.conf.hash"
	ownFile      = "hosts.own" // the lines of hosts that are ours
)

// Write puts content into a file in place: containers have its inode mounted,
// and the ones that joined a sandbox share it by hard link. Who reads meanwhile
// finds what was there or what is new (where they differ both in turns, when its read
// overlaps the write: the kernel has no lock between them), and never an empty file: a
// shorter content is first written with empty lines behind it, and the file cut
// afterwards.
func Write(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	// The umask must not hide it from the container's users.
	err = f.Chmod(0o644)
	padded := content
	if st, serr := f.Stat(); serr == nil && st.Size() > int64(len(content)) {
		padded = slices.Concat(content, bytes.Repeat([]byte("\n"), int(st.Size())-len(content)))
	}
	if _, werr := f.WriteAt(padded, 0); err == nil {
		err = werr
	}
	if terr := f.Truncate(int64(len(content))); err == nil {
		err = terr
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
		if err == nil && len(was) == 2*sha256.Size && (string(was) != sum(now) || bytes.Equal(now, content)) {
			return nil
		}
	}
	// No sum while both change: after a crash in between, an unequal one would
	// take our own content for an edit. The file stays: to remove it and make it
	// again costs more than all the rest.
	if err := Write(hash, []byte(changing)); err != nil {
		return err
	}
	if err := Write(path, content); err != nil {
		return err
	}
	return Write(hash, []byte(sum(content)))
}

// changing stands where the sum of resolv.conf does, while that is written: whatever
// has not a sum's length says that nothing is known.
const changing = "changing"

// WriteHosts writes hosts anew: a container that starts has no edits.
func WriteHosts(dir string, content []byte) error {
	if err := Write(filepath.Join(dir, HostsFile), content); err != nil {
		return err
	}
	return Write(filepath.Join(dir, ownFile), content)
}

// RewriteHosts changes our lines of a running container's hosts and leaves what
// somebody added alone.
func RewriteHosts(dir string, content []byte) error {
	path, own := filepath.Join(dir, HostsFile), filepath.Join(dir, ownFile)
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	ours, err := os.ReadFile(own)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	next := mergeHosts(now, ours, content)
	if bytes.Equal(now, next) && bytes.Equal(ours, content) {
		return nil
	}
	// Old lines and new ones are ours while the file changes: after a crash in
	// between, neither is taken for somebody else's.
	if err := Write(own, slices.Concat(ours, content)); err != nil {
		return err
	}
	if err := Write(path, next); err != nil {
		return err
	}
	return Write(own, content)
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
