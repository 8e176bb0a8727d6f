package keeper

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

// portTable is the reservations.
type portTable struct {
	logger *slog.Logger
	chunks *chunks

	mu   sync.Mutex
	held map[PortRequest]*reservation
}

// reservation is one request that is held: silent sockets, or forwarders.
type reservation struct {
	req        PortRequest
	sockets    []int
	forwarders []forwarder
}

// forwarder serves one port in user space.
type forwarder interface {
	// close stops it and ends its connections; it returns when both are done.
	close()
	// freeze stops it, keeps all descriptors and describes it.
	freeze(b *bag) savedForwarder
}

func newPortTable(logger *slog.Logger, c *chunks) *portTable {
	return &portTable{logger: logger, chunks: c, held: map[PortRequest]*reservation{}}
}

// check refuses what can never be bound, and fills in what may be left out.
func (q PortRequest) check(index int) (PortRequest, error) {
	q.Addr = q.Addr.Unmap()
	if q.PortEnd == 0 {
		q.PortEnd = q.Port
	}
	bad := func(why string) (PortRequest, error) {
		return q, cnm.Invalid("port request %d (%s %s:%d-%d): %s", index, q.Proto, q.Addr, q.Port, q.PortEnd, why)
	}
	switch {
	case q.Owner == "":
		return bad("it has no owner")
	case q.Proto != "tcp" && q.Proto != "udp" && q.Proto != "sctp":
		return bad("the protocol must be tcp, udp or sctp")
	case !q.Addr.IsValid():
		return bad("it has no address")
	case q.Addr.Zone() != "":
		return bad("an address with a zone cannot be reserved")
	case q.Port == 0 || q.PortEnd < q.Port:
		return bad("the ports must be from 1 to 65535, the first not above the last")
	}
	if q.ForwardTo == (netip.AddrPort{}) {
		return q, nil
	}
	q.ForwardTo = netip.AddrPortFrom(q.ForwardTo.Addr().Unmap(), q.ForwardTo.Port())
	switch {
	case !q.ForwardTo.IsValid() || q.ForwardTo.Port() == 0:
		return bad("the address to forward to is not whole")
	case int(q.ForwardTo.Port())+int(q.PortEnd-q.Port) > 65535:
		return bad("the range to forward to goes beyond 65535")
	case q.Proto == "sctp":
		return q, cnm.Unsupported("port request %d: sctp cannot be forwarded in user space yet; publish it on an IPv4 address", index)
	}
	return q, nil
}

// reserve binds all or none.
func (t *portTable) reserve(ctx context.Context, reqs []PortRequest) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var made []*reservation
	defer func() {
		if err != nil {
			for _, r := range made {
				delete(t.held, r.req)
				r.close()
			}
		}
	}()
	for i, q := range reqs {
		if q, err = q.check(i); err != nil {
			return err
		}
		if t.held[q] != nil {
			continue
		}
		r := &reservation{req: q}
		made = append(made, r)
		if err = t.bind(ctx, i, r); err != nil {
			return err
		}
		t.held[q] = r
	}
	return nil
}

// bind makes the sockets of one request.
func (t *portTable) bind(ctx context.Context, index int, r *reservation) error {
	q := r.req
	if err := t.checkUnbound(index, q); err != nil {
		return err
	}
	for p := int(q.Port); p <= int(q.PortEnd); p++ {
		at := netip.AddrPortFrom(q.Addr, uint16(p))
		if !q.ForwardTo.IsValid() {
			fd, err := bindPort(q.Proto, at)
			if err != nil {
				return portError(index, q, uint16(p), err)
			}
			if fd >= 0 {
				r.sockets = append(r.sockets, fd)
			}
			continue
		}
		f, err := t.forward(ctx, q.Proto, at, q.target(uint16(p)))
		if err != nil {
			return portError(index, q, uint16(p), err)
		}
		r.forwarders = append(r.forwarders, f)
	}
	return nil
}

// target is where one port of a forwarding request goes.
func (q PortRequest) target(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(q.ForwardTo.Addr(), q.ForwardTo.Port()+port-q.Port)
}

// checkUnbound keeps reservations apart that have no socket (SCTP on a kernel
// without it).
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

func (t *portTable) forward(ctx context.Context, proto string, at, to netip.AddrPort) (forwarder, error) {
	if proto == "tcp" {
		return forwardTCP(ctx, t.logger, at, to)
	}
	return forwardUDP(t.logger, t.chunks, at, to)
}

// close gives the ports back.
func (r *reservation) close() {
	closeAll(r.sockets)
	var wg sync.WaitGroup
	for _, f := range r.forwarders {
		wg.Go(f.close)
	}
	wg.Wait()
}

// release closes everything of an owner; owner "" is everyone.
func (t *portTable) release(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q, r := range t.held {
		if owner == "" || q.Owner == owner {
			delete(t.held, q)
			r.close()
		}
	}
}

// list is sorted, so that two lists can be compared.
func (t *portTable) list() []PortRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]PortRequest, 0, len(t.held))
	for q := range t.held {
		out = append(out, q)
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
