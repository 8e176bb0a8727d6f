package check

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// A probe is a datagram:
//
//	bytes 0-3    "LSc1"
//	      4-11   the session, which the answering host gave out on TCP
//	      12-15  a number, counted by the prober
//	      16     what it is: probe or echo
//	      17-19  zero
//	      20-23  in an echo: how long the probe was
//	      24-39  half of an HMAC-SHA256 of all other bytes, with the session's key
//	      40-    a pattern that makes it as long as is wanted
const (
	magic   = "LSc1"
	sumAt   = 24
	header  = 40
	isProbe = 1
	isEcho  = 2
	keySize = 32
)

type packet struct {
	session uint64
	number  uint32
	kind    byte
	length  int // in an echo: of the probe
}

// seal makes a datagram of that many bytes, header at least.
func (p packet) seal(key []byte, size int) []byte {
	b := make([]byte, max(size, header))
	copy(b, magic)
	binary.BigEndian.PutUint64(b[4:], p.session)
	binary.BigEndian.PutUint32(b[12:], p.number)
	b[16] = p.kind
	binary.BigEndian.PutUint32(b[20:], uint32(p.length))
	for i := header; i < len(b); i++ {
		b[i] = byte(i * 31) // no run of zeros, in which a wrong checksum would not show
	}
	copy(b[sumAt:header], sum(key, b))
	return b
}

// sum is over all but itself.
func sum(key, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b[:sumAt])
	m.Write(b[header:])
	return m.Sum(nil)[:header-sumAt]
}

// peek reads a datagram's header; false: it is none of ours.
func peek(b []byte) (packet, bool) {
	if len(b) < header || string(b[:4]) != magic {
		return packet{}, false
	}
	return packet{session: binary.BigEndian.Uint64(b[4:]), number: binary.BigEndian.Uint32(b[12:]), kind: b[16],
		length: int(binary.BigEndian.Uint32(b[20:]))}, true
}

// sealed says whether all of a datagram is as it was sent.
func sealed(key, b []byte) bool { return hmac.Equal(b[sumAt:header], sum(key, b)) }
