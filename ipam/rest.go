package ipam

import (
	"net/netip"
	"slices"
	"time"
)

type rest struct {
	addr  netip.Addr
	since time.Time
}

// vacate lets an address rest that nobody has any more. The caller holds mu.
func (p *Pool) vacate(addr netip.Addr) {
	off, dynamic := p.win.offset(addr)
	switch {
	case !dynamic: // outside the range no one is handed it by chance
	case p.opts.Rest < 0:
		p.taken.clear(off)
	default:
		now := p.opts.Now()
		p.rests[addr] = now
		p.resting = append(p.resting, rest{addr, now})
		if len(p.resting) > 2*len(p.rests)+64 { // stale entries of addresses that were asked for by name
			p.resting = slices.DeleteFunc(p.resting, func(r rest) bool { return !p.rests[r.addr].Equal(r.since) })
		}
	}
}

// wakeRested frees what has rested long enough.
func (p *Pool) wakeRested(now time.Time) {
	n := 0
	for n < len(p.resting) && now.Sub(p.resting[n].since) >= p.opts.Rest {
		p.wake(p.resting[n])
		n++
	}
	p.resting = p.resting[n:]
}

// wake frees one resting address, unless it was asked for by name meanwhile.
func (p *Pool) wake(r rest) bool {
	if since, ok := p.rests[r.addr]; !ok || !since.Equal(r.since) {
		return false
	}
	delete(p.rests, r.addr)
	if off, ok := p.win.offset(r.addr); ok {
		p.taken.clear(off)
	}
	return true
}
