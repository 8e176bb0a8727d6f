package dns

import (
	"encoding/binary"
	"errors"
	"time"
)

// message is an upstream's answer, without its OPT record.
type message struct {
	wire  []byte
	ttls  []uint16 // where the TTLs are
	rcode int
	ad    bool
	// answers says whether there is one; else the name or the type does not exist.
	answers bool
	// life is how long it may be kept; 0: not at all.
	life time.Duration
	cut  bool // TC
}

const (
	maxLife = 24 * time.Hour
	// maxNegativeLife is less than the hours that RFC 2308 5 would allow: who just
	// made the name should not wait for it.
	maxNegativeLife = 5 * time.Minute
	// stubLife is for answers of a server on the loopback, such as systemd-resolved:
	// it keeps them itself, and knows when a VPN or another network makes them wrong,
	// which resolv.conf does not tell.
	stubLife = 5 * time.Second
)

var errMalformed = errors.New("malformed answer")

// readMessage checks an answer's form and finds what keeping it needs. wire is kept.
func readMessage(wire []byte, questionEnd int) (*message, error) {
	flags := binary.BigEndian.Uint16(wire[2:])
	m := &message{rcode: int(flags & rcodeMask), ad: flags&flagAD != 0, cut: flags&flagTC != 0}
	i := questionEnd
	var least uint32 = 1<<32 - 1
	bounded, soa, options := false, false, -1
	for section := range 3 {
		n := int(binary.BigEndian.Uint16(wire[6+2*section:]))
		if section == 0 {
			m.answers = n > 0
		}
		for range n {
			start := i
			end, ok := skipName(wire, i)
			if !ok || end+10 > len(wire) {
				return m.truncated(wire, questionEnd)
			}
			rtype := binary.BigEndian.Uint16(wire[end:])
			i = end + 10 + int(binary.BigEndian.Uint16(wire[end+8:]))
			if i > len(wire) {
				return m.truncated(wire, questionEnd)
			}
			if rtype == typeOPT {
				if section != 2 || options >= 0 {
					return nil, errMalformed
				}
				options = start
				m.rcode |= int(wire[end+4]) << 4
				continue
			}
			if options >= 0 {
				break // OPT and all behind it go: to move records would break what points at names in them
			}
			ttl := binary.BigEndian.Uint32(wire[end+4:])
			if ttl > 1<<31-1 { // RFC 2181 8
				ttl = 0
				binary.BigEndian.PutUint32(wire[end+4:], 0)
			}
			m.ttls = append(m.ttls, uint16(end+4))
			if section == 1 && rtype == typeSOA && i-end-10 >= 4 {
				soa = true
				if last := binary.BigEndian.Uint32(wire[i-4:]); last < ttl { // RFC 2308 5
					ttl = last
					binary.BigEndian.PutUint32(wire[end+4:], ttl)
				}
			}
			if section < 2 && ttl < least {
				least, bounded = ttl, true
			}
		}
	}
	if options >= 0 {
		i = options
		put16(wire[10:], len(m.ttls)-int(binary.BigEndian.Uint16(wire[6:]))-int(binary.BigEndian.Uint16(wire[8:])))
	}
	m.wire = wire[:i]
	negative := m.rcode == rcodeNXDomain || !m.answers
	switch {
	case m.cut || m.rcode != rcodeSuccess && m.rcode != rcodeNXDomain || !bounded:
	case negative && !soa: // RFC 2308 5: not without an SOA
	case negative:
		m.life = min(time.Duration(least)*time.Second, maxNegativeLife)
	default:
		m.life = min(time.Duration(least)*time.Second, maxLife)
	}
	return m, nil
}

// truncated is what there is of an answer that ends within a record: nothing, but
// that there is more, if it says so itself.
func (m *message) truncated(wire []byte, questionEnd int) (*message, error) {
	if !m.cut {
		return nil, errMalformed
	}
	clear(wire[6:headerLen])
	m.wire, m.ttls, m.answers = wire[:questionEnd], nil, false
	return m, nil
}

// failure is an answer of our own: nobody could be asked.
func failure(q *query, rcode int) *message {
	w := make([]byte, headerLen, headerLen+len(q.name)+5)
	w[5] = 1
	w = append(append(w, q.name...), 0, byte(q.qtype>>8), byte(q.qtype), 0, classIN)
	return &message{wire: w, rcode: rcode}
}

// appendTo makes the answer for one client: age is how long the message was kept;
// fixed, when not 0, is the TTL instead of what is left.
func (m *message) appendTo(out []byte, q *query, age time.Duration, fixed uint32, why *reason) []byte {
	base := len(out)
	flags := flagQR | flagRA | q.flags&(flagRD|flagCD) | uint16(m.rcode&rcodeMask)
	if m.ad && (q.do || q.flags&flagAD != 0) { // RFC 6840 5.8
		flags |= flagAD
	}
	opt := 0
	if q.edns {
		opt = optLen + why.len()
	}
	if len(m.wire)+opt > q.limit {
		return q.cutShort(out, flags, m.rcode)
	}
	if m.cut {
		flags |= flagTC
	}
	out = append(out, m.wire...)
	w := out[base:]
	put16(w, int(q.id))
	put16(w[2:], int(flags))
	copy(w[headerLen:q.end], q.msg[headerLen:q.end]) // in the letters in which it was asked
	if gone := uint32(age / time.Second); gone > 0 || fixed > 0 {
		for _, at := range m.ttls {
			ttl := binary.BigEndian.Uint32(w[at:])
			switch {
			case fixed > 0:
				ttl = fixed
			case ttl > gone:
				ttl -= gone
			default:
				ttl = 0
			}
			binary.BigEndian.PutUint32(w[at:], ttl)
		}
	}
	if q.edns {
		put16(w[10:], int(binary.BigEndian.Uint16(w[10:]))+1)
		out = why.appendTo(appendOPT(out, m.rcode, q.do))
	}
	return out
}

// cutShort says that the answer does not fit.
func (q *query) cutShort(out []byte, flags uint16, rcode int) []byte {
	base := len(out)
	out = q.appendHeader(out, flags|flagTC)
	if q.edns {
		out[base+11] = 1
		out = appendOPT(out, rcode, q.do)
	}
	return out
}

// reason is an extended error (RFC 8914): why an answer is what it is, for people
// who look with dig. Nil: none.
type reason struct {
	code uint16
	text string
}

const (
	reasonStale       = 3
	reasonUnreachable = 22
	reasonNetwork     = 23
)

func (r *reason) len() int {
	if r == nil {
		return 0
	}
	return 6 + len(r.text)
}

// appendTo adds the option to an OPT record that ends out.
func (r *reason) appendTo(out []byte) []byte {
	if r == nil {
		return out
	}
	put16(out[len(out)-2:], r.len())
	return append(append(out, 0, 15, byte((2+len(r.text))>>8), byte(2+len(r.text)), byte(r.code>>8), byte(r.code)), r.text...)
}
