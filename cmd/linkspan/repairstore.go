package main

import (
	"fmt"
	"slices"

	"linkspan/daemon"
)

const repairStoreHelp = `Usage: linkspan doctor --repair-store [--json] [the daemon's flags]

Make a damaged state file (DATA-ROOT/linkspan.db) whole again: of all of its pages that
can be read, and, where they cannot, of the last good copy (linkspan.db.good). The
damaged file is kept beside, and what may be lost is told. A sound file is left alone.
Stop the daemon first: it is refused beside one.

      --json               Write the report as JSON
      --data-root string   Data root (default "/var/lib/linkspan")
      --exec-root string   Exec root (default "/run/linkspan")

Exit code: 0 it is sound, or all was saved; 2 something may be lost, and is named;
1 it was not repaired.

Example:

  # linkspan daemon
  level=ERROR msg="the daemon ends: state file /var/lib/linkspan/linkspan.db is damaged (page 9 is not as it was written) …"
  # linkspan doctor --repair-store
  /var/lib/linkspan/linkspan.db was damaged: page 9 is not as it was written.
  It is kept as /var/lib/linkspan/linkspan.db.damaged-20261121T114501.
  It was made anew with 41 records: 38 as they were last written, 3 of the good copy, 0 found beside.
`

// repairStore is `linkspan doctor --repair-store`; asked is false when that is not what
// the arguments say. It needs no daemon.
func repairStore(args []string) (code int, asked bool) {
	const flag = "--repair-store"
	if !slices.Contains(args, flag) {
		return 0, false
	}
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		fmt.Print(repairStoreHelp)
		return 0, true
	}
	asJSON := slices.Contains(args, "--json")
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == flag || a == "--json" })
	return daemon.RepairStore(daemon.Options{Version: buildVersion, Drivers: drivers()}, args, asJSON), true
}
