package dns

import "encoding/binary"

// Bits of the second 16-bit word of a message's header (RFC 1035 4.1.1, RFC 4035).
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeMask = 0xf << 11
	rcodeMask  = 0xf
)

// Types, classes and codes that are looked at.
const (
	typeA      = 1
	typeSOA    = 6
	typePTR    = 12
	typeAAAA   = 28
	typeSRV    = 33
	typeOPT    = 41
	typeDS     = 43
	typeRRSIG  = 46
	typeDNSKEY = 48

	classIN = 1

	rcodeSuccess  = 0
	rcodeFormat   = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16

	// drop is not a code: nothing is answered.
	drop = -1
)

const (
	headerLen = 12
	// maxName is the longest name on the wire (RFC 1035 3.1).
	maxName = 255
	// plainSize is what a client without EDNS takes over UDP (RFC 1035 4.2.1).
	plainSize = 512
	// ednsSize is what we take (DNS flag day 2020: no fragments on any path).
	ednsSize = 1232
	// maxUDP bounds what we send over UDP. It goes over the sandbox's loopback
	// only, so that what the client says it takes may well be more than 1232.
	maxUDP = 4096
	maxTCP = 65535
)

// query is one question, read in place. It is used again for the next.
type query struct {
	msg    []byte // as received; not kept
	id     uint16
	flags  uint16
	end    int // of the question section
	qtype  uint16
	qclass uint16
	labels int
	edns   bool
	do     bool // the client wants DNSSEC records
	limit  int  // how long the answer may be
	// name is the question's on the wire in lower case without the root's zero, so
	// that a part of it is a prefix or a suffix of its bytes.
	name []byte
	buf  [maxName + 1]byte
}

// parse reads a message. It answers 0, the code to answer with, or drop.
func (q *query) parse(msg []byte, tcp bool) int {
	if len(msg) < headerLen {
		return drop
	}
	q.msg, q.end, q.edns, q.do, q.limit = msg, headerLen, false, false, plainSize
	if tcp {
		q.limit = maxTCP
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.flags = binary.BigEndian.Uint16(msg[2:])
	switch {
	case q.flags&flagQR != 0:
		return drop // an answer to a question that nobody asked: two servers could go on for ever
	case q.flags&opcodeMask != 0:
		return rcodeNotImp
	case binary.BigEndian.Uint16(msg[4:]) != 1: // RFC 9619: exactly one question
		return rcodeFormat
	case binary.BigEndian.Uint32(msg[6:]) != 0:
		return rcodeFormat
	}
	i, n := headerLen, 0
	q.labels = 0
	for {
		if i >= len(msg) {
			return rcodeFormat
		}
		l := int(msg[i])
		if l == 0 {
			i++
			break
		}
		// 0xc0 would be a pointer: there is nothing before this to point at.
		if l > 63 || i+1+l > len(msg) || n+1+l > maxName-1 {
			return rcodeFormat
		}
		// The length is below 'A', so that lowering it with the rest is harmless.
		for _, c := range msg[i : i+1+l] {
			if c-'A' < 26 {
				c += 'a' - 'A'
			}
			q.buf[n] = c
			n++
		}
		i += 1 + l
		q.labels++
	}
	q.name = q.buf[:n]
	if i+4 > len(msg) {
		return rcodeFormat
	}
	q.qtype = binary.BigEndian.Uint16(msg[i:])
	q.qclass = binary.BigEndian.Uint16(msg[i+2:])
	q.end = i + 4
	return q.options(int(binary.BigEndian.Uint16(msg[10:])), tcp)
}

// options reads the n additional records, of which only OPT (RFC 6891) counts.
func (q *query) options(n int, tcp bool) int {
	msg, i := q.msg, q.end
	for range n {
		end, ok := skipName(msg, i)
		if !ok || end+10 > len(msg) {
			return rcodeFormat
		}
		rdata := end + 10 + int(binary.BigEndian.Uint16(msg[end+8:]))
		if rdata > len(msg) {
			return rcodeFormat
		}
		if binary.BigEndian.Uint16(msg[end:]) == typeOPT {
			if q.edns || end != i+1 { // a second one; not at the root
				return rcodeFormat
			}
			q.edns = true
			q.do = msg[end+6]&0x80 != 0
			if !tcp {
				q.limit = min(max(int(binary.BigEndian.Uint16(msg[end+2:])), plainSize), maxUDP)
			}
			if msg[end+5] != 0 {
				return rcodeBadVers
			}
		}
		i = rdata
	}
	return rcodeSuccess
}

// skipName is where the name at i ends in a message, compressed or not.
func skipName(msg []byte, i int) (int, bool) {
	for i < len(msg) {
		switch l := int(msg[i]); {
		case l == 0:
			return i + 1, true
		case l >= 0xc0:
			return i + 2, i+2 <= len(msg)
		case l > 63:
			return 0, false
		default:
			i += 1 + l
		}
	}
	return 0, false
}

// appendHeader starts an answer with the header and the question as it was asked.
// Counts are set by finish.
func (q *query) appendHeader(out []byte, flags uint16) []byte {
	out = append(out, byte(q.id>>8), byte(q.id), byte(flags>>8), byte(flags), 0, 0, 0, 0, 0, 0, 0, 0)
	if q.end > headerLen {
		out[5] = 1
		out = append(out, q.msg[headerLen:q.end]...)
	}
	return out
}

// answerFlags are those of an answer of our own.
func (q *query) answerFlags(rcode int) uint16 {
	return flagQR | flagAA | flagRA | q.flags&(flagRD|flagCD) | uint16(rcode&rcodeMask)
}

// appendOPT adds our own OPT record; the header's count is the caller's.
func appendOPT(out []byte, rcode int, do bool) []byte {
	var d byte
	if do {
		d = 0x80
	}
	return append(out, 0, 0, typeOPT, ednsSize>>8, ednsSize&0xff, byte(rcode>>4), 0, d, 0, 0, 0)
}

const optLen = 11

// refuse is an answer without records.
func (q *query) refuse(out []byte, rcode int) []byte {
	flags := q.answerFlags(rcode)
	switch rcode {
	case rcodeNXDomain, rcodeSuccess:
	default:
		flags &^= flagAA
		flags |= q.flags & opcodeMask
	}
	out = q.appendHeader(out, flags)
	if q.edns {
		out[11] = 1
		out = appendOPT(out, rcode, q.do)
	}
	return out
}

// put16 writes a number of two bytes.
func put16(b []byte, n int) { b[0], b[1] = byte(n>>8), byte(n) }
