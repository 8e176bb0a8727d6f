package publish

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Ephemeral are the ports given for "any free".
type Ephemeral struct {
	First, Last uint16
	// Reserved ports within are not given: an administrator keeps them for a
	// service (ip_local_reserved_ports).
	Reserved []Span
}

// Span is a range of ports, inclusive.
type Span struct{ First, Last uint16 }

func (e Ephemeral) size() int { return int(e.Last) - int(e.First) + 1 }

func (e Ephemeral) reserved(port uint16) bool {
	return slices.ContainsFunc(e.Reserved, func(s Span) bool { return s.First <= port && port <= s.Last })
}

// EphemeralPorts are the kernel's own, in the caller's network namespace, as in
// Docker; where they cannot be read, those of RFC 6335 (49152-65535).
func EphemeralPorts() Ephemeral { return ephemeralFrom("/proc/sys/net/ipv4/") }

func ephemeralFrom(dir string) Ephemeral {
	e := Ephemeral{First: 49152, Last: 65535}
	if text, err := os.ReadFile(dir + "ip_local_port_range"); err == nil {
		var first, last uint16
		if n, _ := fmt.Sscan(string(text), &first, &last); n == 2 && 0 < first && first <= last {
			e.First, e.Last = first, last
		}
	}
	// "8080,9148-9150", see Documentation/networking/ip-sysctl.rst
	if text, err := os.ReadFile(dir + "ip_local_reserved_ports"); err == nil {
		for field := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
			if b, err := parseBounds(field); err == nil {
				e.Reserved = append(e.Reserved, Span{b.first, b.last})
			}
		}
	}
	return e
}
