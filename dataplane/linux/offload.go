package linux

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// Features of network devices, by ethtool's ioctl (linux/ethtool.h): it is older than
// its netlink family and knows the same.
const (
	ethtoolGStrings  = 0x1b
	ethtoolGSSetInfo = 0x37
	ethtoolGFeatures = 0x3a
	ethtoolSFeatures = 0x3b
	ethFeatures      = 4  // ETH_SS_FEATURES
	ethNameLen       = 32 // ETH_GSTRING_LEN
)

func (a *applier) offload(o dataplane.Offload, del bool) error {
	if del {
		return nil // who declared it gives back what it was
	}
	k := a.k
	k.borrowed.note(o.Link)
	return k.inHost(func() error {
		e, err := openEthtool(o.Link)
		if err != nil {
			return err
		}
		defer e.close()
		at, have, fixed, err := e.feature(o.Feature)
		if err != nil {
			return err
		}
		if have == o.On {
			return nil
		}
		if fixed {
			return cnm.Unsupported("%s of %s cannot be changed: its driver has it fixed", o.Feature, o.Link)
		}
		if k.cfg.OnShared != nil {
			if err := k.cfg.OnShared(o.Setting(), onOrOff(have)); err != nil {
				return fmt.Errorf("that it is %s could not be recorded, so it stays: %w", onOrOff(have), err)
			}
		}
		if err := e.set(at, o.On); err != nil {
			return err
		}
		if _, now, _, err := e.feature(o.Feature); err != nil || now != o.On {
			return errors.Join(err, cnm.Unsupported("%s of %s stays %s: another feature needs it so", o.Feature, o.Link, onOrOff(have)))
		}
		return nil
	})
}

// readOffload observes one; nil when the link, or the feature, is not there.
func (k *Kernel) readOffload(o dataplane.Offload) (*dataplane.Offload, error) {
	k.borrowed.note(o.Link)
	var out *dataplane.Offload
	err := k.inHost(func() error {
		e, err := openEthtool(o.Link)
		if err != nil {
			return err
		}
		defer e.close()
		_, on, _, err := e.feature(o.Feature)
		if err == nil {
			out = &dataplane.Offload{Link: o.Link, Feature: o.Feature, On: on}
		}
		return err
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, cnm.ErrUnsupported) {
		return nil, nil
	}
	return out, err
}

func onOrOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// ethtool asks about one device, in the namespace of the thread that opened it.
type ethtool struct {
	fd     int
	name   string
	blocks int // of 32 features each
}

func openEthtool(link string) (*ethtool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	return &ethtool{fd: fd, name: link}, nil
}

func (e *ethtool) close() { unix.Close(e.fd) }

// ethRequest is struct ifreq with a pointer in it (netdevice(7)).
type ethRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

func (e *ethtool) do(words []uint32) error {
	r := ethRequest{data: unsafe.Pointer(&words[0])}
	copy(r.name[:unix.IFNAMSIZ-1], e.name)
	if _, _, n := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); n != 0 {
		if n == unix.ENODEV {
			return fmt.Errorf("there is no link %s: %w", e.name, n)
		}
		return fmt.Errorf("ethtool %s: %w", e.name, n)
	}
	return nil
}

// feature finds a feature by its name: its number, and whether it is on, and fixed.
func (e *ethtool) feature(name string) (at int, on, fixed bool, err error) {
	info := []uint32{ethtoolGSSetInfo, 0, 1 << ethFeatures, 0, 0}
	if err := e.do(info); err != nil {
		return 0, false, false, err
	}
	n := int(info[4])
	all := make([]uint32, 3+n*ethNameLen/4)
	all[0], all[1], all[2] = ethtoolGStrings, ethFeatures, uint32(n)
	if n == 0 {
		return 0, false, false, cnm.Unsupported("%s tells no features", e.name)
	}
	if err := e.do(all); err != nil {
		return 0, false, false, err
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(&all[3])), n*ethNameLen)
	for at = range n {
		if unix.ByteSliceToString(text[at*ethNameLen:(at+1)*ethNameLen]) == name {
			break
		}
		if at == n-1 {
			return 0, false, false, cnm.Unsupported("%s has no feature %q (ethtool -k %s)", e.name, name, e.name)
		}
	}
	e.blocks = (n + 31) / 32
	got := make([]uint32, 2+4*e.blocks) // available, requested, active, never changed
	got[0], got[1] = ethtoolGFeatures, uint32(e.blocks)
	if err := e.do(got); err != nil {
		return 0, false, false, err
	}
	b, bit := got[2+at/32*4:], uint32(1)<<(at%32)
	return at, b[2]&bit != 0, b[0]&bit == 0 || b[3]&bit != 0, nil
}

func (e *ethtool) set(at int, on bool) error {
	// As many blocks as there are features: the kernel takes no part of them.
	req := make([]uint32, 2+2*e.blocks) // valid, requested
	req[0], req[1] = ethtoolSFeatures, uint32(e.blocks)
	bit := uint32(1) << (at % 32)
	req[2+at/32*2] = bit
	if on {
		req[3+at/32*2] = bit
	}
	return e.do(req)
}
