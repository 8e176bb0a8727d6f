package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/dptest"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/events"
	"linkspan/keeper"
	"linkspan/publish"
	"linkspan/store"
	"linkspan/store/mem"
)

// world is a controller on a store, a kernel and a keeper in memory. What they
// hold outlives the controller: see restart.
type world struct {
	*Controller
	t      testing.TB
	kernel *dptest.Kernel
	store  *brittle
	ports  *sockets
	bus    *events.Bus
	cfg    Config
	report *Report // of the last start
}

// newWorld starts a controller; adjust may change its configuration before.
func newWorld(t testing.TB, adjust ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, kernel: dptest.New(), store: &brittle{Store: mem.New(mem.Options{})}, ports: &sockets{}, bus: events.New()}
	w.cfg = Config{
		Drivers: driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}), Events: w.bus,
		Table: "linkspan_00000a", PinDir: "/run/x/netns", HostPath: "/run/x/hostns/default",
		Env: func() driver.Env { return driver.Env{Table: "linkspan_00000a"} },
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	w.kernel.Meddle(dataplane.Sysctl{Name: "net/ipv4/ip_forward", Value: "1"})
	w.kernel.Meddle(dataplane.Sysctl{Name: "net/ipv6/conf/all/forwarding", Value: "1"})
	for _, f := range adjust {
		f(w)
	}
	w.restart()
	return w
}

// restart is another process on the same store, kernel and keeper.
func (w *world) restart() {
	w.t.Helper()
	w.cfg.Store, w.cfg.Kernel, w.cfg.Ports = w.store, w.kernel, w.ports
	w.cfg.HostRoutes, w.cfg.HostLink, w.cfg.LinkStats, w.cfg.Resolver = w.kernel.HostRoutes, w.kernel.HostLink, w.kernel.LinkStats, w.ports.open
	c, err := New(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Controller = c
	w.kernel.OnShared = func(name, prior string) error { return c.NoteShared(context.Background(), name, prior) }
	if w.report, err = c.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if len(w.report.Failures) > 0 {
		w.t.Fatalf("start: %v", w.report.Failures)
	}
}

// on is a container's wish for one network.
func on(id, network string, ports ...string) Request {
	var reqs []publish.Request
	for _, p := range ports {
		r, err := publish.Parse(p)
		if err != nil {
			panic(err)
		}
		reqs = append(reqs, r)
	}
	return Request{ContainerID: id, ContainerName: "name-of-" + id, Endpoints: []EndpointWish{{Network: network}}, Publish: publish.Coalesce(reqs),
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}}
}

func (w *world) join(r Request) *cnm.Sandbox {
	w.t.Helper()
	s, err := w.Join(w.t.Context(), r)
	if err != nil {
		w.t.Fatalf("join %s: %v", r.ContainerID, err)
	}
	return s
}

func (w *world) leave(id string, keep bool) {
	w.t.Helper()
	if err := w.Leave(w.t.Context(), id, keep); err != nil {
		w.t.Fatalf("leave %s: %v", id, err)
	}
}

// everything is all that the world holds, as text: kernel, store, sockets,
// addresses. Two equal texts are two equal worlds.
func (w *world) everything() string {
	w.t.Helper()
	var b strings.Builder
	b.WriteString(w.things())
	entries, _, err := w.store.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		fmt.Fprintf(&b, "stored %s = %s\n", e.Key, e.Value)
	}
	for _, p := range w.ports.held() {
		fmt.Fprintf(&b, "bound %s\n", p)
	}
	for _, k := range w.ports.known() {
		fmt.Fprintf(&b, "resolver %s\n", k)
	}
	for _, n := range w.Networks() {
		for _, p := range w.pools[n.ID] {
			used, _ := p.Count()
			fmt.Fprintf(&b, "network %s: %d addresses of %s in use\n", n.Name, used, p.Pool().Subnet)
		}
	}
	return b.String()
}

// things are the kernel's.
func (w *world) things() string {
	var b strings.Builder
	for _, o := range w.kernel.State().All() {
		fmt.Fprintf(&b, "kernel %s: %s\n", o.Key(), o.Spec())
	}
	return b.String()
}

