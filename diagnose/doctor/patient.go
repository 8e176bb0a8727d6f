package doctor

import (
	"io/fs"
	"strconv"
	"strings"
	"time"

	"linkspan/diagnose"
	"linkspan/probe"
)

// Patient is all that may be looked at.
type Patient struct {
	// Host are the files of the machine, from its root: /proc, /sys, /etc, /run.
	Host fs.FS
	// World is the declared state and the live kernel; nil, or with nil parts, where
	// that cannot be seen.
	World *diagnose.World
	// Features tries what the kernel can do; nil: it is not tried.
	Features func() []probe.Result
	// Machine is what no file says.
	Machine Machine
	// Engine is what the daemon says of itself; nil without one.
	Engine *Engine
}

// Machine is what no file of the host says. See Here.
type Machine struct {
	Now time.Time
	// Unsynchronised: no one corrects the clock (adjtimex(2), STA_UNSYNC).
	Unsynchronised bool
	// Namespace is the network namespace that is looked at ("net:[4026531840]").
	Namespace string
	// Disks are the file systems below the roots of the daemon.
	Disks []Disk
}

// Disk is the file system below a folder.
type Disk struct {
	Path         string
	Free, Total  uint64 // bytes, as root may use them
	Inodes, Left uint64 // 0 of 0 where the file system does not count them
	ReadOnly     bool
	Err          error
}

// Engine is what a running daemon says of itself.
type Engine struct {
	Version, Instance string
	PID               int
	DataRoot          string
	// NoForwarding: --ip-forward=false.
	NoForwarding bool
	Keeper       Keeper
	// Resolvers are the sandboxes whose resolver was asked, by the owner's name, with
	// what went wrong; nil: it answered.
	Resolvers map[string]error
	// Unheld are the sandboxes (owners' names) that should have a resolver of which the
	// keeper knows nothing.
	Unheld []string
	// Upstreams are the servers that resolvers ask.
	Upstreams []Upstream
	// Pending is what a reconciliation would do.
	Pending []Difference
	// Drift is what somebody changed inside sandboxes.
	Drift []string
	// Compared is why Pending is not known.
	Compared error
	// Backoffs are repairs that somebody undoes again and again.
	Backoffs []string
	// Garbage is what nothing declares any more ("link veth123").
	Garbage []string
	// StoreErr is what is wrong with the state file.
	StoreErr error
	// Logs are the containers' log files.
	Logs []Log
	// Mesh is what is known of this host's part in one; nil: it is in none.
	Mesh *Mesh
}

// Mesh is a host's part in a mesh.
type Mesh struct {
	ID    string
	Hosts int
	// Words are what is not as it should be, as `linkspan mesh status` says it, each with
	// its cure.
	Words []string
}

// Keeper is the process that outlives the daemon.
type Keeper struct {
	PID              int
	Version          string
	Started          time.Time
	Sockets, Streams int
	ElsewhereNetns   bool
	Err              error
}

// Upstream is a name server.
type Upstream struct {
	Group, Server           string
	Down                    bool
	Asked, Answered, Failed uint64
}

// Difference is one operation of a reconciliation.
type Difference struct{ Verb, Key, Owner, Command string }

// Log is a container's log.
type Log struct {
	Container string
	Bytes     uint64
	Bounded   bool // max-size is set
}

// line reads a file of one line; empty when it is not there.
func (p *Patient) line(path string) string {
	b, err := fs.ReadFile(p.Host, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number reads a file with a number.
func (p *Patient) number(path string) (n int, ok bool) {
	f := strings.Fields(p.line(path))
	if len(f) == 0 {
		return 0, false
	}
	n, err := strconv.Atoi(f[0])
	return n, err == nil
}

func (p *Patient) sysctl(name string) (n int, ok bool) { return p.number("proc/sys/" + name) }

func (p *Patient) exists(path string) bool {
	_, err := fs.Stat(p.Host, path)
	return err == nil
}

// known says whether the declared state can be seen, kernel whether the live one can.
func (p *Patient) known() bool  { return p.World != nil && p.World.Declared != nil }
func (p *Patient) kernel() bool { return p.World != nil && p.World.Kernel != nil }
