package check

import (
	"os"
	"strconv"
	"strings"
)

// badChecksums counts the packets that this host's kernel threw away because their
// checksum was wrong (/proc/net/snmp and snmp6, InCsumErrors of UDP and TCP).
func badChecksums(in func(func() error) error) (n uint64) {
	in(func() error {
		// Of the thread: a host's, also where that is a namespace.
		for _, f := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"} {
			if b, err := os.ReadFile(f); err == nil {
				n += sumChecksums(string(b))
			}
		}
		return nil
	})
	return n
}

// sumChecksums reads both forms: snmp has a line of names and one of values for each
// protocol, snmp6 a name and a value in each line.
func sumChecksums(text string) (n uint64) {
	names := map[string][]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 2 && (f[0] == "Udp6InCsumErrors" || f[0] == "Tcp6InCsumErrors") {
			v, _ := strconv.ParseUint(f[1], 10, 64)
			n += v
		}
		if len(f) < 2 || f[0] != "Udp:" && f[0] != "Tcp:" {
			continue
		}
		head, seen := names[f[0]]
		if !seen {
			names[f[0]] = f
			continue
		}
		for i, name := range head {
			if name == "InCsumErrors" && i < len(f) {
				v, _ := strconv.ParseUint(f[i], 10, 64)
				n += v
			}
		}
	}
	return n
}
