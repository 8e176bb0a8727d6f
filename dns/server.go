package dns

import (
	"errors"
	"hash/maphash"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"linkspan/cnm"
)

// Config is what a Server stands on. The zero value is usable, but for DialIn.
type Config struct {
	// ResolvConf is the host's list of servers, followed live; empty:
	// /etc/resolv.conf.
	ResolvConf string
	// Log defaults to slog.Default().
	Log *slog.Logger
	// Now defaults to time.Now.
	Now func() time.Time
	// Dial opens a connected socket in the process' own namespace; the default is
	// net.Dialer's. It may take as long as the server takes to accept a tcp
	// connection.
	Dial Dialer
	// DialIn is the same from within a sandbox's namespace. Nil: views with
	// Upstreams and a Namespace cannot ask.
	DialIn func(ns *os.File, network string, server netip.AddrPort) (net.Conn, error)
}

// Server answers for all sandboxes. Its methods are safe for concurrent use and
// do not wait for questions under way; what they change holds for the next
// question.
type Server struct {
	config Config
	log    *slog.Logger
	seed   maphash.Seed
	host   *group // of the host's own servers
	count  counters
	pool   sync.Pool // of *batch
	busy   sync.WaitGroup
	done   chan struct{} // closed by Close

	mu     sync.Mutex
	zones  map[string]*zone
	views  map[string]*view
	closed bool
}

// NewServer makes a server that has no view yet.
func NewServer(c Config) *Server {
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Dial == nil {
		c.Dial = dial
	}
	s := &Server{config: c, log: c.Log, seed: maphash.MakeSeed(), zones: map[string]*zone{}, views: map[string]*view{}, done: make(chan struct{})}
	s.pool.New = func() any { return newBatch() }
	s.host = newGroup(s, "host", hostCache, &resolvConf{path: c.ResolvConf, log: c.Log, now: c.Now}, c.Dial)
	return s
}

