package server

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sys/unix"
)

// abandon gives up what can no longer be stopped.
func (m *member) abandon() {
	m.stop.Do(func() { close(m.stopping) })
	for _, l := range m.etcd.Clients {
		_ = l.Close()
	}
	for _, l := range m.etcd.Peers {
		_ = l.Close()
	}
	m.sever()
	// What is not held ends by itself, and cannot touch the files any more.
	m.shut()
	go m.bury()
}

// bury sees to it that raft's loop ends, when it was something else that failed: it would
// go on as this member, in the way of the next run. The loop ends at its first write, now
// that its log leads nowhere, and before it has told anyone of it; so it is given
// something to write. Asking for alarms is a question that goes through the log.
func (m *member) bury() {
	for range 60 {
		select {
		case <-m.quiet:
			return
		case <-m.etcd.Server.StopNotify():
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		_, _ = m.etcd.Server.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
		<-ctx.Done()
		cancel()
	}
}

// sever takes the files below the folder, and the sockets that listen at the member's
// addresses, away from what is left of it: the locks are undone, and the descriptors lead
// to /dev/null, where no late write can hurt. The next run in this process can have them
// then. The locks are open file description locks (fcntl(2)) and flock(2), which any
// descriptor of the same description can undo.
func (m *member) sever() {
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	dir, err := filepath.EvalSymlinks(m.dir)
	if err != nil {
		return
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(to, dir+"/") && !(strings.HasPrefix(to, "socket:") && m.listens(fd)) {
			continue
		}
		_ = syscall.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &syscall.Flock_t{Type: syscall.F_UNLCK})
		_ = unix.Flock(fd, unix.LOCK_UN)
		_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
	}
}

// listens says whether a descriptor is a socket that listens at one of the addresses.
func (m *member) listens(fd int) bool {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return false
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	var at netip.AddrPort
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return slices.Contains(m.listen, at)
}
