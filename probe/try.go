package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

func tryRoot() error {
	if id := os.Geteuid(); id != 0 {
		return fmt.Errorf("running as user %d", id)
	}
	return nil
}

// inNew runs fn in a network namespace that dies with its thread: the goroutine
// ends while locked, so the thread ends too.
func inNew(fn func() error) error {
	out := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // the main thread cannot end
			inner := make(chan error, 1)
			go func() { inner <- inNew(fn) }()
			out <- <-inner
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			out <- fmt.Errorf("unshare: %w", err)
			return
		}
		out <- fn()
	}()
	return <-out
}

// The messages below are written by hand, so that everything may ask probe
// without linking the netlink libraries.

func makeLink(kind string) error {
	ifinfo := make([]byte, unix.SizeofIfInfomsg)
	info := attribute(unix.IFLA_LINKINFO, attribute(iflaInfoKind, []byte(kind)))
	name := attribute(unix.IFLA_IFNAME, []byte("lsprobe\x00"))
	m := message(unix.RTM_NEWLINK, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, 1, append(append(ifinfo, name...), info...))
	return converse(unix.NETLINK_ROUTE, m)
}

// tryVXLAN asks for a device without a number, which a kernel that has them refuses as
// incomplete (vxlan_validate).
func tryVXLAN() error {
	if err := makeLink("vxlan"); !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// makeTUN makes a TUN device, which ends with its descriptor.
func makeTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lsprobe")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

func makeTable() error {
	batch := func(typ uint16, seq uint32) []byte {
		return message(typ, 0, seq, []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES})
	}
	body := append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attribute(unix.NFTA_TABLE_NAME, []byte("lsprobe\x00"))...)
	m := batch(unix.NFNL_MSG_BATCH_BEGIN, 1)
	m = append(m, message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.NLM_F_ACK|unix.NLM_F_CREATE, 2, body)...)
	return converse(unix.NETLINK_NETFILTER, append(m, batch(unix.NFNL_MSG_BATCH_END, 3)...))
}

func dumpConntrack() error {
	return converse(unix.NETLINK_NETFILTER, message(unix.NFNL_SUBSYS_CTNETLINK<<8|ctGet, unix.NLM_F_DUMP, 1, []byte{unix.AF_INET, 0, 0, 0}))
}

// bindLog reads a group of packets that rules log; it ends with the socket.
func bindLog() error {
	body := append([]byte{unix.AF_UNSPEC, 0, 0x12, 0x67}, attribute(nfulaCfgCmd, []byte{nfulnlBind})...)
	return converse(unix.NETLINK_NETFILTER, message(unix.NFNL_SUBSYS_ULOG<<8|nfulnlConfig, unix.NLM_F_ACK, 1, body))
}

// From linux/netfilter/nfnetlink_log.h.
const (
	nfulnlConfig = 1 // NFULNL_MSG_CONFIG
	nfulaCfgCmd  = 1 // NFULA_CFG_CMD
	nfulnlBind   = 1 // NFULNL_CFG_CMD_BIND
)

// From linux/if_link.h and linux/netfilter/nfnetlink_conntrack.h.
const (
	iflaInfoKind = 1 // IFLA_INFO_KIND
	ctGet        = 1 // IPCTNL_MSG_CT_GET
)

func message(typ, flags uint16, seq uint32, body []byte) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0)
	return append(b, body...)
}

func attribute(typ uint16, data []byte) []byte {
	n := 4 + len(data)
	b := binary.NativeEndian.AppendUint16(nil, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, (4-n%4)%4)...)
}

// converse sends and waits for the first answer's error code.
func converse(proto int, m []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.Timeval{Sec: 5}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	b := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	if n >= unix.SizeofNlMsghdr+4 && binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
		if e := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); e != 0 {
			return unix.Errno(-e)
		}
	}
	return nil
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

func socket(family, typ, proto int) error {
	fd, err := unix.Socket(family, typ, proto)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// tryOverlay mounts one, in a mount namespace that dies with its thread.
func tryOverlay() error {
	dir, err := os.MkdirTemp("", "lsprobe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	opts := ""
	for _, d := range []string{"lowerdir", "upperdir", "workdir"} {
		p := filepath.Join(dir, d)
		if err := os.Mkdir(p, 0o700); err != nil {
			return err
		}
		opts += "," + d + "=" + p
	}
	return inNew(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		// Private, or the mount would propagate to everyone.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		err := unix.Mount("overlay", dir, "overlay", 0, opts[1:])
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w (is the temporary folder itself on an overlay? set TMPDIR)", err)
		}
		return err
	})
}
