package linux

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
)

// Limits of one message: the kernel handles a long list of elements well, but the
// list is one attribute, whose length is 16 bits.
const (
	chunkElements = 500
	chunkBytes    = 60 << 10
)

// change is one element op made concrete: what to take out and what to put in.
type change struct{ del, add bool }

// commitElements performs ops on elements of one table in one transaction. It
// returns the ops that failed by index: with their error, or with nil when they were
// not tried because their owner had failed before.
//
// The fast path trusts the ops. When the kernel refuses (something is there that
// should not be, or the other way round), each element is read back, taken as an
// observation, and what is still needed is committed; if even that fails, each
// owner gets a transaction of its own, so that one's fault is not another's.
func (k *Kernel) commitElements(ops []dataplane.Op) map[int]error {
	if len(ops) == 0 {
		return nil
	}
	k.tableMu.Lock()
	defer k.tableMu.Unlock()
	todo := make([]change, len(ops))
	for i, op := range ops {
		todo[i] = change{del: op.Verb != dataplane.Create, add: op.Verb != dataplane.Delete}
	}
	if k.transact(ops, todo) == nil {
		return nil
	}
	bad := map[int]error{}
	for i, op := range ops {
		var err error
		if todo[i], err = k.stillNeeded(op); err != nil {
			todo[i], bad[i] = change{}, err
		}
	}
	if len(bad) == 0 && k.transact(ops, todo) == nil {
		return nil
	}
	for _, of := range byOwner(ops) {
		k.commitOwner(ops, todo, of, bad)
	}
	return bad
}

// commitOwner commits the ops with the given indexes together, else one by one
// up to the first that fails.
func (k *Kernel) commitOwner(ops []dataplane.Op, todo []change, of []int, bad map[int]error) {
	pick := func(idx []int) ([]dataplane.Op, []change) {
		o, c := make([]dataplane.Op, len(idx)), make([]change, len(idx))
		for n, i := range idx {
			o[n], c[n] = ops[i], todo[i]
		}
		return o, c
	}
	whole := true
	for _, i := range of {
		whole = whole && bad[i] == nil
	}
	if o, c := pick(of); whole && k.transact(o, c) == nil {
		return
	}
	owned := ops[of[0]].Object.About().Owner != dataplane.Owner{}
	for n, i := range of {
		err := bad[i]
		if err == nil {
			err = k.transact(pick([]int{i}))
		}
		if err == nil {
			continue
		}
		bad[i] = explainElement(ops[i], err)
		if !owned {
			continue
		}
		for _, rest := range of[n+1:] {
			bad[rest] = nil
		}
		return
	}
}

// byOwner groups indexes in the order in which owners appear. Ops without an
// owner stand alone, together.
func byOwner(ops []dataplane.Op) (groups [][]int) {
	at := map[dataplane.Owner]int{}
	for i, op := range ops {
		o := op.Object.About().Owner
		g, ok := at[o]
		if !ok {
			g = len(groups)
			at[o] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// stillNeeded reads the element and says what is left to do.
func (k *Kernel) stillNeeded(op dataplane.Op) (change, error) {
	e := op.Object.(dataplane.Element)
	have, err := k.readElement(e)
	switch {
	case err != nil:
		return change{}, err
	case op.Verb == dataplane.Delete:
		return change{del: have != nil}, nil
	case have == nil:
		return change{add: true}, nil
	case bytes.Equal(have.data, e.Data) && have.verdict == e.Verdict:
		return change{}, nil
	}
	return change{del: true, add: true}, nil
}

// readElement finds the element as it is now. A set that is missing has none; so
// that adding to it then fails with the kernel's reason.
func (k *Kernel) readElement(e dataplane.Element) (*rawElement, error) {
	t := tableRef{e.Family, e.Table}
	if e.Last == nil {
		return k.nft.element(t, e.Set, e.KeyRaw)
	}
	// In interval sets the kernel looks up by containment: compare the pairs instead.
	sets, err := k.nft.sets(t)
	if err != nil {
		return nil, err
	}
	s, ok := sets[e.Set]
	if !ok {
		return nil, nil
	}
	raw, err := k.nft.elements(t, s)
	if err != nil {
		return nil, err
	}
	all := s.intervals
	if s.each() {
		all = s.objects
	}
	for _, have := range all(e.Family, e.Table, raw) {
		if bytes.Equal(have.KeyRaw, e.KeyRaw) && bytes.Equal(have.Last, e.Last) {
			return &rawElement{key: have.KeyRaw, data: have.Data, verdict: have.Verdict}, nil
		}
	}
	return nil, nil
}

// transact sends one transaction: what goes first, then what comes, so that a
// changed element (the same key) is replaced within it.
func (k *Kernel) transact(ops []dataplane.Op, todo []change) error {
	var msgs []nfMsg
	for _, del := range []bool{true, false} {
		w := elementWriter{del: del}
		for i, op := range ops {
			if del && todo[i].del || !del && todo[i].add {
				if err := w.add(op.Object.(dataplane.Element)); err != nil {
					return err
				}
			}
		}
		msgs = append(msgs, w.finish()...)
	}
	if len(msgs) == 0 {
		return nil
	}
	return k.nft.commit(msgs)
}

// elementWriter packs elements of the same set that follow each other into
// messages.
type elementWriter struct {
	del   bool
	msgs  []nfMsg
	table tableRef
	set   string
	list  []byte
	n     int
}

func (w *elementWriter) add(e dataplane.Element) error {
	b, err := encodeElement(e, w.del)
	if err != nil {
		return err
	}
	t := tableRef{e.Family, e.Table}
	if t != w.table || e.Set != w.set || w.n >= chunkElements || len(w.list)+len(b) > chunkBytes {
		w.flush()
		w.table, w.set = t, e.Set
	}
	w.list = append(w.list, b...)
	w.n++
	return nil
}

func (w *elementWriter) flush() {
	if w.n > 0 {
		m := nfMsg{typ: unix.NFT_MSG_NEWSETELEM, flags: unix.NLM_F_CREATE, fam: w.table.fam()}
		if w.del {
			m.typ, m.flags = unix.NFT_MSG_DELSETELEM, 0
		}
		m.attrs = nfnl.Text(nfnl.Text(nil, unix.NFTA_SET_ELEM_LIST_TABLE, w.table.name), unix.NFTA_SET_ELEM_LIST_SET, w.set)
		m.attrs = nfnl.Nest(m.attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS, w.list)
		w.msgs = append(w.msgs, m)
	}
	w.list, w.n = nil, 0
}

func (w *elementWriter) finish() []nfMsg {
	w.flush()
	return w.msgs
}

// explainElement turns the kernel's codes into what a person can act on.
func explainElement(op dataplane.Op, err error) error {
	e := op.Object.(dataplane.Element)
	switch {
	case errors.Is(err, unix.ENOENT) && e.Spanning():
		return cnm.Unsupported("set %s of table %s %s is not there: when the page was loaded this kernel (before Linux 5.6) or nft (before 0.9.4) did not know what networks that span hosts need: %w", e.Set, e.Family, e.Table, err)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("table %s %s or its set %s is not there: %w", e.Family, e.Table, e.Set, err)
	case e.Last != nil && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)):
		return fmt.Errorf("set %s holds a part of %s already: %w", e.Set, e.KeyText, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("set %s does not hold elements of this type: %w", e.Set, err)
	}
	return err
}
