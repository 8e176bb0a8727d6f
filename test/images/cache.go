package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultCache is where layers, packages and the registry's storage are kept
// unless LINKSPAN_IMAGE_CACHE names another folder. About 600 MB.
const DefaultCache = "/var/cache/linkspan-images"

// CacheEnv is the environment variable that moves the cache.
const CacheEnv = "LINKSPAN_IMAGE_CACHE"

// cache is the folder:
//
//	lock                  held while building
//	base/KEY/rootfs       the base as a folder, the lower side of every overlay
//	base/KEY/lists        the package lists it was made from
//	debs/                 downloaded packages
//	layers/KEY/           layer.tar.gz and layer.json
//	registry/SETKEY/      docker-registry's storage, and images.json
//	tmp/                  work in progress; emptied by the next build
//
// Everything appears under its final name by one rename, when whole.
type cache struct{ dir string }

func openCache(dir string) (cache, error) {
	if dir == "" {
		dir = os.Getenv(CacheEnv)
	}
	if dir == "" {
		dir = DefaultCache
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return cache{}, err
	}
	for _, d := range []string{"base", "debs", "layers", "registry", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return cache{}, fmt.Errorf("image cache %s (set %s to use another folder): %w", dir, CacheEnv, err)
		}
	}
	return cache{dir}, nil
}

func (c cache) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// lock waits until no other process builds in this cache. The kernel gives the
// lock back when its holder dies.
func (c cache) lock() (unlock func(), err error) {
	f, err := os.OpenFile(c.path("lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking image cache %s: %w", c.dir, err)
	}
	return func() { f.Close() }, nil
}

// sweep removes what an interrupted build left. Only the holder of the lock
// may call it. Nothing can be mounted there: mounts die with their build.
func (c cache) sweep() error {
	entries, err := os.ReadDir(c.path("tmp"))
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		failed = append(failed, os.RemoveAll(c.path("tmp", e.Name())))
	}
	return errors.Join(failed...)
}

// publish gives a finished folder its final name.
func (c cache) publish(work string, parts ...string) error {
	final := c.path(parts...)
	// What stands there is from a build that did not finish its records.
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return os.Rename(work, final)
}

// layerInfo is what a finished layer is known by.
type layerInfo struct {
	Name    string
	Digest  string // of the compressed tar
	DiffID  string // of the tar
	Size    int64  // compressed
	Created time.Time
}

func (c cache) layer(key string) (layerInfo, bool) {
	var info layerInfo
	if readJSON(c.path("layers", key, "layer.json"), &info) != nil {
		return layerInfo{}, false
	}
	// Used: prune goes by age.
	now := time.Now()
	os.Chtimes(c.path("layers", key), now, now)
	return info, true
}

func (c cache) layerTar(key string) string { return c.path("layers", key, "layer.tar.gz") }

// prune removes layers, bases and registry sets unused for longer than keep,
// except those named.
func (c cache) prune(keep time.Duration, used map[string]bool) (removed []string, err error) {
	for _, kind := range []string{"base", "layers", "registry"} {
		entries, e := os.ReadDir(c.path(kind))
		if e != nil {
			return removed, e
		}
		for _, entry := range entries {
			info, e := entry.Info()
			if e != nil || used[entry.Name()] || time.Since(info.ModTime()) < keep {
				continue
			}
			if e := os.RemoveAll(c.path(kind, entry.Name())); e != nil {
				return removed, e
			}
			removed = append(removed, kind+"/"+entry.Name())
		}
	}
	return removed, nil
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
