package mesh

import (
	"math/rand/v2"
	"net/netip"

	"linkspan/cnm"
	"linkspan/ipam"
)

// BlockBits is the length of a subnet's blocks: small enough that each of many hosts
// gets one, and large enough that a host seldom needs a second.
func BlockBits(subnet netip.Prefix) int {
	bits := subnet.Bits()
	switch {
	case subnet.Addr().Is4() && bits <= 26:
		return min(max(bits+6, 26), 28)
	case subnet.Addr().Is4():
		return max(bits, min(bits+2, 30))
	case bits <= 108:
		return 112
	default:
		return max(bits, min(bits+4, 126))
	}
}

// blockOf is the block of a subnet that holds an address.
func blockOf(subnet netip.Prefix, a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, BlockBits(subnet)).Masked()
}

// choose returns a block that overlaps nothing in used, and has an address that can be
// handed out: the lowest, or, after others were faster, one of the next.
func choose(p cnm.Pool, used *ipam.Space, try int) (netip.Prefix, bool) {
	bits := BlockBits(p.Subnet)
	if p.Range.IsValid() && p.Range.Bits() >= bits { // all dynamic addresses are in one block
		b := blockOf(p.Subnet, p.Range.Addr())
		_, _, taken := used.Overlap(b)
		return b, !taken && usable(p, b)
	}
	base := p.Subnet
	if p.Range.IsValid() {
		base = p.Range
	}
	skip := 0
	if try > 0 {
		skip = rand.IntN(4*try + 1)
	}
	var last netip.Prefix
	for {
		b, ok := used.FirstFree(base, bits, nil)
		if !ok {
			return last, last.IsValid()
		}
		used.Add(b, "")
		if !usable(p, b) {
			continue
		}
		if last = b; skip == 0 {
			return b, true
		}
		skip--
	}
}

// usable says whether a block has an address that a container can be given by chance:
// inside of the range, and none of those that the pool reserves.
func usable(p cnm.Pool, b netip.Prefix) bool {
	if p.Range.IsValid() {
		if !b.Overlaps(p.Range) {
			return false
		}
		if p.Range.Bits() > b.Bits() {
			b = p.Range
		}
	}
	tries := 4 + len(p.Aux) // there are no more reserved ones
	for a := b.Addr(); b.Contains(a) && tries > 0; a, tries = a.Next(), tries-1 {
		if dynamic(p, a) {
			return true
		}
	}
	return false
}

// dynamic says whether an address is one that the pool could hand out.
func dynamic(p cnm.Pool, a netip.Addr) bool {
	if a == p.Gateway || p.Range.IsValid() && !p.Range.Contains(a) {
		return false
	}
	for _, aux := range p.Aux {
		if aux == a {
			return false
		}
	}
	s := p.Subnet
	if s.Bits() >= a.BitLen()-1 { // RFC 3021, RFC 6164
		return true
	}
	return a != s.Masked().Addr() && (a.Is6() || a != lastOf(s))
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// poolOf is a network's pool of a subnet.
func poolOf(n *cnm.Network, subnet netip.Prefix) (cnm.Pool, error) {
	for _, p := range n.Pools {
		if p.Subnet == subnet {
			return p, nil
		}
	}
	return cnm.Pool{}, cnm.Invalid("network %s has no subnet %s", n.Name, subnet)
}
