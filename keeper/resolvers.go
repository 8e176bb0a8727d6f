package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dns"
	"linkspan/netns"
)

// resolvers are the sandboxes' name servers: dns.Server does the work, on
// duplicates of the sockets that are held here for the next process.
type resolvers struct {
	logger *slog.Logger
	server *dns.Server

	mu   sync.Mutex // a view and its sockets change together
	held map[string]*dns.Sockets
}

func newResolvers(logger *slog.Logger) *resolvers {
	return &resolvers{
		logger: logger, held: map[string]*dns.Sockets{},
		server: dns.NewServer(dns.Config{Log: logger, DialIn: netns.DialIn}),
	}
}

// setView takes a view and, when they came, its sockets.
func (r *resolvers) setView(v dns.View, sockets *dns.Sockets) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.server.SetView(v, sockets); err != nil {
		closeSockets(sockets)
		return err
	}
	if sockets != nil {
		closeSockets(r.held[v.Sandbox])
		r.held[v.Sandbox] = sockets
	}
	return nil
}

func (r *resolvers) removeView(sandbox string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server.RemoveView(sandbox)
	closeSockets(r.held[sandbox])
	delete(r.held, sandbox)
}

// views lists the sandboxes, sorted.
func (r *resolvers) views() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.held))
}

func (r *resolvers) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held) == 0
}

// answerTime bounds how long questions that are with upstreams hold up an upgrade
// or the keeper's end. Who asked again later is answered by the next process.
const answerTime = time.Second

// end stops serving: what was asked is answered first, as far as that does not take
// too long. The sockets are then closed at once.
func (r *resolvers) end() {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	r.server.Drain(ctx)
	done := make(chan error, 1)
	go func() { done <- r.server.Close() }()
	select {
	case err := <-done:
		if err != nil {
			r.logger.Warn("closing the resolvers", "err", err)
		}
	case <-ctx.Done():
		r.logger.Info("questions that wait for name servers are given up")
	}
}

// close ends all of them.
func (r *resolvers) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	for _, s := range r.held {
		closeSockets(s)
	}
	clear(r.held)
}

// freeze stops answering and describes everything. Questions that come from now
// on wait in their sockets for the next process.
func (r *resolvers) freeze(b *bag) ([]savedView, *dns.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.server.State()
	r.end()
	var views []savedView
	for sandbox, s := range r.held {
		sv := savedView{Sandbox: sandbox, UDP: b.take(s.UDP), TCP: b.take(s.TCP), NS: -1}
		if s.Namespace != nil {
			sv.NS = b.take(s.Namespace)
		}
		views = append(views, sv)
		closeSockets(s)
	}
	clear(r.held)
	return views, &state
}

// thaw goes on from a description. A view that cannot is lost and said: the
// daemon compares Views with what it wants.
func (r *resolvers) thaw(views []savedView, state *dns.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sv := range views {
		s := &dns.Sockets{UDP: file(sv.UDP, "udp"), TCP: file(sv.TCP, "tcp"), Namespace: file(sv.NS, "netns")}
		if s.UDP == nil || s.TCP == nil {
			r.logger.Error("a sandbox's resolver was lost in the upgrade: its sockets did not come over", "sandbox", sv.Sandbox)
			closeSockets(s)
			continue
		}
		r.held[sv.Sandbox] = s
	}
	if state == nil {
		return // the former process knew no names
	}
	err := r.server.Restore(*state, func(sandbox string) *dns.Sockets { return r.held[sandbox] })
	if err != nil {
		r.logger.Error("resolvers were lost in the upgrade", "err", err)
	}
	served := r.server.Views()
	for sandbox, s := range r.held {
		if !slices.Contains(served, sandbox) {
			closeSockets(s)
			delete(r.held, sandbox)
		}
	}
}

func closeSockets(s *dns.Sockets) {
	if s == nil {
		return
	}
	for _, f := range []*os.File{s.UDP, s.TCP, s.Namespace} {
		if f != nil {
			f.Close()
		}
	}
}

// viewBody is SetView's. The sockets ride along in the order UDP, TCP, namespace.
type viewBody struct {
	View dns.View `json:"view"`
	// Sockets says how many came, 0, 2 or 3: a client that lost some on the way
	// must not be taken for one that sent none.
	Sockets int `json:"sockets,omitempty"`
}

