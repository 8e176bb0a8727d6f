package ipam

import "net/netip"

// Space is a set of prefixes in use, each with a word on what uses it. It is a
// binary tree by bits, in which every node knows the largest free block below
// it: adding, removing, asking for overlaps and choosing the first free block cost
// the length of a prefix, however many there are. The zero Space is empty. Not
// safe for concurrent use.
type Space struct{ four, six *node }

type node struct {
	child [2]*node
	used  bool
	who   string
	// free is the length of the shortest prefix (the largest block) at or below
	// this node that nothing uses; full when there is none.
	free uint8
}

const full = 255

// Add puts a prefix in use; of the same prefix the last word counts. Prefixes may
// contain each other.
func (s *Space) Add(p netip.Prefix, who string) {
	p = plain(p)
	root := s.root(p.Addr())
	*root = add(*root, bitsOf(p.Addr()), 0, uint8(p.Bits()), who)
}

func add(n *node, a [16]byte, depth, end uint8, who string) *node {
	if n == nil {
		n = &node{}
	}
	if depth == end {
		n.used, n.who = true, who
	} else {
		b := bit(a, depth)
		n.child[b] = add(n.child[b], a, depth+1, end, who)
	}
	n.weigh(depth)
	return n
}

// Remove takes a prefix out again. One that is not there is no matter.
func (s *Space) Remove(p netip.Prefix) {
	p = plain(p)
	root := s.root(p.Addr())
	*root = remove(*root, bitsOf(p.Addr()), 0, uint8(p.Bits()))
}

func remove(n *node, a [16]byte, depth, end uint8) *node {
	switch {
	case n == nil:
		return nil
	case depth == end:
		n.used, n.who = false, ""
	default:
		b := bit(a, depth)
		n.child[b] = remove(n.child[b], a, depth+1, end)
	}
	if !n.used && n.child[0] == nil && n.child[1] == nil {
		return nil
	}
	n.weigh(depth)
	return n
}

// weigh computes free from the children's.
func (n *node) weigh(depth uint8) {
	if n.free = full; n.used {
		return
	}
	for _, c := range n.child {
		f := depth + 1
		if c != nil {
			f = c.free
		}
		n.free = min(n.free, f)
	}
}

// Overlap returns a prefix in use that overlaps p, and what uses it.
func (s *Space) Overlap(p netip.Prefix) (with netip.Prefix, who string, ok bool) {
	p = plain(p)
	n, a := *s.root(p.Addr()), bitsOf(p.Addr())
	for depth := uint8(0); n != nil; depth++ {
		if n.used {
			return prefixOf(a, depth, p.Addr().Is4()), n.who, true
		}
		if depth == uint8(p.Bits()) {
			break
		}
		n = n.child[bit(a, depth)]
	}
	// Whatever lies below is inside of p: the first.
	for depth := uint8(p.Bits()); n != nil; depth++ {
		if n.used {
			return prefixOf(a, depth, p.Addr().Is4()), n.who, true
		}
		b := 0
		if n.child[0] == nil {
			b = 1
			set(&a, depth)
		}
		n = n.child[b]
	}
	return netip.Prefix{}, "", false
}

// FirstFree is the lowest prefix of a length inside base that overlaps nothing
// in use here nor there.
func (s *Space) FirstFree(base netip.Prefix, length int, there *Space) (netip.Prefix, bool) {
	base = plain(base)
	if length < base.Bits() || length > base.Addr().BitLen() {
		return netip.Prefix{}, false
	}
	if there == nil {
		there = &Space{}
	}
	a := bitsOf(base.Addr())
	x, y := *s.root(base.Addr()), *there.root(base.Addr())
	for depth := range uint8(base.Bits()) {
		if x.taken() || y.taken() {
			return netip.Prefix{}, false
		}
		x, y = x.below(bit(a, depth)), y.below(bit(a, depth))
	}
	if !firstFree(x, y, &a, uint8(base.Bits()), uint8(length)) {
		return netip.Prefix{}, false
	}
	return prefixOf(a, uint8(length), base.Addr().Is4()), true
}

func firstFree(x, y *node, a *[16]byte, depth, length uint8) bool {
	switch {
	case x == nil && y == nil:
		return true
	case depth == length || x != nil && x.free > length || y != nil && y.free > length:
		return false
	}
	if firstFree(x.below(0), y.below(0), a, depth+1, length) {
		return true
	}
	set(a, depth)
	if firstFree(x.below(1), y.below(1), a, depth+1, length) {
		return true
	}
	a[depth/8] &^= 0x80 >> (depth % 8)
	return false
}

func (n *node) taken() bool { return n != nil && n.used }

func (n *node) below(b int) *node {
	if n == nil {
		return nil
	}
	return n.child[b]
}

func (s *Space) root(a netip.Addr) **node {
	if a.Is4() {
		return &s.four
	}
	return &s.six
}

// plain is a prefix without host bits, an IPv4 one in IPv6 clothes
// (::ffff:10.0.0.0/104) as IPv4.
func plain(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// bitsOf are an address's bits from the left; of IPv4 the first 32 count.
func bitsOf(a netip.Addr) (b [16]byte) {
	copy(b[:], a.AsSlice())
	return b
}

func bit(a [16]byte, i uint8) int { return int(a[i/8] >> (7 - i%8) & 1) }

func set(a *[16]byte, i uint8) { a[i/8] |= 0x80 >> (i % 8) }

func prefixOf(a [16]byte, length uint8, v4 bool) netip.Prefix {
	addr := netip.AddrFrom16(a)
	if v4 {
		addr = netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.PrefixFrom(addr, int(length)).Masked()
}
