package live

import (
	"context"
	"net/netip"

	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// Env is what a packet's fate depends on besides the ruleset, of one namespace:
// interfaces and local addresses as they are now, routes asked one by one. It is good for
// as long as ctx is.
func (k *Kernel) Env(ctx context.Context, ns string) (ruleset.Env, error) { return EnvOf(ctx, k, ns) }

// EnvOf is Env over any reader.
func EnvOf(ctx context.Context, k reading.Reader, ns string) (ruleset.Env, error) {
	links, err := k.Interfaces(ctx, ns)
	if err != nil {
		return ruleset.Env{}, err
	}
	routes, err := k.Routes(ctx, ns)
	if err != nil {
		return ruleset.Env{}, err
	}
	byName := map[string]ruleset.Link{}
	for _, l := range links {
		kind := uint16(1) // ARPHRD_ETHER
		if l.Name == "lo" {
			kind = 772 // ARPHRD_LOOPBACK
		}
		byName[l.Name] = ruleset.Link{Index: l.Index, Kind: l.Kind, Group: l.Group, Type: kind, Addrs: l.Addrs}
	}
	route := func(p ruleset.Packet) ruleset.Route {
		a, err := k.Route(ctx, ns, reading.RouteQuery{Src: p.Src, Dst: p.Dst, In: p.In, Mark: p.Mark, Proto: p.Proto,
			SrcPort: p.SrcPort, DstPort: p.DstPort, UID: uid(p)})
		switch {
		case err != nil:
			return ruleset.Route{Err: err.Error(), Unknown: true}
		case a.Err != "":
			return ruleset.Route{Err: a.Err}
		}
		return ruleset.Route{Local: a.Type == "local" || a.Type == "broadcast", Out: a.Link, Gateway: a.Gateway, Src: a.Src}
	}
	first := func(v6 bool) netip.Addr {
		for _, l := range links {
			for _, a := range l.Addrs {
				if ip := a.Addr(); l.Up && ip.Is6() == v6 && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
					return ip
				}
			}
		}
		return netip.Addr{}
	}
	return ruleset.Env{
		First:    first,
		Route:    route,
		Link:     func(name string) (ruleset.Link, bool) { l, ok := byName[name]; return l, ok },
		AddrType: func(a netip.Addr, dev string) string { return addrType(routes, a, dev) },
	}, nil
}

func uid(p ruleset.Packet) uint32 {
	if p.UID == nil {
		return 0
	}
	return *p.UID
}

// local is the number of the table that knows this host's addresses (rtnetlink(7)).
const local = 255

// addrType is inet_addr_type: what the local table says, else unicast.
func addrType(routes []reading.Route, a netip.Addr, dev string) string {
	switch {
	case a.IsMulticast():
		return "multicast"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Is4() && a.As4()[0] == 0:
		return "broadcast"
	}
	kind, best := "unicast", -1
	for _, r := range routes {
		if r.Table == local && r.Dst.Contains(a) && r.Dst.Bits() > best && (dev == "" || r.Link == dev || a.Is6() && r.Link == "lo") {
			kind, best = r.Type, r.Dst.Bits()
		}
	}
	return kind
}
