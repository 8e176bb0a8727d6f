package dns

import (
	"net/netip"
	"strings"
)

// wireName is a name as it is on the wire, without the root's zero, as written.
// Names that cannot be on the wire give false.
func wireName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName-2 {
		return "", false
	}
	b := make([]byte, 0, len(name)+1)
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", false
		}
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return string(b), true
}

// key is what a name is found by: on the wire, in lower case.
func key(name string) (string, bool) {
	w, ok := wireName(name)
	return lower(w), ok
}

// lower folds the 26 letters only: names on the wire are bytes (RFC 4343).
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c-'A' < 26 {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// addrKey is what an address is found by, beside the names: no name starts with 0.
func addrKey(a netip.Addr) string {
	var b [17]byte
	return string(putAddrKey(&b, a))
}

func putAddrKey(b *[17]byte, a netip.Addr) []byte {
	s := a.As16()
	b[0] = 0
	copy(b[1:], s[:])
	return b[:]
}

// cut takes a suffix off a name at a label's border; what is left is not empty.
func cut(name []byte, suffix string) ([]byte, bool) {
	n := len(name) - len(suffix)
	if n <= 0 || string(name[n:]) != suffix {
		return nil, false
	}
	for i := 0; i <= n; i += 1 + int(name[i]) {
		if i == n {
			return name[:n], true
		}
	}
	return nil, false
}

// ends says whether a name is the suffix or below it.
func ends(name []byte, suffix string) bool {
	if string(name) == suffix {
		return true
	}
	_, ok := cut(name, suffix)
	return ok
}

// Suffixes that are ours or nobody's, on the wire.
const (
	wireLocalhost      = "\x09localhost"
	wireDockerInternal = "\x06docker\x08internal"
	wireInAddrArpa     = "\x07in-addr\x04arpa"
	wireIP6Arpa        = "\x03ip6\x04arpa"
)

// reverse reads a name below in-addr.arpa or ip6.arpa: the addresses it is about,
// and whether it is just their name (not one below it, as in DNS-SD: RFC 6763 11).
func reverse(name []byte) (p netip.Prefix, exact, ok bool) {
	var a [16]byte
	size, unit, each := 16, 4, nibble
	n, ok := cut(name, wireIP6Arpa)
	if !ok {
		if n, ok = cut(name, wireInAddrArpa); !ok {
			return p, false, false
		}
		size, unit, each = 4, 8, octet
	}
	// Labels are read from the right, and found from the left.
	var starts [maxName]uint8
	labels := 0
	for i := 0; i < len(n); i += 1 + int(n[i]) {
		starts[labels] = uint8(i)
		labels++
	}
	bits := 0
	for labels > 0 && bits < 8*size {
		label := n[starts[labels-1]:]
		v, ok := each(label[1 : 1+label[0]])
		if !ok {
			break
		}
		a[bits/8] |= v << (8 - unit - bits%8)
		bits += unit
		labels--
	}
	if bits == 0 {
		return p, false, false
	}
	addr := netip.AddrFrom16(a)
	if size == 4 {
		addr = netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.PrefixFrom(addr, bits), labels == 0, true
}

// octet is a label of in-addr.arpa.
func octet(label []byte) (v byte, ok bool) {
	n := 0
	for _, c := range label {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return byte(n), len(label) <= 3 && n <= 255 && (len(label) == 1 || label[0] != '0')
}

// nibble is a label of ip6.arpa.
func nibble(label []byte) (v byte, ok bool) {
	if len(label) != 1 {
		return 0, false
	}
	switch c := label[0]; {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