// address is the sandbox's on its first network.
func address(s *cnm.Sandbox) netip.Addr { return s.Endpoints[0].Addr4().Addr() }

// has says whether the kernel holds an object of that key.
func (w *world) has(key string) bool {
	_, ok := w.kernel.State().Get(key)
	return ok
}

// brittle is a store whose commits can be made to fail.
type brittle struct {
	store.Store
	mu    sync.Mutex
	fail  func(op store.Op) error
	tried atomic.Int64 // commits that were answered
}

func (s *brittle) breaks(fail func(op store.Op) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *brittle) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	defer s.tried.Add(1)
	if fail != nil {
		for _, op := range ops {
			if err := fail(op); err != nil {
				return 0, err
			}
		}
	}
	return s.Store.Commit(ctx, ops...)
}

// sockets are the keeper's reserved ports; nothing else of it is asked for.
type sockets struct {
	keeper.Keeper
	mu   sync.Mutex
	own  map[string][]keeper.PortRequest
	busy map[uint16]bool // by a process that is not ours
	away bool
	noV6 bool

	retargets int
	names     resolver
}

func (k *sockets) Reserve(_ context.Context, reqs []keeper.PortRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return cnm.Errorf(cnm.ErrUnavailable, "the keeper is away")
	}
	for i, r := range reqs {
		refuse := func(p uint16, e syscall.Errno) error {
			return &keeper.PortError{Index: i, Proto: r.Proto, Addr: r.Addr, Port: p, Errno: int(e)}
		}
		if k.noV6 && r.Addr.Is6() {
			return refuse(r.Port, syscall.EAFNOSUPPORT)
		}
		mine := slices.ContainsFunc(k.own[r.Owner], func(h keeper.PortRequest) bool { return bare(h) == bare(r) })
		for p := int(r.Port); p <= int(r.PortEnd); p++ {
			if k.busy[uint16(p)] && !mine {
				return refuse(uint16(p), syscall.EADDRINUSE)
			}
			for owner, rs := range k.own {
				for _, h := range rs {
					if h.Proto == r.Proto && h.Addr.Is4() == r.Addr.Is4() && int(h.Port) <= p && p <= int(h.PortEnd) &&
						(h.Addr == r.Addr || h.Addr.IsUnspecified() || r.Addr.IsUnspecified()) && (owner != r.Owner || bare(h) != bare(r)) {
						return refuse(uint16(p), syscall.EADDRINUSE)
					}
				}
			}
		}
	}
	if k.own == nil {
		k.own = map[string][]keeper.PortRequest{}
	}
	for _, r := range reqs {
		if i := slices.IndexFunc(k.own[r.Owner], func(h keeper.PortRequest) bool { return bare(h) == bare(r) }); i >= 0 {
			k.own[r.Owner][i] = r // it leads elsewhere now
		} else {
			k.own[r.Owner] = append(k.own[r.Owner], r)
		}
	}
	return nil
}

func (k *sockets) Release(_ context.Context, owner string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return cnm.Errorf(cnm.ErrUnavailable, "the keeper is away")
	}
	delete(k.own, owner)
	return nil
}

func (k *sockets) Ports(context.Context) ([]keeper.PortRequest, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "the keeper is away")
	}
	return slices.Concat(slices.Collect(maps.Values(k.own))...), nil
}

// held are the bound sockets, without their owners' ids.
func (k *sockets) held() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, rs := range k.own {
		for _, r := range rs {
			out = append(out, fmt.Sprintf("%s %s:%d-%d to %v", r.Proto, r.Addr, r.Port, r.PortEnd, r.ForwardTo))
		}
	}
	slices.Sort(out)
	return out
}

var errBoom = errors.New("boom")

// elements are the kernel's elements of one set.
func (w *world) elements(set string) (out []string) {
	for _, o := range w.kernel.State().All() {
		if e, ok := o.(dataplane.Element); ok && e.Set == set {
			out = append(out, e.KeyText+" = "+e.Spec())
		}
	}
	return out
}
