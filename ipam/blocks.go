package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"linkspan/cnm"
)

// A pool of a subnet that several hosts share hands out the addresses of this host's
// own blocks and no others: without asking anyone, and never one that another host has
// too. A pool that was never told of blocks has all of its subnet.

// ElsewhereError is an address that is in no block of this host's: who knows whose it
// is has to be asked before it can be had here.
type ElsewhereError struct {
	Addr    netip.Addr
	Network string
}

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("%s on network %s is in no block of addresses of this host", e.Addr, e.Network)
}

// Unwrap is its class.
func (e *ElsewhereError) Unwrap() error { return cnm.ErrUnavailable }

// FullError says that all addresses of this host's blocks are taken: one more block is
// needed.
type FullError struct {
	Network string
	Subnet  netip.Prefix
	Blocks  int
	Taken   int // by containers
}

func (e *FullError) Error() string {
	if e.Blocks == 0 {
		return fmt.Sprintf("this host has no block of addresses of %s of network %s", e.Subnet, e.Network)
	}
	return fmt.Sprintf("no available addresses in this host's %d blocks of %s of network %s: all are taken, %d by containers here",
		e.Blocks, e.Subnet, e.Network, e.Taken)
}

// Unwrap is its class.
func (e *FullError) Unwrap() error { return cnm.ErrExhausted }

// SetBlocks restricts the pool to these blocks, each a part of its subnet. What is
// handed out elsewhere stays with its holders.
func (p *Pool) SetBlocks(blocks []netip.Prefix) error {
	for _, b := range blocks {
		if err := p.checkBlock(b); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restricted, p.blocks = true, nil
	for _, b := range blocks {
		p.addBlock(b)
	}
	return nil
}

// AddBlock gives the pool one more block, and restricts it to its blocks. One that it
// has already is no matter.
func (p *Pool) AddBlock(b netip.Prefix) error {
	if err := p.checkBlock(b); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restricted = true
	p.addBlock(b)
	return nil
}

// RemoveBlock takes a block away that none of whose addresses anybody has here or
// holds; else it says false, and nothing changes.
func (p *Pool) RemoveBlock(b netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.blocks, func(o block) bool { return o.prefix == b.Masked() })
	if i < 0 {
		return true
	}
	for a := range p.leases {
		if b.Contains(a) {
			return false
		}
	}
	for a := range p.holds {
		if b.Contains(a) {
			return false
		}
	}
	for a := range p.granted {
		if b.Contains(a) {
			return false
		}
	}
	p.blocks = slices.Delete(p.blocks, i, i+1)
	return true
}

// Blocks are the pool's, in their order; ok is false for a pool that has all of its
// subnet.
func (p *Pool) Blocks() (blocks []netip.Prefix, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blocks {
		blocks = append(blocks, b.prefix)
	}
	return blocks, p.restricted
}

// Idle are the blocks of one address (borrowed of another host) that nobody has or
// holds here.
func (p *Pool) Idle() (out []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blocks {
		a := b.prefix.Addr()
		if _, leased := p.leases[a]; b.prefix.IsSingleIP() && !leased && len(p.holds[a]) == 0 && p.granted[a] == "" {
			out = append(out, b.prefix)
		}
	}
	return out
}

// Grant keeps an address of our blocks for another host, by its name, until Ungrant: it
// is handed out to nobody here. Granting it to the same host again is success. Errors
// are AllocateSpecific's.
func (p *Pool) Grant(addr netip.Addr, host string) error {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.granted[addr] == host && host != "" {
		return nil
	}
	if err := p.available(addr, "", ""); err != nil {
		return err
	}
	if err := p.ours(addr); err != nil {
		return err
	}
	if l, ok := p.leases[addr]; ok {
		return p.inUse(addr, l.holder, "running, for "+age(p.opts.Now().Sub(l.since)))
	}
	if p.granted == nil {
		p.granted = map[netip.Addr]string{}
	}
	delete(p.rests, addr)
	p.occupy(addr)
	p.granted[addr] = host
	return nil
}

// GrantedTo is the host that an address of ours was granted to, or "".
func (p *Pool) GrantedTo(addr netip.Addr) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.granted[addr.Unmap()]
}

// Ungrant ends Grant. One that was not granted is no matter.
func (p *Pool) Ungrant(addr netip.Addr) {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.granted[addr]; ok {
		delete(p.granted, addr)
		p.vacate(addr)
	}
}

// block is one of the pool's, and the part of the window that dynamic addresses come
// from; an empty part where the block lies outside of the pool's range.
type block struct {
	prefix   netip.Prefix
	from, to uint64
}

// addBlock keeps blocks in the order of their addresses. The caller holds mu.
func (p *Pool) addBlock(b netip.Prefix) {
	if slices.ContainsFunc(p.blocks, func(o block) bool { return o.prefix == b }) {
		return
	}
	n := block{prefix: b}
	if off, ok := p.win.offset(b.Addr()); ok {
		n.from = off
		n.to = min(p.win.size, off+windowOf(b).size)
	} else if b.Contains(p.win.base) { // a range that is a part of the block
		n.to = min(p.win.size, windowOf(b).size)
	}
	p.blocks = append(p.blocks, n)
	slices.SortFunc(p.blocks, func(a, b block) int { return a.prefix.Compare(b.prefix) })
}

func (p *Pool) checkBlock(b netip.Prefix) error {
	if !b.IsValid() || b != b.Masked() || b.Bits() < p.pool.Subnet.Bits() || !p.pool.Subnet.Contains(b.Addr()) {
		return cnm.Invalid("block %s is no part of %s, the subnet of %s", b, p.pool.Subnet, p.name())
	}
	return nil
}

// ours refuses an address in no block of ours. The caller holds mu.
func (p *Pool) ours(addr netip.Addr) error {
	if !p.restricted || slices.ContainsFunc(p.blocks, func(b block) bool { return b.prefix.Contains(addr) }) {
		return nil
	}
	return &ElsewhereError{addr, p.opts.Network}
}

// nextClear is the next address from next on that is not taken, going round.
func (p *Pool) nextClear() (uint64, bool) {
	if !p.restricted {
		if off, ok := p.taken.nextClear(p.next, p.win.size); ok {
			return off, true
		}
		return p.taken.nextClear(0, min(p.next, p.win.size))
	}
	for _, b := range p.blocks {
		if off, ok := p.taken.nextClear(max(p.next, b.from), b.to); ok {
			return off, true
		}
	}
	for _, b := range p.blocks {
		if off, ok := p.taken.nextClear(b.from, min(p.next, b.to)); ok {
			return off, true
		}
	}
	return 0, false
}

// free counts the addresses of the window that could be handed out, resting ones
// included.
func (p *Pool) free() uint64 {
	if !p.restricted {
		return p.win.size - p.taken.count + uint64(len(p.rests))
	}
	n := uint64(0)
	seen := uint64(0) // blocks may contain each other: up to where was counted
	for _, b := range p.blocks {
		if from := max(b.from, seen); from < b.to {
			n += b.to - from - p.taken.countIn(from, b.to)
			seen = b.to
		}
	}
	for a := range p.rests {
		if p.ours(a) == nil {
			n++
		}
	}
	return n
}
