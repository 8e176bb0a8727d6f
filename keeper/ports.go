package keeper

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// portTable is the reservations.
type portTable struct {
	logger *slog.Logger
	chunks *chunks

	mu      sync.Mutex // before reservation.mu
	held    map[PortRequest]*reservation
	serials map[int32]*reservation // those that forward, as the watch knows them
	serial  int32
	watch   *watch // nil: nothing forwards
}

// reservation is one request that is held.
type reservation struct {
	// ready is closed when its sockets are there, or could not be had.
	ready  chan struct{}
	serial int32
	key    PortRequest // without where it leads

	mu  sync.Mutex
	req PortRequest // ForwardTo changes
	// sockets by port, from the request's first: silent, or listening and watched.
	// -1: the port is awake, or has none (no SCTP here; held by the twin).
	sockets []int32
	// awake are the forwarders that someone has used lately, by place.
	awake  map[int]forwarder
	closed bool
}

// forwarder serves one port in user space.
type forwarder interface {
	// close stops it and ends its connections; it returns when both are done.
	close()
	// freeze stops it, keeps all descriptors and describes it.
	freeze(b *bag) savedForwarder
	// retarget leads new clients elsewhere.
	retarget(to netip.AddrPort)
	// idle tells that it serves no one.
	idle() bool
	// socket puts another descriptor of its socket into the bag.
	socket(b *bag) int
}

func newPortTable(logger *slog.Logger, c *chunks) *portTable {
	return &portTable{logger: logger, chunks: c, held: map[PortRequest]*reservation{}, serials: map[int32]*reservation{}}
}

// reserve binds all or none. Requests that are held already are retargeted where
// they differ.
func (t *portTable) reserve(ctx context.Context, reqs []PortRequest) error {
	made, moved, err := t.claim(ctx, reqs)
	if err != nil {
		return err
	}
	if err = t.bindAll(ctx, made); err == nil && len(moved) > 0 {
		err = t.retarget(moved)
	}
	if err != nil {
		t.mu.Lock()
		for _, c := range made {
			delete(t.held, c.res.key)
			delete(t.serials, c.res.serial)
		}
		t.mu.Unlock()
	}
	var wg sync.WaitGroup
	for _, c := range made {
		if err != nil {
			wg.Go(c.res.close)
		}
	}
	wg.Wait()
	for _, c := range made {
		close(c.res.ready)
	}
	return err
}

// claim is a reservation that is being made.
type claim struct {
	index int // of the request
	res   *reservation
	// twin is the index of the claim for the other family whose ports this one's
	// sockets hold too; see pair.
	twin *claim
}

