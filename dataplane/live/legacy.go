package live

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/ruleset"
)

// Socket options of ip_tables.h and ip6_tables.h, the same numbers for both.
const (
	getInfo    = 64
	getEntries = 65
	// entriesHeader is struct ipt_get_entries before its entries: a name, the size, and
	// padding to 8 bytes.
	entriesHeader = 40
)

// legacy reads the tables of iptables-legacy. Only those that exist are asked for:
// asking creates the others.
func (k *Kernel) legacy(ns string) (all []*ruleset.Table, err error) {
	err = within(ns, func() error {
		for _, f := range []struct {
			family, list string
			af, level    int
		}{{"ip", "ip_tables_names", unix.AF_INET, unix.SOL_IP}, {"ip6", "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6}} {
			b, err := os.ReadFile("/proc/thread-self/net/" + f.list)
			if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
				continue
			}
			if err != nil {
				return err
			}
			fd, err := unix.Socket(f.af, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return fmt.Errorf("iptables-legacy: %w", err)
			}
			for _, name := range strings.Fields(string(b)) {
				t, err := legacyTable(fd, f.level, f.family, name)
				if err != nil {
					unix.Close(fd)
					return fmt.Errorf("iptables-legacy table %s: %w", name, err)
				}
				all = append(all, t)
			}
			unix.Close(fd)
		}
		return nil
	})
	return all, err
}

// legacyTable reads one. Between the two questions the table can change: EAGAIN.
func legacyTable(fd, level int, family, name string) (*ruleset.Table, error) {
	for range generations {
		b := make([]byte, ruleset.LegacyInfoSize)
		copy(b[:31], name)
		if err := getsockopt(fd, level, getInfo, b); err != nil {
			return nil, err
		}
		i, err := ruleset.DecodeLegacyInfo(b)
		if err != nil {
			return nil, err
		}
		e := make([]byte, entriesHeader+int(i.Size))
		copy(e[:31], name)
		*(*uint32)(unsafe.Pointer(&e[32])) = i.Size
		switch err := getsockopt(fd, level, getEntries, e); err {
		case nil:
			return ruleset.DecodeLegacy(family, i, e[entriesHeader:])
		case unix.EAGAIN, unix.EINVAL:
			continue // it has another size now
		default:
			return nil, err
		}
	}
	return nil, fmt.Errorf("it kept changing while it was read: %w", unix.EAGAIN)
}

func getsockopt(fd, level, opt int, b []byte) error {
	n := uint32(len(b))
	_, _, no := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	runtime.KeepAlive(b)
	if no != 0 {
		return no
	}
	return nil
}
