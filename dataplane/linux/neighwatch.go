package linux

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// neighWatch is the part of linkWatch that judges forwarding databases and neighbours:
// those of links of ours that are declared, never what the kernel keeps by itself (what
// bridges learn, whom ARP found).
type neighWatch struct {
	// lasting are the permanent neighbours of our links: their deletion's news does not say
	// that they were (neigh_delete makes them fail first).
	lasting map[lastingKey]bool
}

type lastingKey struct {
	index int
	addr  netip.Addr
}

// look reads which neighbours last.
func (w *neighWatch) look(rt *rtnl, ours func(index int) bool) error {
	w.lasting = map[lastingKey]bool{}
	all, err := rt.neighbours(0)
	for _, n := range all {
		if _, ok := n.neighbour(""); ok && ours(n.index) {
			w.lasting[lastingKey{n.index, n.dst}] = true
		}
	}
	return err
}

// neighMessage judges one entry that came, changed or went.
func (w *linkWatch) neighMessage(pid uint32, gone bool, m []byte) {
	n, ok := parseNeigh(m)
	if !ok || !w.isOurs(n.index) {
		return
	}
	l := w.known[n.index]
	if n.family == unix.AF_BRIDGE {
		if f, ok := n.fdb(l.name); ok && l.kind == "vxlan" && !l.doomed && !w.k.ways.ours(n.index, f, gone) {
			w.touch(n.index)
			w.sure[n.index] = true
		}
		return
	}
	key := lastingKey{n.index, n.dst}
	_, lasts := n.neighbour("")
	lasts = lasts && !gone
	had := w.neigh.lasting[key]
	switch {
	case lasts:
		w.neigh.lasting[key] = true
	case had:
		delete(w.neigh.lasting, key)
	default:
		return // the kernel's own
	}
	if !w.own(pid) && !l.doomed {
		w.touch(n.index)
		w.sure[n.index] = true
	}
}

func (w *neighWatch) forget(index int) {
	for k := range w.lasting {
		if k.index == index {
			delete(w.lasting, k)
		}
	}
}
