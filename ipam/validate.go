package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"linkspan/cnm"
)

// Validate holds a pool to its own bounds, in Docker's words.
func Validate(p cnm.Pool) error {
	s := p.Subnet
	switch {
	case !s.IsValid():
		return cnm.Invalid("the pool has no subnet; give one, like 172.20.0.0/16")
	case s.Addr().Is4In6():
		return cnm.Invalid("invalid subnet %s: it is an IPv4 subnet in IPv6 clothes; write it as IPv4", s)
	case s != s.Masked():
		return cnm.Invalid("invalid subnet %s: it should be %s", s, s.Masked())
	case s.IsSingleIP() && p.Gateway.IsValid():
		return cnm.Invalid("invalid subnet %s: it has one address, and the gateway and each container need one; give a larger one, like 172.20.0.0/16", s)
	}
	if r := p.Range; r.IsValid() {
		switch {
		case r.Addr().Is4() != s.Addr().Is4():
			return cnm.Invalid("invalid ip-range %s: parent subnet is an %s block: %s", r, family(s), s)
		case r != r.Masked():
			return cnm.Invalid("invalid ip-range %s: it should be %s", r, r.Masked())
		case r.Bits() < s.Bits():
			return cnm.Invalid("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, s)
		case !s.Contains(r.Addr()):
			return cnm.Invalid("invalid ip-range %s: parent subnet %s doesn't contain ip-range; give a part of the subnet", r, s)
		}
	}
	if g := p.Gateway; g.IsValid() {
		if err := member(s, g, "gateway "+g.String()); err != nil {
			return err
		}
	}
	seen := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		a := p.Aux[name]
		if err := member(s, a, "auxiliary address "+name+"="+a.String()); err != nil {
			return err
		}
		switch other, twice := seen[a]; {
		case a == p.Gateway && name != cnm.DefaultGatewayAux && name != cnm.DefaultGatewayAux6:
			return cnm.Conflict("Address already in use: auxiliary address %s=%s is the gateway of subnet %s; choose another for one of the two", name, a, s)
		case twice:
			return cnm.Conflict("Address already in use: auxiliary address %s=%s is also %s; leave one away", name, a, other)
		}
		seen[a] = name
	}
	return nil
}

// Usable says whether containers can have addresses of a subnet.
func Usable(s netip.Prefix) error {
	for _, bad := range unusable {
		if bad.prefix.Overlaps(s) {
			return cnm.Invalid("invalid subnet %s: it overlaps %s, %s; choose one of the private ranges, like 172.20.0.0/16 or fd00:1::/64", s, bad.prefix, bad.what)
		}
	}
	return nil
}

// member holds an address that a person gave to a subnet.
func member(s netip.Prefix, a netip.Addr, what string) error {
	switch {
	case a.Is4() != s.Addr().Is4():
		return cnm.Invalid("invalid %s: parent subnet is an %s block: %s", what, family(s), s)
	case !s.Contains(a):
		return cnm.Invalid("invalid %s: parent subnet %s doesn't contain this address; choose one of its addresses, like %s", what, s, FirstHost(s))
	case a.Is4() && s.Bits() < 31 && a == s.Addr():
		return cnm.Invalid("invalid %s: it is the network address of %s; choose another, like %s", what, s, FirstHost(s))
	case a.Is4() && s.Bits() < 31 && a == last(s):
		return cnm.Invalid("invalid %s: it is the broadcast address of %s; choose another, like %s", what, s, FirstHost(s))
	}
	return nil
}

// unusable are blocks whose addresses no container can have (RFC 6890).
var unusable = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "the loopback addresses"},
	{netip.MustParsePrefix("224.0.0.0/4"), "the multicast addresses"},
	{netip.MustParsePrefix("0.0.0.0/8"), "which means \"this network\""},
	{netip.MustParsePrefix("ff00::/8"), "the multicast addresses"},
	{netip.MustParsePrefix("fe80::/10"), "the link-local addresses, which every interface has"},
	{netip.MustParsePrefix("::/96"), "the loopback and unspecified addresses"},
}

func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}
