// Package host is this host in the mesh: it remembers across restarts which mesh that is
// and what it does for it, runs what belongs to it in the background (an etcd member and
// the gate where the host is a member, the client of the common store, package mesh, the
// renewal of certificates), and does what people say by `linkspan mesh`. Nothing that a
// single host does waits for any of it.
package host

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/store"
)

// Config of Open.
type Config struct {
	// DataRoot is the daemon's; what is kept is below its folder "mesh".
	DataRoot string
	// Hostname is the name where none is given; Version the daemon's.
	Hostname, Version string
	// Ports where they are not the usual ones; 0: the usual one.
	Ports Ports
	// External is an etcd cluster that exists already; nil: the mesh is made or joined.
	External *External
	// Local is this host's own store, in which package mesh keeps what it knows.
	Local store.Store

	// Attach hands over the mesh that this host has joined while the daemon runs, and nil
	// when it has left: network.Controller.SetMesh. It returns when that is taken over.
	Attach func(context.Context, *mesh.Mesh) error
	// Sink hears what the mesh tells: the network's controller.
	Sink mesh.Sink
	// Place says what the kernel knows of this host's end; Way of the way to a peer.
	Place func(listen netip.Addr) mesh.Place
	Way   func(peer netip.Addr) mesh.Way
	// Used are the prefixes that this host uses itself.
	Used func(context.Context) []mesh.Used
	// Busy names the containers that are on networks of the mesh.
	Busy func() []string
	// Beside are what else runs as long as this host is in a mesh: WireGuard, probes. Each
	// ends with its context.
	Beside []func(ctx context.Context, in Inside)
	// Paths are the ways that packets take to a peer, and Measure what probes meet on
	// them, by peer id; nil: it is not known.
	Paths   func(cnm.Peer) []PathStatus
	Measure func(ctx context.Context, in Inside) map[string][]PathStatus
	// Check probes the ways to all peers; Rotate gives WireGuard a new key; Encryption is
	// how WireGuard runs. All may be nil.
	Check      func(ctx context.Context, in Inside) (*Checked, error)
	Rotate     func(context.Context) error
	Encryption func() string

	Log *slog.Logger
	// Hook is a fail point around every change that a next daemon finds.
	Hook func(point string)
}

// External is an etcd cluster that exists already.
type External struct {
	Endpoints     []string // HOST:PORT
	CA, Cert, Key string   // files; empty: no TLS
	// User and the file of its password, where etcd has users; empty: it has none.
	User, PasswordFile string
	Listen             netip.Addr
	Name               string
}

// Inside is what runs beside gets to know.
type Inside struct {
	Mesh  *mesh.Mesh
	Host  string // this host's id
	Name  string
	Addr  netip.Addr
	Ports Ports
	// Server and Client are TLS among the mesh's hosts; nil where it has no certificates
	// of its own.
	Server, Client *tls.Config
}

// Host is this host in the mesh, or outside of any. Safe for concurrent use.
type Host struct {
	cfg Config
	log *slog.Logger
	dir folder

	// changing is held by who changes what this host is: one at a time.
	changing chan struct{}

	mu      sync.Mutex
	state   *State // nil: in no mesh
	broken  error  // the folder cannot be read: nothing is done, and it is said
	running *running
	begun   bool // background work may run
	closed  bool
	note    string // of the external etcd: why this host is not in it
}

// Open reads what this host remembers. It waits for no other host: what is in the cache
// is in Mesh when it returns, and nothing runs before Begin.
func Open(ctx context.Context, c Config) (*Host, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	c.Ports = c.Ports.filled()
	h := &Host{cfg: c, log: c.Log, dir: folder{Folder(c.DataRoot), c.Hook}, changing: make(chan struct{}, 1)}
	if err := h.dir.sweep(); err != nil {
		h.log.Warn("what is left of a mesh that this host has left is not removed", "err", err)
	}
	st, err := h.dir.load()
	if err == nil {
		st, err = h.reconcileExternal(st)
	}
	if err != nil {
		// Containers run without the mesh; without the daemon they do not.
		h.broken = err
		h.log.Error("this host's part in the mesh cannot be taken up: "+err.Error(), "folder", h.dir.path)
		return h, nil
	}
	h.state = st
	if st != nil {
		h.running, err = h.prepare(ctx, st)
		if err != nil {
			h.broken = err
			h.log.Error("this host's part in the mesh cannot be taken up: "+err.Error(), "folder", h.dir.path)
		}
	}
	return h, nil
}

