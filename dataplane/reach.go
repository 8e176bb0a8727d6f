package dataplane

import (
	"fmt"
	"net/netip"
)

// The builders of the elements that say who reaches whom; see page.nft.

// BorrowedElement names a bridge that was there before us and carries endpoints of
// ours.
func BorrowedElement(m Meta, table, bridge string) Element {
	e := ifElement(m, table, "borrowed", bridge)
	e.Guard = true
	return e
}

// FlatElement says that clients on the wire behind a borrowed bridge may come back
// to it through a published port.
func FlatElement(m Meta, table, bridge string) Element {
	return pairElement(m, table, "flat", bridge, bridge)
}

// InternalElement keeps a bridge's containers from the host's other addresses.
func InternalElement(m Meta, table, bridge string) Element {
	e := ifElement(m, table, "internal", bridge)
	e.Guard = true
	return e
}

// GatewayElement is the host's own address on a bridge.
func GatewayElement(m Meta, table string, addr netip.Addr, bridge string) Element {
	e := EndpointElement(m, table, addr, bridge)
	e.Set = "gateways" + family(addr)
	return e
}

// HoleElement lets one container reach one port of another on a bridge whose
// containers do not reach each other.
func HoleElement(m Meta, table string, from, to netip.Addr, proto string, p uint16) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: "holes" + family(to),
		KeyRaw:  append(append(append(from.AsSlice(), to.AsSlice()...), protoField(proto)...), port(p)...),
		KeyText: fmt.Sprintf("%s . %s . %s . %d", from, to, proto, p)}
}

// SNATElement gives a subnet's packets an address of the host's when they leave.
func SNATElement(m Meta, table string, subnet netip.Prefix, to netip.Addr) Element {
	e := MasqueradeElement(m, table, subnet)
	e.Set, e.Data, e.DataText = "snat"+family(to), to.AsSlice(), to.String()
	return e
}

// SNATEndpointElement does so for one endpoint.
func SNATEndpointElement(m Meta, table string, from, to netip.Addr) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: "snat" + family(to) + "_endpoint",
		KeyRaw: from.AsSlice(), KeyText: from.String(), Data: to.AsSlice(), DataText: to.String()}
}

// What InboundElement may say.
const (
	InboundOpen   = "accept"      // every port (gateway mode nat-unprotected)
	InboundRouted = "jump routed" // published ports and ping (gateway mode routed)
)

// InboundElement says how a bridge's containers are reached by their own address.
func InboundElement(m Meta, table string, v4 bool, bridge, verdict string) Element {
	set := "inbound6"
	if v4 {
		set = "inbound4"
	}
	e := ifElement(m, table, set, bridge)
	e.Verdict = verdict
	return e
}

// DirectElement opens a bridge's published ports to direct routing.
func DirectElement(m Meta, table, bridge string) Element {
	return ifElement(m, table, "direct", bridge)
}

// TrustedElement does so for what comes in by one interface of the host.
func TrustedElement(m Meta, table, link, bridge string) Element {
	return pairElement(m, table, "trusted", link, bridge)
}

// OpenElement is a container's own port that direct routing may reach.
func OpenElement(m Meta, table, proto string, to netip.AddrPort) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: "open" + family(to.Addr()),
		KeyRaw:  append(append(to.Addr().AsSlice(), protoField(proto)...), port(to.Port())...),
		KeyText: fmt.Sprintf("%s . %s . %d", to.Addr(), proto, to.Port())}
}

// OpenBlock is how many ports one element of the page's open4_64 and open6_64 opens.
const OpenBlock = 64

// OpenElements opens a container's ports from to's up to last: whole blocks of
// OpenBlock by one element each, the others by their own.
func OpenElements(m Meta, table, proto string, to netip.AddrPort, last uint16) (els []Element) {
	for p := int(to.Port()); p <= int(last); {
		e := OpenElement(m, table, proto, netip.AddrPortFrom(to.Addr(), uint16(p)))
		if p%OpenBlock == 0 && p+OpenBlock-1 <= int(last) {
			e.Set += "_64"
			p += OpenBlock
		} else {
			p++
		}
		els = append(els, e)
	}
	return els
}

func pairElement(m Meta, table, set, in, out string) Element {
	return Element{Meta: m, Family: "inet", Table: table, Set: set,
		KeyRaw: append(ifname(in), ifname(out)...), KeyText: fmt.Sprintf("%q . %q", in, out)}
}
