package dns

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// local answers what needs nobody else, with records appended to out; false: it is
// the upstreams' to answer.
func (d *viewData) local(q *query, out []byte) ([]byte, bool) {
	if q.qclass != classIN { // CHAOS and the like: servers tell their version there
		return q.refuse(out, rcodeRefused), true
	}
	if f := d.find(q.name); f.entry != nil {
		return d.known(q, out, &f), true
	}
	if out, ok := d.service(q, out); ok {
		return out, true
	}
	if p, exact, ok := reverse(q.name); ok {
		if exact && p.IsSingleIP() {
			return d.pointer(q, out, p.Addr())
		}
		if d.forward == nil || d.within(p) {
			return q.refuse(out, rcodeNXDomain), true
		}
		return out, false
	}
	switch {
	case ends(q.name, wireLocalhost): // RFC 6761 6.3
		a, aaaa := answers([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
		e := &entry{a: a, aaaa: aaaa}
		return d.known(q, out, &found{entry: e, a: e, aaaa: e}), true
	case d.forward == nil, ends(q.name, wireDockerInternal):
		return q.refuse(out, rcodeNXDomain), true
	case bare(q) == 1 && q.qtype != typeDS && q.qtype != typeDNSKEY:
		// Nobody's name but one of a container that is not there: not for others'
		// ears. DS and DNSKEY are what a validating resolver in the container asks
		// of real top-level domains.
		return q.refuse(out, rcodeNXDomain), true
	case private(q.name):
		return q.refuse(out, rcodeNXDomain), true
	}
	return out, false
}

// bare is how many labels a name has without those in front that make it a service's.
func bare(q *query) int {
	n := q.labels
	for name := q.name; len(name) > 1 && name[1] == '_' && n > 1; name = name[1+name[0]:] {
		n--
	}
	return n
}

// private says whether a name ends as no name of the world does: top-level domains
// have no underscore, networks of Compose projects do (project_default).
func private(name []byte) bool {
	last := name
	for len(name) > 0 {
		last = name
		name = name[1+name[0]:]
	}
	return bytes.IndexByte(last, '_') >= 0
}

// known answers for a name of ours: with what there is of the type, which may be
// nothing.
func (d *viewData) known(q *query, out []byte, f *found) []byte {
	var e *entry
	var rrs []byte
	size, turn := 0, 0
	switch {
	case q.qtype == typeA && f.a != nil:
		e, rrs, size = f.a, f.a.a, aLen
	case q.qtype == typeAAAA && f.aaaa != nil:
		e, rrs, size, turn = f.aaaa, f.aaaa.aaaa, aaaaLen, 1
	default:
		return q.refuse(out, rcodeSuccess)
	}
	base := len(out)
	out = q.appendHeader(out, q.answerFlags(rcodeSuccess))
	n := len(rrs) / size
	room := q.limit - (len(out) - base)
	if q.edns {
		room -= optLen
	}
	fit := min(n, room/size)
	if n == 1 {
		out = append(out, rrs...)
	} else {
		// All of them, each query beginning with the next: clients take the first.
		at := int(e.turns[turn].Add(1)-1) % n * size
		turned := append(append(out, rrs[at:]...), rrs[:at]...)
		out = turned[:len(out)+fit*size]
	}
	if fit < n {
		out[base+2] |= flagTC >> 8
	}
	put16(out[base+6:], fit)
	if q.edns {
		out[base+11] = 1
		out = appendOPT(out, rcodeSuccess, q.do)
	}
	return out
}

// pointer answers who has an address.
func (d *viewData) pointer(q *query, out []byte, a netip.Addr) ([]byte, bool) {
	f := d.address(a)
	if f.entry == nil {
		if d.ours(a) || a.IsLoopback() || a.IsUnspecified() || d.forward == nil {
			return q.refuse(out, rcodeNXDomain), true
		}
		return out, false
	}
	if q.qtype != typePTR {
		return q.refuse(out, rcodeSuccess), true
	}
	base := len(out)
	out = q.appendHeader(out, q.answerFlags(rcodeSuccess))
	n := 0
	for _, r := range f.entry.recs {
		name, ok := r.first()
		if !ok {
			continue
		}
		if len(name)+len(f.zone.name) < maxName {
			name += f.zone.name
		}
		if len(out)-base+12+len(name)+1+optLen > q.limit {
			break
		}
		out = append(out, 0xc0, headerLen, 0, typePTR, 0, classIN, 0, 0, 0, ttl, 0, byte(len(name)+1))
		out = append(append(out, name...), 0)
		n++
	}
	put16(out[base+6:], n)
	return q.closeOPT(out, base), true
}

func (q *query) closeOPT(out []byte, base int) []byte {
	if q.edns {
		n := int(out[base+10])<<8 + int(out[base+11]) + 1
		put16(out[base+10:], n)
		out = appendOPT(out, rcodeSuccess, q.do)
	}
	return out
}

// first is a record's first name that can be on the wire.
func (r *rec) first() (string, bool) {
	for _, n := range r.Names {
		if w, ok := wireName(n); ok {
			return w, true
		}
	}
	return "", false
}

// service answers _port._proto.name (RFC 2782) from the ports that containers
// expose. Names of ours that have no such port are known all the same.
func (d *viewData) service(q *query, out []byte) ([]byte, bool) {
	if q.labels < 3 || q.name[1] != '_' {
		return out, false
	}
	port, rest := q.name[1:1+q.name[0]], q.name[1+q.name[0]:]
	proto, name := rest[1:1+rest[0]], rest[1+rest[0]:]
	if len(port) < 2 || len(proto) < 2 || port[0] != '_' || proto[0] != '_' {
		return out, false
	}
	f := d.find(name)
	if f.entry == nil {
		return out, false
	}
	want, err := strconv.ParseUint(string(port[1:]), 10, 16)
	if err != nil || q.qtype != typeSRV {
		return q.refuse(out, rcodeSuccess), true
	}
	base := len(out)
	out = q.appendHeader(out, q.answerFlags(rcodeSuccess))
	// The target is the name as it was asked: a pointer to the question's third
	// label. RFC 2782 forbids compression there, so it is written out.
	at := headerLen + 1 + len(port) + 1 + len(proto)
	asked := q.msg[at : q.end-4]
	n, more := 0, 0
	if exposes(f.entry, uint16(want), string(proto[1:])) {
		out = append(out, 0xc0, headerLen, 0, typeSRV, 0, classIN, 0, 0, 0, ttl)
		out = append(out, byte((6+len(asked))>>8), byte(6+len(asked)), 0, 0, 0, 0, byte(want>>8), byte(want))
		out = append(out, asked...)
		n = 1
		// Addresses, so that nobody needs to ask for them (their owner is the
		// target's name within the question).
		room := q.limit - optLen
		for _, rr := range additional(&f) {
			if len(out)-base+len(rr) > room {
				break
			}
			out = append(out, rr...)
			out[len(out)-len(rr)+1] = byte(at)
			more++
		}
	}
	put16(out[base+6:], n)
	put16(out[base+10:], more)
	return q.closeOPT(out, base), true
}

// additional are the address records of a name, one by one.
func additional(f *found) (rrs [][]byte) {
	if f.a != nil {
		for b := f.a.a; len(b) > 0; b = b[aLen:] {
			rrs = append(rrs, b[:aLen])
		}
	}
	if f.aaaa != nil {
		for b := f.aaaa.aaaa; len(b) > 0; b = b[aaaaLen:] {
			rrs = append(rrs, b[:aaaaLen])
		}
	}
	return rrs
}

func exposes(e *entry, port uint16, proto string) bool {
	for _, r := range e.recs {
		for _, p := range r.Ports {
			number, of, found := strings.Cut(p, "/")
			if !found {
				of = "tcp"
			}
			if n, err := strconv.ParseUint(number, 10, 16); err == nil && uint16(n) == port && strings.EqualFold(of, proto) {
				return true
			}
		}
	}
	return false
}