func (p Ports) filled() Ports {
	for _, x := range []struct{ at, usual *uint16 }{
		{&p.Gate, &DefaultPorts.Gate}, {&p.Etcd, &DefaultPorts.Etcd}, {&p.Peer, &DefaultPorts.Peer}, {&p.Check, &DefaultPorts.Check},
		{&p.VXLAN, &DefaultPorts.VXLAN}, {&p.Secure, &DefaultPorts.Secure}, {&p.Encryption, &DefaultPorts.Encryption},
	} {
		if *x.at == 0 {
			*x.at = *x.usual
		}
	}
	return p
}

// Mesh is the mesh that this host is in, or nil. What it knows may be of yesterday.
func (h *Host) Mesh() *mesh.Mesh {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil {
		return nil
	}
	return h.running.mesh
}

// Begin lets the background work run: after the controller has started with Mesh.
func (h *Host) Begin() {
	h.changing <- struct{}{} // not beside a Close
	defer func() { <-h.changing }()
	h.mu.Lock()
	r, closed := h.running, h.closed
	h.begun = true
	h.mu.Unlock()
	if r != nil && !closed {
		r.begin()
	}
}

// Close ends what runs here. The mesh goes on, and this host stays in it.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	if h.running != nil {
		h.running.stop() // whoever changes something gives up
	}
	h.mu.Unlock()
	h.changing <- struct{}{}
	defer func() { <-h.changing }()
	h.mu.Lock()
	r := h.running
	h.running = nil
	h.mu.Unlock()
	return r.close()
}

// change waits for the turn to change what this host is.
func (h *Host) change(ctx context.Context, what string) (done func(), err error) {
	select {
	case h.changing <- struct{}{}:
	case <-ctx.Done():
		return nil, cnm.Conflict("%s: something else is being changed about this host's mesh at this moment; wait and say it again", what)
	}
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		<-h.changing
		return nil, cnm.Errorf(cnm.ErrUnavailable, "%s: the daemon is being stopped", what)
	}
	return func() { <-h.changing }, nil
}

// current is the state as it is now; nil: in no mesh.
func (h *Host) current() (*State, *running) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.running
}

// put makes st the state, on disk first.
func (h *Host) put(st *State) error {
	if err := h.dir.save(st); err != nil {
		return err
	}
	h.mu.Lock()
	h.state = st
	h.mu.Unlock()
	return nil
}

// in is the state of a host that is in a mesh, or an error with the cure.
func (h *Host) in(what string) (*State, *running, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.broken != nil:
		return nil, nil, h.broken
	case h.state == nil:
		return nil, nil, cnm.Conflict("%s: this host is in no mesh; make one: linkspan mesh init --listen ADDRESS, or join one: linkspan mesh join HOST:%d --token TOKEN", what, h.cfg.Ports.Gate)
	case h.running == nil:
		return nil, nil, cnm.Errorf(cnm.ErrUnavailable, "%s: this host's part in the mesh does not run; see linkspan mesh status", what)
	}
	return h.state, h.running, nil
}

// name is this host's in the mesh.
func (h *Host) name(wished string) (string, error) {
	n := wished
	if n == "" {
		n = h.cfg.Hostname
	}
	if !hostName(n) {
		return "", cnm.Invalid("%q is no name for a host: letters, digits, dots, dashes and underscores, at most 63; name it with --name", n)
	}
	return n, nil
}

func hostName(s string) bool {
	if s == "" || len(s) > 63 || strings.Trim(s, ".-_") != s {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return true
}

// within bounds what a person waits for.
func within(ctx context.Context, d time.Duration, why string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errors.New(why))
}
