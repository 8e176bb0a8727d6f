package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// A volume with options is a mount: a tmpfs, a folder of the host, an NFS share. It
// is mounted at its place while a container that uses it runs, or while something
// looks into it, and nowhere else: its files are not the data root's.

// IsMount says that the volume is a mount of something else.
func (v *Volume) IsMount() bool { return v.Options["device"] != "" }

// keyed is a mutex per volume: a server that does not answer holds up its own
// volume only.
type keyed struct {
	mu sync.Mutex
	m  map[string]*sync.Mutex
}

func (k *keyed) lock(name string) (unlock func()) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*sync.Mutex{}
	}
	l := k.m[name]
	if l == nil {
		l = &sync.Mutex{}
		k.m[name] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// Mount implements [Service].
func (s *Store) Mount(ctx context.Context, name string) error {
	v, err := s.Get(ctx, name)
	if err != nil || !v.IsMount() {
		return err
	}
	defer s.mounting.lock(name)()
	if there, err := mountinfo.Mounted(v.Mountpoint); err != nil || there {
		return err
	}
	o := v.Options["o"]
	if strings.HasPrefix(v.Options["type"], "nfs") {
		// The kernel knows no names (nfs(5), addr=).
		if o, err = resolveAddr(ctx, o); err != nil {
			return mountError(v, err)
		}
	}
	flags, again, data := parseOptions(o)
	err = s.step("volume.mount", func() error {
		return unix.Mount(v.Options["device"], v.Mountpoint, v.Options["type"], flags, data)
	})
	if err != nil {
		return mountError(v, err)
	}
	// mount(2) takes no other flags together with MS_BIND, nor a propagation with
	// anything.
	for _, f := range passes(flags, again) {
		if err := s.step("volume.remount", func() error { return unix.Mount("", v.Mountpoint, "", f, "") }); err != nil {
			_ = unix.Unmount(v.Mountpoint, unix.MNT_DETACH)
			return mountError(v, err)
		}
	}
	return nil
}

func mountError(v *Volume, err error) error {
	o := v.Options["o"]
	// Passwords of shares stand among the options.
	if i := strings.Index(o, "password="); i >= 0 {
		o = o[:i] + "password=****"
	}
	return cnm.Errorf(cnm.ErrUnavailable, "volume %s: failed to mount local volume: mount %s:%s, type: %s, o: %s: %w", v.Name, v.Options["device"], v.Mountpoint, v.Options["type"], o, err)
}

// Unmount implements [Service].
func (s *Store) Unmount(ctx context.Context, name string, used func() bool) error {
	v, err := s.Get(ctx, name)
	if errors.Is(err, cnm.ErrNotFound) {
		return nil
	}
	if err != nil || !v.IsMount() {
		return err
	}
	defer s.mounting.lock(name)()
	if used != nil && used() {
		return nil
	}
	return s.step("volume.unmount", func() error { return unmount(v.Mountpoint) })
}

// unmount takes all mounts of a place away; none is success.
func unmount(at string) error {
	for {
		switch err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
}

// clearMounts makes sure that nothing is mounted in a volume's folder that is about
// to be deleted. Our own mount goes; what a person mounted there is not ours to
// take away, still less to delete.
func clearMounts(dir string) error {
	if err := unmount(filepath.Join(dir, data)); err != nil {
		return err
	}
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("something is mounted at %s: unmount it first", list[0].Mountpoint)
	}
	return err
}

// mountFlags are mount(8)'s words for mount(2)'s flags; off takes the flag away.
var mountFlags = map[string]struct {
	off  bool
	flag uintptr
}{
	"ro": {false, unix.MS_RDONLY}, "rw": {true, unix.MS_RDONLY}, "bind": {false, unix.MS_BIND}, "rbind": {false, unix.MS_BIND | unix.MS_REC},
	"nosuid": {false, unix.MS_NOSUID}, "suid": {true, unix.MS_NOSUID}, "nodev": {false, unix.MS_NODEV}, "dev": {true, unix.MS_NODEV},
	"noexec": {false, unix.MS_NOEXEC}, "exec": {true, unix.MS_NOEXEC}, "sync": {false, unix.MS_SYNCHRONOUS}, "async": {true, unix.MS_SYNCHRONOUS},
	"dirsync": {false, unix.MS_DIRSYNC}, "mand": {false, unix.MS_MANDLOCK}, "nomand": {true, unix.MS_MANDLOCK},
	"noatime": {false, unix.MS_NOATIME}, "atime": {true, unix.MS_NOATIME}, "nodiratime": {false, unix.MS_NODIRATIME}, "diratime": {true, unix.MS_NODIRATIME},
	"relatime": {false, unix.MS_RELATIME}, "norelatime": {true, unix.MS_RELATIME}, "strictatime": {false, unix.MS_STRICTATIME},
	"private": {false, unix.MS_PRIVATE}, "rprivate": {false, unix.MS_PRIVATE | unix.MS_REC}, "shared": {false, unix.MS_SHARED}, "rshared": {false, unix.MS_SHARED | unix.MS_REC},
	"slave": {false, unix.MS_SLAVE}, "rslave": {false, unix.MS_SLAVE | unix.MS_REC}, "defaults": {},
}

const propagation = unix.MS_PRIVATE | unix.MS_SHARED | unix.MS_SLAVE | unix.MS_UNBINDABLE

// parseOptions splits options into what the first mount(2) takes, the flags that
// need calls of their own after it, and the file system's own words.
func parseOptions(o string) (flags, again uintptr, data string) {
	var rest []string
	var prop uintptr
	for w := range strings.SplitSeq(o, ",") {
		f, ok := mountFlags[w]
		switch {
		case w == "":
		case !ok:
			rest = append(rest, w)
		case f.flag&propagation != 0:
			prop = f.flag
		case f.off:
			flags &^= f.flag
		default:
			flags |= f.flag
		}
	}
	if flags&unix.MS_BIND != 0 {
		again = flags &^ (unix.MS_BIND | unix.MS_REC)
		flags &= unix.MS_BIND | unix.MS_REC
	}
	return flags, again | prop, strings.Join(rest, ",")
}

// passes are the calls after the first.
func passes(flags, again uintptr) (list []uintptr) {
	if f := again &^ (propagation | unix.MS_REC); f != 0 {
		list = append(list, f|unix.MS_BIND|unix.MS_REMOUNT)
	}
	if f := again & propagation; f != 0 {
		list = append(list, again&(propagation|unix.MS_REC))
	}
	return list
}

// resolveAddr puts the address in place of a server's name in addr=.
func resolveAddr(ctx context.Context, o string) (string, error) {
	words := strings.Split(o, ",")
	for i, w := range words {
		host, ok := strings.CutPrefix(w, "addr=")
		if !ok {
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return o, nil
		}
		list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(list) == 0 {
			return "", fmt.Errorf("the server of addr=%s: %w", host, err)
		}
		words[i] = "addr=" + list[0].Unmap().String()
	}
	return strings.Join(words, ","), nil
}
