package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// hold is a definition's address, in use or not. left is when its holder was last
// here; zero: it is, or has never been.
type hold struct {
	holder, lineage string
	left            time.Time
}

// had says whether the holder can have an address, or has it, here and now. The caller
// holds mu.
func (p *Pool) had(addr netip.Addr, holder, lineage string) error {
	if err := p.available(addr, holder, lineage); err != nil {
		return err
	}
	if l, ok := p.leases[addr]; ok && l.holder == holder || p.heldBy(addr, holder) >= 0 {
		return nil
	}
	return p.ours(addr)
}

// Hold keeps an address for its holder, whether he has it now or not, until
// Unhold: no one else is handed it. Errors are AllocateSpecific's. Holders of one
// lineage, unless it is empty, hold an address together, also while one of them has
// it: they are versions of one thing, of which the next is made before the last goes.
func (p *Pool) Hold(addr netip.Addr, holder, lineage string) error {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.had(addr, holder, lineage); err != nil {
		return err
	}
	if i := p.heldBy(addr, holder); i >= 0 {
		p.holds[addr][i].lineage = lineage
		return nil
	}
	delete(p.rests, addr)
	p.occupy(addr)
	p.holds[addr] = append(p.holds[addr], hold{holder: holder, lineage: lineage})
	return nil
}

// heldBy is the holder's place among those that hold an address, or -1.
func (p *Pool) heldBy(addr netip.Addr, holder string) int {
	return slices.IndexFunc(p.holds[addr], func(h hold) bool { return h.holder == holder })
}

// Unhold ends Hold; an address that its holder has stays his until Release.
// Unholding another's, or what is not held, is no matter.
func (p *Pool) Unhold(addr netip.Addr, holder string) {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.heldBy(addr, holder)
	if i < 0 {
		return
	}
	if p.holds[addr] = slices.Delete(p.holds[addr], i, i+1); len(p.holds[addr]) > 0 {
		return
	}
	delete(p.holds, addr)
	if _, leased := p.leases[addr]; !leased {
		p.vacate(addr)
	}
}
