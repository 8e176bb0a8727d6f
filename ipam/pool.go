// Package ipam hands out addresses from pools. It is pure and in memory: what is
// in use is loaded from the store at start with [Pool.MarkUsed], and what is
// handed out is stored by the caller.
package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
)

// Options of New; the zero value is good.
type Options struct {
	// Network and NetworkID are named in errors.
	Network, NetworkID string
	// Describe turns a holder into words for errors ("container relay"); nil:
	// the holder as it was given.
	Describe func(holder string) string
	// Lineage says which versions of one thing a holder of an address now belongs to
	// (Hold); nil: none.
	Lineage func(holder string) string
	// Rest is how long a released address is kept back while others are free: a
	// neighbour's ARP cache, or a peer that still sends to the old container,
	// shall not meet a new one. 0 means 30 s, negative none.
	Rest time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Pool hands out the addresses of one subnet. Dynamic ones go round: each comes
// after the one given last. Safe for concurrent use.
type Pool struct {
	pool cnm.Pool
	opts Options
	win  window // where dynamic addresses come from

	mu       sync.Mutex
	taken    bitmap // offsets in win that are leased, reserved or resting
	next     uint64 // offset in win to try first
	leases   map[netip.Addr]lease
	holds    map[netip.Addr][]hold
	reserved map[netip.Addr]string // address to what it is
	// resting are released addresses in the order of their release; an entry is
	// stale when the address is not in rests with the same time.
	resting []rest
	rests   map[netip.Addr]time.Time

	// See SetBlocks.
	restricted bool
	blocks     []block
	granted    map[netip.Addr]string // to other hosts, by name
}

type lease struct {
	holder string
	since  time.Time
}

// New makes the pool of a network's subnet. A zero gateway reserves none.
func New(pool cnm.Pool, o Options) (*Pool, error) {
	if err := Validate(pool); err != nil {
		return nil, err
	}
	if o.Describe == nil {
		o.Describe = func(holder string) string { return holder }
	}
	if o.Rest == 0 {
		o.Rest = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dynamic := pool.Subnet
	if pool.Range.IsValid() {
		dynamic = pool.Range
	}
	p := &Pool{
		pool: pool, opts: o, win: windowOf(dynamic),
		leases: map[netip.Addr]lease{}, holds: map[netip.Addr][]hold{}, reserved: map[netip.Addr]string{}, rests: map[netip.Addr]time.Time{},
	}
	for addr, what := range reservations(pool) {
		p.reserved[addr] = what
		p.occupy(addr)
	}
	return p, nil
}

const auxiliary = "the auxiliary address "

// reservations are the addresses that are never handed out.
func reservations(p cnm.Pool) map[netip.Addr]string {
	m := map[netip.Addr]string{}
	for name, a := range p.Aux {
		m[a] = auxiliary + name
	}
	a := p.Subnet.Addr()
	if p.Subnet.Bits() < a.BitLen()-1 {
		if a.Is4() {
			m[a] = "the network address"
			m[last(p.Subnet)] = "the broadcast address"
		} else {
			m[a] = "the subnet-router anycast address" // RFC 4291, 2.6.1
		}
	}
	if p.Gateway.IsValid() {
		m[p.Gateway] = "the gateway"
	}
	return m
}

// Peek says which address Allocate would hand out now, and hands out none.
func (p *Pool) Peek() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off, ok := p.nextFree(p.opts.Now()); ok {
		return p.win.at(off), nil
	}
	for _, r := range p.resting {
		if _, held := p.leases[r.addr]; !held && p.ours(r.addr) == nil {
			return r.addr, nil
		}
	}
	return netip.Addr{}, p.exhausted()
}

// nextFree is the offset of the next address that is neither handed out nor
// resting. The caller holds mu.
func (p *Pool) nextFree(now time.Time) (uint64, bool) {
	p.wakeRested(now)
	return p.nextClear()
}

// Allocate hands out an address to the holder. It errs with cnm.ErrExhausted
// when none is free.
func (p *Pool) Allocate(holder string) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	off, ok := p.nextFree(now)
	if !ok {
		// All that is left rests: the one that rested longest.
		for len(p.resting) > 0 && !ok {
			oldest := p.resting[0]
			if p.wake(oldest) && p.ours(oldest.addr) == nil {
				off, ok = p.win.offset(oldest.addr)
			}
			p.resting = p.resting[1:]
		}
	}
	if !ok {
		return netip.Addr{}, p.exhausted()
	}
	addr := p.win.at(off)
	p.next = off + 1
	p.taken.set(off)
	p.leases[addr] = lease{holder, now}
	return addr, nil
}

// AllocateSpecific hands out the one address. Having it already is success. It
// errs with cnm.ErrInvalid for an address that can never be had, and
// cnm.ErrConflict, naming the holder, for one that is taken. An *ElsewhereError is an
// address of a shared subnet that is not this host's to give.
func (p *Pool) AllocateSpecific(addr netip.Addr, holder string) error {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.had(addr, holder, ""); err != nil {
		return err
	}
	p.lease(addr, holder)
	return nil
}

