package dataplane

import (
	"fmt"
	"strconv"
	"strings"
)

// A real packet of `linkspan why --probe` is traced by a table of its own, family inet.
// It belongs to the probe's socket (NFT_TABLE_F_OWNER, Linux 5.12), so the kernel removes
// it when the process dies; on an older one a table of a process that is gone is a
// leftover.
const probePrefix = "linkspan_probe_"

// ProbeTable is the name of a probe's table: its process and source port tell it from
// other probes'.
func ProbeTable(pid int, port uint16) string { return fmt.Sprintf("%s%d_%d", probePrefix, pid, port) }

// ProbeOwner says whose a probe's table is; ok is false for other tables.
func ProbeOwner(table string) (pid int, ok bool) {
	rest, ok := strings.CutPrefix(table, probePrefix)
	if !ok {
		return 0, false
	}
	number, _, _ := strings.Cut(rest, "_")
	pid, err := strconv.Atoi(number)
	return pid, err == nil && pid > 0
}
