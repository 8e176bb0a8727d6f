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

// reverse is the address that a name below in-addr.arpa or ip6.arpa asks about.
func reverse(name []byte) (netip.Addr, bool) {
	if n, ok := cut(name, wireInAddrArpa); ok {
		var a [4]byte
		i := 4
		for len(n) > 0 {
			l := int(n[0])
			if i == 0 || l > 3 {
				return netip.Addr{}, false
			}
			v := 0
			for _, c := range n[1 : 1+l] {
				if c < '0' || c > '9' {
					return netip.Addr{}, false
				}
				v = v*10 + int(c-'0')
			}
			if v > 255 || l > 1 && n[1] == '0' {
				return netip.Addr{}, false
			}
			i--
			a[i] = byte(v)
			n = n[1+l:]
		}
		return netip.AddrFrom4(a), i == 0
	}
	n, ok := cut(name, wireIP6Arpa)
	if !ok || len(n) != 64 {
		return netip.Addr{}, false
	}
	var a [16]byte
	for i := range 32 {
		c := n[2*i+1]
		switch {
		case n[2*i] != 1:
			return netip.Addr{}, false
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return netip.Addr{}, false
		}
		a[15-i/2] |= c << (4 * (i & 1))
	}
	return netip.AddrFrom16(a), true
}