// claim enters the requests into the table, so that no one else makes the same
// meanwhile; the binding itself holds no lock. moved are those that are held and
// lead elsewhere.
func (t *portTable) claim(ctx context.Context, reqs []PortRequest) (made []*claim, moved []PortRequest, err error) {
	checked := make([]PortRequest, len(reqs))
	for i, q := range reqs {
		if checked[i], err = q.check(i); err != nil {
			return nil, nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := 0; i < len(checked); i++ {
		h := t.held[checked[i].key()]
		if h == nil || h.made() {
			continue
		}
		// Someone makes it just now; it may fail. Nothing of ours is entered yet.
		t.mu.Unlock()
		select {
		case <-h.ready:
		case <-ctx.Done():
			t.mu.Lock()
			return nil, nil, context.Cause(ctx)
		}
		t.mu.Lock()
		i = -1
	}
	for i, q := range checked {
		if h := t.held[q.key()]; h != nil {
			if h.made() && h.request().ForwardTo != q.ForwardTo {
				moved = append(moved, q)
			}
			continue
		}
		if err = t.checkUnbound(i, q); err != nil {
			for _, c := range made {
				delete(t.held, c.res.key)
				delete(t.serials, c.res.serial)
			}
			return nil, nil, err
		}
		r := &reservation{req: q, ready: make(chan struct{}), sockets: make([]int32, q.count())}
		for i := range r.sockets {
			r.sockets[i] = -1
		}
		t.enter(r)
		made = append(made, &claim{index: i, res: r})
	}
	return made, moved, nil
}

// enter puts a reservation into the table; the lock is held.
func (t *portTable) enter(r *reservation) {
	r.key = r.req.key()
	t.held[r.key] = r
	for t.serial++; t.serials[t.serial] != nil; t.serial++ {
	}
	r.serial = t.serial
	t.serials[r.serial] = r
}

func (r *reservation) made() bool {
	select {
	case <-r.ready:
		return true
	default:
		return false
	}
}

func (r *reservation) request() PortRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.req
}

// checkUnbound keeps reservations apart that have no socket (SCTP on a kernel
// without it). The lock is held.
func (t *portTable) checkUnbound(index int, q PortRequest) error {
	if q.Proto != "sctp" {
		return nil
	}
	for h := range t.held {
		sameAddr := h.Addr == q.Addr || h.Addr.Is4() == q.Addr.Is4() && (h.Addr.IsUnspecified() || q.Addr.IsUnspecified())
		if h.Proto == q.Proto && sameAddr && h.Port <= q.PortEnd && q.Port <= h.PortEnd {
			return portError(index, q, max(h.Port, q.Port), unix.EADDRINUSE)
		}
	}
	return nil
}

// close gives the ports back.
func (r *reservation) close() {
	r.mu.Lock()
	r.closed = true
	sockets, awake := r.sockets, r.awake
	r.sockets, r.awake = nil, nil
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, f := range awake {
		wg.Go(f.close)
	}
	parallel(len(sockets), func(i int) bool {
		if sockets[i] >= 0 {
			unix.Close(int(sockets[i]))
		}
		return true
	})
	wg.Wait()
}

// release closes everything of an owner; owner "" is everyone, and the end.
func (t *portTable) release(owner string) {
	t.mu.Lock()
	var all []*reservation
	for q, r := range t.held {
		if owner == "" || q.Owner == owner {
			all = append(all, r)
		}
	}
	t.mu.Unlock()
	for _, r := range all {
		<-r.ready // who makes it just now
	}
	t.mu.Lock()
	var mine []*reservation
	for _, r := range all {
		if t.held[r.key] == r {
			mine = append(mine, r)
			delete(t.held, r.key)
			delete(t.serials, r.serial)
		}
	}
	var w *watch
	if owner == "" {
		w, t.watch = t.watch, nil
	}
	t.mu.Unlock()
	if w != nil {
		w.stop()
	}
	for _, r := range mine {
		r.close()
	}
}

// retarget changes where reservations lead. One that is not held is
// cnm.ErrNotFound, and then nothing changes.
func (t *portTable) retarget(reqs []PortRequest) error {
	held := make([]*reservation, len(reqs))
	t.mu.Lock()
	for i, q := range reqs {
		q, err := q.check(i)
		if err == nil {
			reqs[i] = q
			if held[i] = t.held[q.key()]; held[i] == nil || !held[i].made() {
				err = cnm.NotFound("port request %d: %s %s:%d-%d of %s is not reserved", i, q.Proto, q.Addr, q.Port, q.PortEnd, q.Owner)
			}
		}
		if err != nil {
			t.mu.Unlock()
			return err
		}
	}
	t.mu.Unlock()
	var errs []error
	for i, r := range held {
		if err := t.lead(r, reqs[i].ForwardTo); err != nil {
			errs = append(errs, portError(i, reqs[i], reqs[i].Port, err))
		}
	}
	return errors.Join(errs...)
}

// list is sorted, so that two lists can be compared.
func (t *portTable) list() []PortRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]PortRequest, 0, len(t.held))
	for _, r := range t.held {
		if r.made() {
			out = append(out, r.request())
		}
	}
	slices.SortFunc(out, func(a, b PortRequest) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Proto, b.Proto), a.Addr.Compare(b.Addr),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.PortEnd, b.PortEnd), a.ForwardTo.Compare(b.ForwardTo))
	})
	return out
}

// empty tells that nothing is held.
func (t *portTable) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held) == 0
}

// restTime is how long a forwarder that serves no one stays awake, at least.
const restTime = 30 * time.Second