// lease hands an address out that is available. The caller holds mu.
func (p *Pool) lease(addr netip.Addr, holder string) {
	if _, mine := p.leases[addr]; !mine {
		delete(p.rests, addr)
		p.occupy(addr)
		p.leases[addr] = lease{holder, p.opts.Now()}
		if i := p.heldBy(addr, holder); i >= 0 {
			p.holds[addr][i].left = time.Time{}
		}
	}
}

// MarkUsed loads an address that is in use, at start. Dynamic allocation goes on
// behind it, so that a restart does not begin with what was just released. What is in
// use is so in whosever block it is.
func (p *Pool) MarkUsed(addr netip.Addr, holder string) error {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.available(addr, holder, ""); err != nil {
		return err
	}
	p.lease(addr, holder)
	if off, ok := p.win.offset(addr); ok {
		p.next = max(p.next, off+1)
	}
	return nil
}

// Release takes an address back; false says that no one had it.
func (p *Pool) Release(addr netip.Addr) bool {
	addr = addr.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.leases[addr]
	if !ok {
		return false
	}
	delete(p.leases, addr)
	if i := p.heldBy(addr, l.holder); i >= 0 {
		p.holds[addr][i].left = p.opts.Now()
	}
	if len(p.holds[addr]) > 0 {
		return true
	}
	p.vacate(addr)
	return true
}

// Available says, as Hold would, whether the holder could have the address, and
// takes nothing.
func (p *Pool) Available(addr netip.Addr, holder, lineage string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.had(addr.Unmap(), holder, lineage)
}

// Holder says who has an address, and since when.
func (p *Pool) Holder(addr netip.Addr) (holder string, since time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.leases[addr.Unmap()]
	return l.holder, l.since, ok
}

// Count says how many addresses are handed out, and how many more could be
// without being asked for by name.
func (p *Pool) Count() (used int, free uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.leases), p.free()
}

// Pool returns what the pool was made of.
func (p *Pool) Pool() cnm.Pool { return p.pool }

// occupy marks an address taken, if dynamic allocation could meet it.
func (p *Pool) occupy(addr netip.Addr) {
	if off, ok := p.win.offset(addr); ok {
		p.taken.set(off)
	}
}

// name is the network as errors call it.
func (p *Pool) name() string {
	switch o := p.opts; {
	case o.Network == "":
		return "subnet " + p.pool.Subnet.String()
	default:
		return "network " + o.Network
	}
}

func (p *Pool) available(addr netip.Addr, holder, lineage string) error {
	if !addr.IsValid() || !p.pool.Subnet.Contains(addr) {
		return cnm.Invalid("Invalid address %s: It does not belong to any of this network's subnets; %s has %s",
			addr, p.name(), p.pool.Subnet)
	}
	if what, ok := p.reserved[addr]; ok {
		if addr == p.pool.Gateway || strings.HasPrefix(what, auxiliary) {
			return cnm.Conflict("Address already in use: %s is %s of %s; choose another address", addr, what, p.name())
		}
		return cnm.Invalid("Invalid address %s: it is %s of %s; choose another address", addr, what, p.pool.Subnet)
	}
	now := p.opts.Now()
	akin := func(other string) bool { return lineage != "" && lineage == other }
	if l, ok := p.leases[addr]; ok && l.holder != holder && (p.opts.Lineage == nil || !akin(p.opts.Lineage(l.holder))) {
		return p.inUse(addr, l.holder, "running, for "+age(now.Sub(l.since)))
	}
	if host, ok := p.granted[addr]; ok {
		return cnm.Conflict("Address already in use: %s on %s was given to host %s, for a container there; choose another address, or remove that container", addr, p.name(), host)
	}
	if p.heldBy(addr, holder) >= 0 {
		return nil
	}
	for _, h := range p.holds[addr] {
		switch {
		case akin(h.lineage):
		case h.left.IsZero():
			return p.inUse(addr, h.holder, "not running: the address is part of its definition")
		default:
			return p.inUse(addr, h.holder, "stopped "+age(now.Sub(h.left))+" ago: the address is part of its definition")
		}
	}
	return nil
}

func (p *Pool) inUse(addr netip.Addr, holder, state string) error {
	return cnm.Conflict("Address already in use: %s on %s is held by %s (%s); choose another address, or remove its holder",
		addr, p.name(), p.opts.Describe(holder), state)
}

func (p *Pool) exhausted() error {
	if p.restricted {
		return &FullError{p.opts.Network, p.pool.Subnet, len(p.blocks), len(p.leases)}
	}
	family, pool := "IPv4", p.pool.Subnet.String()
	if p.pool.Subnet.Addr().Is6() {
		family = "IPv6"
	}
	if p.pool.Range.IsValid() {
		pool = fmt.Sprintf("the ip-range %s of %s", p.pool.Range, p.pool.Subnet)
	}
	who := p.opts.Network
	if p.opts.NetworkID != "" {
		who = fmt.Sprintf("%s (%s)", who, p.opts.NetworkID)
	}
	return cnm.Errorf(cnm.ErrExhausted, "no available %s addresses on this network's address pools: %s: "+
		"all of %s are taken, %d by containers; remove some that are not needed, or use a network with a larger subnet",
		family, who, pool, len(p.leases))
}

// age is a duration as a person says it.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than a second"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
