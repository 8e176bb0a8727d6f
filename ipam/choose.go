package ipam

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"

	"linkspan/cnm"
)

// Base is a block that subnets of one size are cut from (--default-address-pool).
type Base struct {
	Prefix netip.Prefix
	// Bits is the length of the subnets' prefixes.
	Bits int
}

// DefaultBases are what networks get their IPv4 subnets from when neither the
// network nor the daemon says otherwise: the first is the default bridge's, the
// next six networks have a /16 each as textbooks show them, and then there are
// 68,000 of /24: who makes one network per project runs out of Docker's 31, and
// meets his VPN sooner.
func DefaultBases() []Base {
	var out []Base
	for i := byte(17); i <= 23; i++ {
		out = append(out, Base{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i, 0, 0}), 16), 16})
	}
	for _, p := range []string{"172.24.0.0/13", "192.168.0.0/16", "10.0.0.0/8"} {
		out = append(out, Base{netip.MustParsePrefix(p), 24})
	}
	return out
}

// ULA is the base of IPv6 subnets of a daemon: 64 bits long each, out of a /48
// whose 40 random bits (RFC 4193, 3.2) come from the data root's id, so that it
// is the same after every restart and another on every host.
func ULA(id string) Base {
	sum := sha256.Sum256([]byte("linkspan unique local addresses of " + id))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], sum[:5])
	return Base{netip.PrefixFrom(netip.AddrFrom16(a), 48), 64}
}

// Check holds a base to its bounds.
func (b Base) Check() error {
	p := b.Prefix
	switch {
	case !p.IsValid():
		return cnm.Invalid("default address pool: base is missing; write base=10.10.0.0/16,size=24")
	case p != p.Masked():
		return cnm.Invalid("default address pool: invalid base %s: it should be %s", p, p.Masked())
	case b.Bits < p.Bits():
		return cnm.Invalid("default address pool: size /%d is larger than its base %s; give a number from %d to %d", b.Bits, p, p.Bits(), p.Addr().BitLen()-2)
	case b.Bits > p.Addr().BitLen()-2:
		return cnm.Invalid("default address pool: subnets of /%d have no room for a gateway and a container; give a number from %d to %d", b.Bits, p.Bits(), p.Addr().BitLen()-2)
	}
	return nil
}

// Choose returns the first subnet of a family that can be cut from the bases, in
// their order, and overlaps nothing in used nor host.
func Choose(bases []Base, v4 bool, used, host *Space) (netip.Prefix, error) {
	var names []string
	for _, b := range bases {
		if b.Prefix.Addr().Is4() != v4 {
			continue
		}
		if p, ok := used.FirstFree(b.Prefix, b.Bits, host); ok {
			return p, nil
		}
		names = append(names, fmt.Sprintf("%s by /%d", b.Prefix, b.Bits))
	}
	family := "IPv4"
	if !v4 {
		family = "IPv6"
	}
	if len(names) == 0 {
		return netip.Prefix{}, cnm.Errorf(cnm.ErrExhausted, "could not find an available, non-overlapping %s address pool among the defaults to assign to the network: "+
			"there is no default pool of that family; give one with --subnet, or to the daemon with --default-address-pool", family)
	}
	return netip.Prefix{}, cnm.Errorf(cnm.ErrExhausted, "could not find an available, non-overlapping %s address pool among the defaults to assign to the network: "+
		"all predefined address pools have been fully subnetted: networks and the host's routes use all of %s; "+
		"remove networks (docker network prune), give a subnet with --subnet, or more to the daemon with --default-address-pool",
		family, strings.Join(names, ", "))
}

// DefaultRoute says whether a route is the default route or one of the halves and
// quarters that VPNs write to win over it (0.0.0.0/1 and 128.0.0.0/1): it covers
// the world and takes no subnet away.
func DefaultRoute(p netip.Prefix) bool { return plain(p).Bits() <= 2 }
