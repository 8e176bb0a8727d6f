package publish

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is who holds a host port.
type Process struct {
	PID     int // 0: not visible from here
	Command string
	// Waiting says that no process holds it: closed connections are in TIME_WAIT.
	Waiting bool
}

// Holder finds the process whose socket keeps a port from being bound on an
// address (the zero one: any), in the caller's network namespace. Listening
// sockets come first. A socket that is bound and does not listen is in no table
// of /proc/net and is not found.
func Holder(proto string, addr netip.Addr, port uint16) (Process, bool) {
	return holderIn("/proc", proto, addr, port)
}

func holderIn(proc, proto string, addr netip.Addr, port uint16) (Process, bool) {
	var found socket
	rank := 0
	// thread-self, not self: a locked thread may be in another namespace than the
	// process.
	for _, table := range tables(proto) {
		f, err := os.Open(filepath.Join(proc, "thread-self/net", table))
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			s, ok := parseSocket(lines.Text(), strings.HasSuffix(table, "6"))
			if !ok || s.local.Port() != port || !inTheWay(s.local.Addr(), addr) {
				continue
			}
			if r := s.rank(proto); r > rank {
				found, rank = s, r
			}
		}
		_ = f.Close()
	}
	switch {
	case rank == 0:
		return Process{}, false
	case found.inode == 0:
		return Process{Waiting: true}, true
	}
	return processOf(proc, found.inode), true
}

func tables(proto string) []string {
	switch proto {
	case "tcp":
		return []string{"tcp", "tcp6"}
	case "udp":
		return []string{"udp", "udp6", "udplite", "udplite6"}
	}
	return nil // of SCTP the tables are another format, and the module is rare
}

// socket is one line of a table.
type socket struct {
	local netip.AddrPort
	state uint8
	inode uint64
}

// States of /proc/net/tcp (include/net/tcp_states.h).
const (
	stateTimeWait = 6
	stateClose    = 7
	stateListen   = 10
)

// rank says how likely this socket is the one that is meant.
func (s socket) rank(proto string) int {
	switch {
	case proto == "tcp" && s.state == stateListen, proto == "udp" && s.state == stateClose:
		return 3
	case s.inode != 0:
		return 2
	case s.state == stateTimeWait:
		return 1
	}
	return 0
}

// inTheWay says whether a socket on one address keeps another from being bound.
// A socket on [::] may be in the way of IPv4 too, as it is unless it is v6-only.
func inTheWay(have, want netip.Addr) bool {
	have, want = have.Unmap(), want.Unmap()
	return !want.IsValid() || have == want ||
		have.IsUnspecified() && (have.Is6() || want.Is4()) ||
		want.IsUnspecified() && want.Is4() == have.Is4()
}

// parseSocket reads a line of /proc/net/tcp and its like (proc_net_tcp.rst):
// number, local address, remote address, state, queues, timer, retransmissions,
// uid, timeout, inode.
func parseSocket(line string, v6 bool) (s socket, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return s, false
	}
	host, port, found := strings.Cut(f[1], ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !found {
		return s, false
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 && len(raw) != 16 || (len(raw) == 16) != v6 {
		return s, false
	}
	// Each 32-bit word of the address is printed as a number of this machine.
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return s, false
	}
	inode, err := strconv.ParseUint(f[9], 10, 64)
	if err != nil {
		return s, false
	}
	return socket{netip.AddrPortFrom(addr, uint16(p)), uint8(state), inode}, true
}

// processOf finds who has the socket open. Inode numbers of sockets are unique
// over all network namespaces. A socket shared by several processes (a server
// that forked) is said to be the first one's, the parent's as a rule.
func processOf(proc string, inode uint64) Process {
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	best := Process{}
	procs, _ := os.ReadDir(proc)
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || best.PID != 0 && pid > best.PID {
			continue
		}
		dir := filepath.Join(proc, p.Name())
		fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
		for _, fd := range fds {
			if target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && target == want {
				comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
				best = Process{PID: pid, Command: string(bytes.TrimSpace(comm))}
				break
			}
		}
	}
	return best
}