// handleView takes a view; files are its own.
func (s *server) handleView(q request, files []int) (any, error) {
	var sockets *dns.Sockets
	if len(files) > 0 {
		names := []string{"udp", "tcp", "netns", "more"}
		var all []*os.File
		for i, fd := range files {
			all = append(all, os.NewFile(uintptr(fd), names[i]))
		}
		all = append(all, nil, nil, nil)
		sockets = &dns.Sockets{UDP: all[0], TCP: all[1], Namespace: all[2]}
		if all[3] != nil {
			all[3].Close()
		}
	}
	return with(q, func(b viewBody) (_ any, err error) {
		if b.Sockets != len(files) || b.Sockets == 1 || b.Sockets > 3 {
			err = cnm.Invalid("%s: %d descriptors were announced and %d came: want none, or UDP, TCP and namespace", q.Op, b.Sockets, len(files))
		} else if err = checkID(b.View.Sandbox); err == nil && sockets != nil {
			err = checkSockets(sockets)
		}
		if err != nil {
			closeSockets(sockets)
			return nil, err
		}
		return nil, s.resolvers.setView(b.View, sockets)
	})
}

// checkSockets makes sure that the sockets do not block: the flag is the open
// file's, and a daemon's os.File.Fd takes it away.
func checkSockets(s *dns.Sockets) error {
	for _, f := range []*os.File{s.UDP, s.TCP} {
		if err := nonblocking(f); err != nil {
			return cnm.Invalid("resolver: %s socket: %w", f.Name(), err)
		}
	}
	return nil
}

func nonblocking(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetNonblock(int(fd), true) }); err != nil {
		return err
	}
	return serr
}

type (
	zoneBody struct {
		Zone      string       `json:"zone"`
		Records   []dns.Record `json:"records,omitempty"`
		Whole     bool         `json:"whole,omitempty"`
		Endpoints []string     `json:"endpoints,omitempty"`
	}
	zonesBody struct {
		Zones []string `json:"zones"`
	}
)

// setNames: a zone needs a name, or records of all networks would meet in one.
func (s *server) setNames(b zoneBody) (any, error) {
	if b.Zone == "" {
		return nil, cnm.Invalid("names for no zone")
	}
	for _, r := range b.Records {
		if r.Endpoint == "" {
			return nil, cnm.Invalid("zone %s: the record of %q names no endpoint", b.Zone, r.Names)
		}
	}
	s.resolvers.server.SetNames(b.Zone, b.Records, b.Whole)
	return nil, nil
}

// SetView hands a sandbox's resolver over, or changes what one that is there
// answers; that one is not there is then cnm.ErrNotFound. The caller closes its
// own copies of the files, and must not have called Fd on the sockets.
func (c *Client) SetView(ctx context.Context, v dns.View, sockets *dns.Sockets) error {
	b := viewBody{View: v}
	var files []*os.File
	if sockets != nil {
		if sockets.UDP == nil || sockets.TCP == nil {
			return cnm.Invalid("resolver of sandbox %s: %w", v.Sandbox, errNoSockets)
		}
		files = append(files, sockets.UDP, sockets.TCP)
		if sockets.Namespace != nil {
			files = append(files, sockets.Namespace)
		}
		b.Sockets = len(files)
	}
	return c.call(ctx, opSetView, b, nil, files...)
}

// errNoSockets: SetView with half of what a resolver needs.
var errNoSockets = errors.New("it needs a UDP and a TCP socket")

// RemoveView ends a sandbox's resolver.
func (c *Client) RemoveView(ctx context.Context, sandbox string) error {
	return c.call(ctx, opRemoveView, idBody{sandbox}, nil)
}

// Views lists the sandboxes whose resolver the keeper holds, sorted.
func (c *Client) Views(ctx context.Context) (all []string, err error) {
	err = c.call(ctx, opViews, nil, &all)
	return all, err
}

// SetNames puts records into a zone. Records with whole go in one frame, so that
// no name of the zone is away for a moment: some 40,000 fit.
func (c *Client) SetNames(ctx context.Context, zone string, records []dns.Record, whole bool) error {
	if len(records) == 0 && !whole {
		return nil
	}
	return c.call(ctx, opSetNames, zoneBody{Zone: zone, Records: records, Whole: whole}, nil)
}

// RemoveNames takes endpoints' records out of a zone.
func (c *Client) RemoveNames(ctx context.Context, zone string, endpoints []string) error {
	if len(endpoints) == 0 {
		return nil
	}
	return c.call(ctx, opRemoveNames, zoneBody{Zone: zone, Endpoints: endpoints}, nil)
}

// KeepZones forgets all zones but these.
func (c *Client) KeepZones(ctx context.Context, zones []string) error {
	return c.call(ctx, opKeepZones, zonesBody{zones}, nil)
}

// savedView is a sandbox's sockets on their way to the next process.
type savedView struct {
	Sandbox string
	UDP     int
	TCP     int
	NS      int // -1: none
}

func (v savedView) String() string { return fmt.Sprintf("%s(%d %d %d)", v.Sandbox, v.UDP, v.TCP, v.NS) }
