package linux

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// Conntrack goes on translating an existing flow as it did when the flow began:
// a UDP sender at one packet a second would reach a container that is gone for
// ever. So when a published port changes, the entries of exactly that port that lead
// elsewhere are deleted, after the commit.

// flowKey is one published port, or a range, as a flow's original destination.
type flowKey struct {
	proto     uint8
	v6        bool
	addr      netip.Addr // zero: any address of this host
	port, end uint16     // inclusive; the same: one port
}

// covers says that a range has all of another in it.
func (k flowKey) covers(o flowKey) bool {
	return k.proto == o.proto && k.v6 == o.v6 && k.addr == o.addr && k.port <= o.port && o.end <= k.end
}

// flowFate is what is known of a port until its entries have been purged. Of a
// range, its first port's targets say it for all.
type flowFate struct {
	now netip.AddrPort // where it leads now; zero: unpublished
	old map[netip.AddrPort]bool
	gen int // counts the changes, so that one during a walk is not forgotten
}

// flowBook holds the ports whose entries are to be purged: single ones, which may be
// thousands, and ranges, which are few.
type flowBook struct{ ports, ranges map[flowKey]*flowFate }

func newFlowBook() flowBook {
	return flowBook{map[flowKey]*flowFate{}, map[flowKey]*flowFate{}}
}

func (b flowBook) of(key flowKey) map[flowKey]*flowFate {
	if key.port == key.end {
		return b.ports
	}
	return b.ranges
}

// covering gives fn what is known of one port: its own fate, and its ranges'.
func (b flowBook) covering(key flowKey, fn func(flowKey, *flowFate)) {
	if fate := b.ports[key]; fate != nil {
		fn(key, fate)
	}
	for r, fate := range b.ranges {
		if r.covers(key) {
			fn(r, fate)
		}
	}
}

// protocols are the IANA numbers of what can be published.
var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// flowChanged notes a committed element op of a published port.
func (k *Kernel) flowChanged(op dataplane.Op) {
	e, ok := op.Object.(dataplane.Element)
	if !ok || e.Flow == nil || protocols[e.Flow.Proto] == 0 {
		return
	}
	f := e.Flow
	key := flowKey{protocols[f.Proto], f.To.Addr().Is6(), f.Addr, f.Port, max(f.Port, f.PortEnd)}
	fresh := op.Verb == dataplane.Create && key.proto == unix.IPPROTO_TCP
	k.back.give(func() (walk bool) {
		book := k.back.flows.of(key)
		fate := book[key]
		// Nothing can be stale: a TCP flow to a port that nobody served was refused,
		// and the next attempt is a new flow. The walk that this saves takes 10 ms of
		// CPU on an empty table, for its size alone.
		walk = fate != nil || !fresh
		if !walk && key.port == key.end {
			k.back.flows.covering(key, func(flowKey, *flowFate) { walk = true })
			if !walk {
				return false
			}
		}
		if fate == nil {
			// A range is noted even then: single ports that become a range of the same
			// container keep their flows when their own elements go.
			fate = &flowFate{old: map[netip.AddrPort]bool{}}
			book[key] = fate
		}
		fate.gen++
		if op.Verb == dataplane.Delete {
			fate.now = netip.AddrPort{}
			fate.old[f.To] = true
		} else {
			// A delete that waits in the book no longer counts for this target: its
			// new flows are alive.
			fate.now = f.To
			delete(fate.old, f.To)
		}
		return walk
	})
}

// purgeFlows walks the table once for all ports in the book. The book is asked
// again right before each delete, so that a port that is published anew meanwhile
// keeps its flows.
func (b *background) purgeFlows() {
	b.mu.Lock()
	seen := map[flowKey]int{}
	var families [2]bool
	for _, book := range []map[flowKey]*flowFate{b.flows.ports, b.flows.ranges} {
		for key, fate := range book {
			seen[key] = fate.gen
			families[b2i(key.v6)] = true
		}
	}
	b.mu.Unlock()

	filter := &flowFilter{b: b}
	var err error
	if b.k.anyFlows() {
		err = filter.locals()
	} else {
		families = [2]bool{}
	}
	if err != nil {
		b.k.log.Error("conntrack entries of changed ports stay", "err", err)
	}
	for i, fam := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if err != nil || !families[i] {
			continue
		}
		n, e := b.k.ct.ConntrackDeleteFilters(netlink.ConntrackTable, fam, filter)
		for try := 0; errors.Is(e, netlink.ErrDumpInterrupted) && try < dumpTries; try++ {
			n, e = b.k.ct.ConntrackDeleteFilters(netlink.ConntrackTable, fam, filter)
		}
		if e != nil {
			b.k.log.Error("conntrack entries of changed ports were not all deleted", "err", e)
		} else if n > 0 {
			b.k.log.Debug("stale conntrack entries deleted", "entries", n)
		}
	}

	b.mu.Lock()
	for key, gen := range seen {
		// What changed during the walk stays for the next: its op woke us again.
		if fate := b.flows.of(key)[key]; fate != nil && fate.gen == gen {
			delete(b.flows.of(key), key)
		}
	}
	b.mu.Unlock()
}

// anyFlows is false only where it is sure that there is none.
func (k *Kernel) anyFlows() bool {
	n, ok := k.readSysctl(dataplane.Sysctl{Name: "net/netfilter/nf_conntrack_count"})
	return !ok || n != "0"
}

// flowFilter picks stale entries.
type flowFilter struct {
	b     *background
	local map[netip.Addr]bool
}

// locals reads the host's addresses: "any address" means these. A container's
// own connection to the same port of some server on the Internet is not stale.
func (f *flowFilter) locals() error {
	all, err := f.b.k.rt.addrs()
	if err != nil {
		return fmt.Errorf("addresses of this host: %w", err)
	}
	f.local = map[netip.Addr]bool{}
	for _, a := range all {
		f.local[a.prefix.Addr()] = true
	}
	return nil
}

// MatchConntrackFlow says whether an entry is to be deleted.
func (f *flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	server, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	dst, server = dst.Unmap(), server.Unmap()
	port := flow.Forward.DstPort
	key := flowKey{flow.Forward.Protocol, dst.Is6(), dst, port, port}

	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	known, alive, old, elsewhere := false, false, false, false
	judge := func(k flowKey, fate *flowFate) {
		leads := netip.AddrPortFrom(server, flow.Reverse.SrcPort-(port-k.port))
		known = true
		alive = alive || leads == fate.now
		old = old || fate.old[leads]
		elsewhere = elsewhere || fate.now.IsValid() && leads != fate.now
	}
	f.b.flows.covering(key, judge)
	exact := known
	if !exact {
		key.addr = netip.Addr{}
		f.b.flows.covering(key, judge)
	}
	// It was translated by an element that is gone, or is to be by another one.
	return !alive && (old || elsewhere && (exact || f.local[dst] || dst.IsLoopback()))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
