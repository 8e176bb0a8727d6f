package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
)

// DefaultPools are the subnets that networks get when none is asked for, in
// Docker's order: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to
// 192.168.240.0/20.
func DefaultPools() []netip.Prefix {
	var out []netip.Prefix
	for i := byte(17); i <= 31; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i, 0, 0}), 16))
	}
	for i := 0; i < 256; i += 16 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20))
	}
	return out
}

// Divide cuts a base into subnets of a size, as --default-address-pool asks;
// nothing when it is not possible. At most 65,536 are returned.
func Divide(base netip.Prefix, size int) []netip.Prefix {
	base = base.Masked()
	if !base.IsValid() || size < base.Bits() || size > base.Addr().BitLen() {
		return nil
	}
	var out []netip.Prefix
	a := base.Addr()
	for a.IsValid() && base.Contains(a) && len(out) < 1<<16 {
		p := netip.PrefixFrom(a, size)
		out = append(out, p)
		a = last(p).Next()
	}
	return out
}

// FirstFree returns the first candidate that overlaps nothing in use: the
// host's routes and addresses, and the pools of other networks. A route of /0,
// /1 or /2 is a default route in disguise (VPNs write 0.0.0.0/1 and
// 128.0.0.0/1 to win over the real one) and takes nothing away.
func FirstFree(candidates, inUse []netip.Prefix) (netip.Prefix, error) {
	var blockers []string
	for _, c := range candidates {
		c = c.Masked()
		i := slices.IndexFunc(inUse, func(u netip.Prefix) bool {
			u = unmap(u)
			return u.Bits() > 2 && u.Overlaps(c)
		})
		if i < 0 {
			return c, nil
		}
		if b := inUse[i].Masked().String(); !slices.Contains(blockers, b) {
			blockers = append(blockers, b)
		}
	}
	if n := len(blockers); n > 6 {
		blockers = append(blockers[:5], fmt.Sprintf("%d more", n-5))
	}
	return netip.Prefix{}, cnm.Errorf(cnm.ErrExhausted, "could not find an available, non-overlapping address pool among the %d candidates: "+
		"in use are %s; give one with --subnet, or for the default bridge with --bip", len(candidates), strings.Join(blockers, ", "))
}

// unmap writes ::ffff:10.0.0.0/104 as 10.0.0.0/8.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