// SetView hands a sandbox's sockets over, or (sockets nil) changes what a view
// that is there answers. The server works on duplicates: the caller may close its
// files when it likes. Sockets for a view that has some take their place.
func (s *Server) SetView(v View, sockets *Sockets) error {
	if v.Sandbox == "" {
		return cnm.Invalid("a resolver's view names no sandbox")
	}
	var l *listeners
	if sockets != nil {
		var err error
		if l, err = listen(sockets); err != nil {
			return cnm.Errorf(cnm.ErrUnavailable, "resolver of sandbox %s: %w", v.Sandbox, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.views[v.Sandbox]
	switch {
	case s.closed:
		l.close()
		return cnm.Errorf(cnm.ErrUnavailable, "resolver of sandbox %s: the server is closed", v.Sandbox)
	case old == nil && l == nil:
		return cnm.NotFound("sandbox %s has no resolver: its sockets must be handed over first", v.Sandbox)
	case old == nil:
		old = &view{server: s, id: v.Sandbox}
		s.views[v.Sandbox] = old
	}
	v = v.clone()
	old.data.Store(newViewData(v, s.seed, s.zone, s.upstreams(old, v)))
	if l != nil {
		old.serve(l)
	}
	return nil
}

// upstreams is the group that a view asks.
func (s *Server) upstreams(v *view, wish View) *group {
	servers := slices.Clone(wish.Upstreams)
	servers = slices.DeleteFunc(servers, func(u netip.AddrPort) bool {
		// Our own redirection would lead it back here.
		loop := u.Addr().Unmap() == Addr
		if loop {
			s.log.Warn("dns: a sandbox cannot have its own resolver as its server; left out", "sandbox", v.id, "server", u)
		}
		return loop || !u.IsValid()
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case len(wish.Upstreams) == 0:
		v.upstream = nil
		return s.host
	case v.upstream == nil || !slices.Equal(v.upstream.source.settings().servers, servers):
		v.upstream = newGroup(s, "sandbox "+v.id, viewCache, &fixed{servers: servers}, v.dial)
	}
	return v.upstream
}

// dial opens a socket in the view's namespace.
func (v *view) dial(network string, server netip.AddrPort) (net.Conn, error) {
	v.mu.Lock()
	l := v.sockets
	v.mu.Unlock()
	switch {
	case l == nil:
		return nil, net.ErrClosed
	case l.ns == nil:
		return v.server.config.Dial(network, server)
	case v.server.config.DialIn == nil:
		return nil, errors.New("no way to ask from within a sandbox is configured")
	}
	return v.server.config.DialIn(l.ns, network, server)
}

// zone is the zone of an id, empty if it is not known yet. The caller holds the lock.
func (s *Server) zone(id string) *zone {
	z := s.zones[id]
	if z == nil {
		z = newZone(s.seed)
		s.zones[id] = z
	}
	return z
}

// RemoveView ends a sandbox's resolver; one that is not there is success.
func (s *Server) RemoveView(sandbox string) {
	s.mu.Lock()
	v := s.views[sandbox]
	delete(s.views, sandbox)
	s.mu.Unlock()
	if v != nil {
		v.serve(nil)
	}
}

// Views lists the sandboxes that are served, sorted.
func (s *Server) Views() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.views))
}

// SetNames puts records into a zone, each in place of the one of the same
// endpoint; whole: the zone has no others.
func (s *Server) SetNames(zone string, records []Record, whole bool) {
	s.mu.Lock()
	z := s.zone(zone)
	s.mu.Unlock()
	records = slices.Clone(records)
	for i, r := range records {
		records[i] = r.clone()
	}
	z.set(records, whole)
}

// RemoveNames takes endpoints' records out of a zone.
func (s *Server) RemoveNames(zone string, endpoints []string) {
	s.mu.Lock()
	z := s.zones[zone]
	s.mu.Unlock()
	if z != nil {
		z.remove(endpoints)
	}
}

// KeepZones forgets all zones but these.
func (s *Server) KeepZones(zones []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{}
	for _, id := range zones {
		used[id] = true
	}
	for id, z := range s.zones {
		if !used[id] {
			z.set(nil, true)
		}
	}
	// An empty zone that a view searches stays, as names may come to it.
	for _, v := range s.views {
		d := v.data.Load()
		for _, id := range d.Zones {
			used[id] = true
		}
		for _, l := range d.Links {
			used[l.Zone] = true
		}
	}
	maps.DeleteFunc(s.zones, func(id string, _ *zone) bool { return !used[id] })
}

// State is all that a server knows, for the process that takes its place.
type State struct {
	Views []View              `json:"views,omitempty"`
	Zones map[string][]Record `json:"zones,omitempty"`
}

// State tells what the server knows; what upstreams said is not part of it.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Zones: map[string][]Record{}}
	for _, id := range slices.Sorted(maps.Keys(s.views)) {
		st.Views = append(st.Views, s.views[id].data.Load().View)
	}
	for id, z := range s.zones {
		st.Zones[id] = z.all()
	}
	return st
}

// Restore takes a state over; sockets gives those of a sandbox. Views whose
// sockets cannot be had are left out, and told in the error.
func (s *Server) Restore(st State, sockets func(sandbox string) *Sockets) error {
	for id, records := range st.Zones {
		s.SetNames(id, records, true)
	}
	var failed []error
	for _, v := range st.Views {
		held := sockets(v.Sandbox)
		if held == nil {
			failed = append(failed, cnm.NotFound("resolver of sandbox %s: nobody holds its sockets any more", v.Sandbox))
		} else if err := s.SetView(v, held); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// Close ends all views and waits until nothing is under way.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		close(s.done)
	}
	s.closed = true
	views := slices.Collect(maps.Values(s.views))
	clear(s.views)
	s.mu.Unlock()
	for _, v := range views {
		v.serve(nil)
	}
	s.busy.Wait()
	return nil
}

func (v View) clone() View {
	v.Zones, v.ZoneNames, v.Subnets = slices.Clone(v.Zones), slices.Clone(v.ZoneNames), slices.Clone(v.Subnets)
	v.Own, v.Links = slices.Clone(v.Own), slices.Clone(v.Links)
	v.Upstreams, v.Search = slices.Clone(v.Upstreams), slices.Clone(v.Search)
	for i := range v.Own {
		v.Own[i].Addrs = slices.Clone(v.Own[i].Addrs)
	}
	return v
}

func (r Record) clone() Record {
	r.Names, r.Addrs, r.Ports = slices.Clone(r.Names), slices.Clone(r.Addrs), slices.Clone(r.Ports)
	return r
}
