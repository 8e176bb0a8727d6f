package keeper

import (
	"fmt"
	"net/netip"

	"linkspan/cnm"
)

// check refuses what can never be bound, and fills in what may be left out.
func (q PortRequest) check(index int) (PortRequest, error) {
	q.Addr = q.Addr.Unmap()
	if q.PortEnd == 0 {
		q.PortEnd = q.Port
	}
	bad := func(why string) (PortRequest, error) {
		return q, cnm.Invalid("port request %d (%s %s:%d-%d): %s", index, q.Proto, q.Addr, q.Port, q.PortEnd, why)
	}
	switch {
	case q.Owner == "":
		return bad("it has no owner")
	case q.Proto != "tcp" && q.Proto != "udp" && q.Proto != "sctp":
		return bad("the protocol must be tcp, udp or sctp")
	case !q.Addr.IsValid():
		return bad("it has no address")
	case q.Addr.Zone() != "":
		return bad("an address with a zone cannot be reserved")
	case q.Port == 0 || q.PortEnd < q.Port:
		return bad("the ports must be from 1 to 65535, the first not above the last")
	}
	if q.ForwardTo == (netip.AddrPort{}) {
		return q, nil
	}
	q.ForwardTo = netip.AddrPortFrom(q.ForwardTo.Addr().Unmap(), q.ForwardTo.Port())
	switch {
	case !q.ForwardTo.IsValid() || q.ForwardTo.Port() == 0:
		return bad("the address to forward to is not whole")
	case int(q.ForwardTo.Port())+int(q.PortEnd-q.Port) > 65535:
		return bad("the range to forward to goes beyond 65535")
	case q.Proto == "sctp":
		return q, cnm.Unsupported("port request %d: sctp cannot be forwarded in user space yet; publish it on an IPv4 address", index)
	}
	return q, nil
}

// key is what a reservation is, wherever it leads.
func (q PortRequest) key() PortRequest {
	q.ForwardTo = netip.AddrPort{}
	return q
}

func (q PortRequest) count() int { return int(q.PortEnd) - int(q.Port) + 1 }

// target is where one port of a forwarding request goes.
func (q PortRequest) target(place int) netip.AddrPort {
	return netip.AddrPortFrom(q.ForwardTo.Addr(), q.ForwardTo.Port()+uint16(place))
}

func (q PortRequest) String() string {
	to := ""
	if q.ForwardTo.IsValid() {
		to = " to " + q.ForwardTo.String()
	}
	return fmt.Sprintf("%s %s:%d-%d%s of %s", q.Proto, q.Addr, q.Port, q.PortEnd, to, q.Owner)
}
