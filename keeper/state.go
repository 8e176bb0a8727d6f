package keeper

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dns"
	"linkspan/wireguard/userspace"
)

// stateFormat numbers the form in which a keeper hands itself to its next
// version. A field may be added without raising it when its absence means what
// was so before.
const stateFormat = 1

// The saved forms. Descriptors are numbers that the next process inherits; -1
// is none.
type (
	savedServer struct {
		Format   int
		Began    time.Time
		Lock     int
		Listener int
		Controls []savedControl
		Streams  []savedStream
		Ports    []savedPort
		Views    []savedView `json:",omitempty"`
		Names    *dns.State  `json:",omitempty"`

		Tunnels []userspace.Saved `json:",omitempty"`
	}
	savedControl struct {
		Conn    int
		Greeted bool
		In      []byte    // read and not handled
		Files   []int     // descriptors that came with it
		Out     []byte    // not written yet
		Running []request // go on in the next process
	}
	savedStream struct {
		Spec        StreamSpec
		Started     bool
		Ended       bool
		Retired     bool
		StdinClosed bool
		Lost, Gap   uint64
		Log         int
		Stdin       int
		StdinHold   int
		Outs        []savedOutput
		Clients     []savedClient
	}
	savedOutput struct {
		Kind  byte
		Done  bool
		FIFO  int
		Hold  int
		Held  []byte
		Since []byte
	}
	savedClient struct {
		Conn      int
		Options   AttachOptions
		Control   int // index; -1: its daemon is gone
		Request   uint64
		Stdin     bool
		Live      bool
		Queue     []byte
		Typed     []byte
		KeysHeld  int
		InputDone bool
		Finishing bool
		Detached  bool
		Flushed   bool
		Replay    int64          // offset in the log, or in the first of Reading; -1: none
		Reading   []savedReading `json:",omitempty"`
	}
	savedReading struct { // a file of a log that is being replayed
		File int
		GZ   bool
	}
	savedPort struct {
		Request    PortRequest
		Sockets    []int
		Forwarders []savedForwarder
	}
	savedForwarder struct {
		Listener int
		Target   netip.AddrPort
		Conns    []savedForwarded `json:",omitempty"` // tcp
		Sessions []savedSession   `json:",omitempty"` // udp
	}
	savedForwarded struct {
		Client, Server   int // Server -1: dial again
		UpDone, DownDone bool
	}
	savedSession struct {
		Client netip.AddrPort
		Local  netip.Addr
		Server int
		// To is where it leads when that is not the forwarder's target any more.
		To netip.AddrPort `json:",omitzero"`
	}
)

// bag collects the descriptors that go over to the next process.
type bag struct {
	fds []int
	err error
}

// take copies c's descriptor into the bag; c itself can then be closed.
func (b *bag) take(c syscall.Conn) int {
	fd := -1
	raw, err := c.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
		if cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		if b.err == nil {
			b.err = fmt.Errorf("a descriptor cannot be kept: %w", err)
		}
		return -1
	}
	b.fds = append(b.fds, fd)
	return fd
}

// own puts a bare descriptor into the bag.
func (b *bag) own(fd int) int {
	if fd >= 0 {
		b.fds = append(b.fds, fd)
	}
	return fd
}

// pass makes the bag survive exec, or not.
func (b *bag) pass(on bool) error {
	flag := unix.FD_CLOEXEC
	if on {
		flag = 0
	}
	for _, fd := range b.fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("descriptor %d cannot be handed on: %w", fd, err)
		}
	}
	return nil
}

// file makes a file of an inherited descriptor; nil for none.
func file(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// socket makes a connection of an inherited descriptor.
func socket[C net.Conn](fd int) (C, error) {
	var none C
	f := file(fd, "socket")
	if f == nil {
		return none, fmt.Errorf("a connection has no descriptor")
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return none, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	typed, ok := c.(C)
	if !ok {
		c.Close()
		return none, fmt.Errorf("descriptor %d is a %T", fd, c)
	}
	return typed, nil
}

// writeState puts the state into a file that has no name and no disk.
func writeState(st savedServer) (*os.File, error) {
	fd, err := unix.MemfdCreate("keeper-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "keeper-state")
	if err = json.NewEncoder(f).Encode(st); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readState(f *os.File) (st savedServer, err error) {
	if err := json.NewDecoder(f).Decode(&st); err != nil {
		return st, fmt.Errorf("state of the former keeper: %w", err)
	}
	if st.Format != stateFormat {
		return st, fmt.Errorf("state of the former keeper has format %d, this one reads %d", st.Format, stateFormat)
	}
	return st, nil
}
