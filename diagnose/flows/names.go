// Package flows tells who talks to whom, by name: the flows that conntrack knows, and
// the packets that our rules dropped, of which the last thousand are kept.
package flows

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// The kinds of ends.
const (
	KindContainer = "container"
	KindHost      = "host"    // one of this host's own addresses, a network's gateway among them
	KindNobody    = "nobody"  // an address of one of our networks that no container has
	KindOutside   = "outside" // everything else
)

// End is one end of a flow or of a packet.
type End struct {
	Addr netip.Addr `json:"addr"`
	Port uint16     `json:"port,omitempty"`
	Kind string     `json:"kind"`
	// Container is its name, of those that share a network stack the first one's.
	Container   string `json:"container,omitempty"`
	ContainerID string `json:"container_id,omitempty"`
	// Network is the one that the address belongs to.
	Network string `json:"network,omitempty"`
}

// AddrPort is the end without its names.
func (e End) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr, e.Port) }

// String is for people: "web:80", "192.168.99.50:41000", "host 172.17.0.1:53".
func (e End) String() string {
	at := e.Addr.String()
	switch {
	case e.Kind == KindContainer && e.Port == 0:
		return e.Container
	case e.Kind == KindContainer:
		return e.Container + ":" + strconv.Itoa(int(e.Port))
	case e.Port != 0:
		at = e.AddrPort().String()
	}
	if e.Kind == KindHost {
		return "host " + at
	}
	return at
}

// Book knows whose an address is, at one moment.
type Book struct {
	ends  map[netip.Addr]End
	pools []pool
	made  time.Time
}

type pool struct {
	subnet  netip.Prefix
	network string
}

// NewBook looks up all addresses. host are this host's own.
func NewBook(w diagnose.Declared, host []netip.Addr) *Book {
	b := &Book{ends: map[netip.Addr]End{}, made: time.Now()}
	for _, a := range host {
		b.ends[a] = End{Kind: KindHost}
	}
	for _, n := range w.Networks() {
		for _, p := range n.Pools {
			b.pools = append(b.pools, pool{p.Subnet.Masked(), n.Name})
			// The gateway is the host, unless someone named another router.
			if e, ok := b.ends[p.Gateway]; ok {
				e.Network = n.Name
				b.ends[p.Gateway] = e
			}
		}
	}
	for _, s := range w.Sandboxes() {
		if s.Host {
			continue
		}
		for i := range s.Endpoints {
			b.endpoint(s, &s.Endpoints[i])
		}
	}
	return b
}

func (b *Book) endpoint(s *cnm.Sandbox, e *cnm.Endpoint) {
	end := End{Kind: KindContainer, Container: s.OwnerName, ContainerID: s.Owner, Network: e.NetworkName}
	for _, p := range e.Addrs {
		b.ends[p.Addr()] = end
	}
	for _, a := range e.LinkLocal {
		b.ends[a] = end
	}
}

// At names an end.
func (b *Book) At(at netip.AddrPort) End {
	a := at.Addr().Unmap().WithZone("")
	e, ok := b.ends[a]
	switch {
	case ok:
	case a.IsLoopback():
		e.Kind = KindHost
	default:
		e.Kind = KindOutside
		for _, p := range b.pools {
			if p.subnet.Contains(a) {
				e.Kind, e.Network = KindNobody, p.network
			}
		}
	}
	e.Addr, e.Port = a, at.Port()
	return e
}

// Names keeps a book that is young enough, so that a flood of packets does not have the
// world read for each of them, and an idle host does not have it read at all.
type Names struct {
	world *diagnose.World
	mu    sync.Mutex
	book  *Book
}

// NewNames makes one.
func NewNames(w *diagnose.World) *Names { return &Names{world: w} }

// bookAge is how long a book is good; a container that started since is found because
// an address of our networks that nobody has is looked up again, but not more often
// than every bookRest.
const (
	bookAge  = 2 * time.Second
	bookRest = 100 * time.Millisecond
)

// Book is one that is young enough.
func (n *Names) Book(ctx context.Context) *Book { return n.younger(ctx, bookAge) }

// At names the two ends of a packet as they are now.
func (n *Names) At(ctx context.Context, from, to netip.AddrPort) (End, End) {
	b := n.younger(ctx, bookAge)
	f, t := b.At(from), b.At(to)
	if f.Kind == KindNobody || t.Kind == KindNobody {
		b = n.younger(ctx, bookRest)
		f, t = b.At(from), b.At(to)
	}
	return f, t
}

func (n *Names) younger(ctx context.Context, age time.Duration) *Book {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.book == nil || time.Since(n.book.made) > age {
		n.book = NewBook(n.world.Declared, hostAddrs(ctx, n.world))
	}
	return n.book
}

// hostAddrs are this host's own addresses; without them gateways would be nobody's.
func hostAddrs(ctx context.Context, w *diagnose.World) (all []netip.Addr) {
	if w.Kernel == nil {
		return nil
	}
	links, err := w.Kernel.Interfaces(ctx, "")
	if err != nil {
		return nil
	}
	for _, l := range links {
		for _, p := range l.Addrs {
			all = append(all, p.Addr())
		}
	}
	return all
}
