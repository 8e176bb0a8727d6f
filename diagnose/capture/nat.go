package capture

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"linkspan/dataplane/reading"
	"linkspan/diagnose/flows"
)

// tuple is a packet's ends.
type tuple struct {
	proto    string
	src, dst netip.AddrPort
	id       uint16 // of ICMP's echo
}

func tupleOf(p reading.Packet) tuple { return tuple{p.Proto, p.Src, p.Dst, p.ID} }

func (t tuple) back() tuple { return tuple{t.proto, t.dst, t.src, t.id} }

// asked and answered are a flow's two sides as who asks has them: conntrack has the
// second as the answer comes.
func asked(f reading.Flow) tuple {
	return tuple{f.Proto, f.Original.Src, f.Original.Dst, f.Original.ID}
}

func answered(f reading.Flow) tuple {
	return tuple{f.Proto, f.Reply.Dst, f.Reply.Src, f.Reply.ID}
}

// joined is what is known of a packet's flow.
type joined struct {
	// other is the packet as it is on the other side of NAT.
	other tuple
	flow  *natFlow
}

type natFlow struct {
	entry      reading.Flow
	comment    string // once it was needed
	translated bool
	ended      time.Time
	keys       [4]tuple // inside there and back, outside there and back
}

// natTable joins both sides of NAT of one container's flows.
type natTable struct {
	mine      map[netip.Addr]bool
	name      string // of the container
	book      func() *flows.Book
	inside    map[tuple]joined
	outside   map[tuple]joined
	seen      int
	refused   bool
	graveyard []*natFlow
}

// natMost bounds the flows that are remembered.
const natMost = 1 << 16

// natGrace is how long an ended flow's packets may still be on their way here.
const natGrace = 3 * time.Second

func newNAT(name string, addrs []netip.Addr, book func() *flows.Book) *natTable {
	t := &natTable{mine: map[netip.Addr]bool{}, name: name, book: book, inside: map[tuple]joined{}, outside: map[tuple]joined{}}
	for _, a := range addrs {
		t.mine[a] = true
	}
	return t
}

// add notes a flow, if it is the container's.
func (t *natTable) add(f reading.Flow) {
	var in, out tuple
	switch {
	case t.mine[f.Original.Src.Addr()]: // it asked; outside its source may be another
		in, out = asked(f), answered(f)
	case t.mine[f.Reply.Src.Addr()]: // it was asked, perhaps by another address than its own
		in, out = answered(f), asked(f)
	default:
		return
	}
	if old, ok := t.inside[in]; ok {
		if old.other == out && old.flow.ended.IsZero() {
			return
		}
		t.forget(old.flow)
	}
	if len(t.inside) >= 2*natMost {
		t.refused = true
		return
	}
	n := &natFlow{entry: f, translated: in != out, keys: [4]tuple{in, in.back(), out, out.back()}}
	t.inside[in], t.inside[in.back()] = joined{out, n}, joined{out.back(), n}
	t.outside[out], t.outside[out.back()] = joined{in, n}, joined{in.back(), n}
}

func (t *natTable) forget(n *natFlow) {
	for i, m := range []map[tuple]joined{t.inside, t.inside, t.outside, t.outside} {
		if m[n.keys[i]].flow == n {
			delete(m, n.keys[i])
		}
	}
}

// end notes that a flow is over; its last packets are joined still.
func (t *natTable) end(f reading.Flow, now time.Time) {
	for _, key := range []tuple{asked(f), answered(f)} {
		if j, ok := t.inside[key]; ok && j.flow.ended.IsZero() {
			j.flow.ended = now
			t.graveyard = append(t.graveyard, j.flow)
		}
	}
}

// sweep forgets flows that ended long enough ago.
func (t *natTable) sweep(now time.Time) {
	for len(t.graveyard) > 0 && now.Sub(t.graveyard[0].ended) > natGrace {
		t.forget(t.graveyard[0])
		t.graveyard = t.graveyard[1:]
	}
}

// comment is the same on both sides, so that one search finds all of a flow. Flows are
// numbered as they come in the file.
func (t *natTable) comment(n *natFlow) string {
	if n.comment != "" {
		return n.comment
	}
	t.seen++
	b, f := t.book(), n.entry
	from, to := b.At(f.Original.Src), b.At(f.Reply.Src)
	s := "flow " + strconv.Itoa(t.seen) + " of " + t.name + ": " + f.Proto + " " + from.String()
	if f.Reply.Dst != f.Original.Src {
		s += fmt.Sprintf(" (as %s)", at(f.Reply.Dst))
	}
	s += " -> " + to.String()
	if f.Original.Dst != f.Reply.Src {
		s += fmt.Sprintf(" (dialled %s)", at(f.Original.Dst))
	}
	n.comment = s
	return s
}

// at leaves a port away that a protocol does not have.
func at(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}
