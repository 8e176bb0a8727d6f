package why

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes a line for each, and below it what is special.
func (e *Exposed) WriteText(out io.Writer) error {
	var b strings.Builder
	if len(e.Ports) == 0 {
		b.WriteString("Nothing is reached from outside: no port is published but on loopback, and no network is open to routing.\n")
	}
	open := 0
	for _, x := range e.Ports {
		to := x.To
		if to == "" {
			to = "every port"
		}
		fmt.Fprintf(&b, "%-7s %s -> %s of %s\n", x.State, x.At, to, x.Container)
		fmt.Fprintf(&b, "        for %s, through %s\n", x.By, x.Through)
		if x.Why != "" {
			wrap(&b, "        ", "        ", x.Why)
		}
		if x.State == "open" {
			open++
		}
		if x.Despite != nil {
			owner := x.Despite.Owner
			if owner == "" {
				owner = "the host's firewall"
			}
			wrap(&b, "        ! ", "          ", fmt.Sprintf("%s would refuse this port if it were the host's own (table %s %s, chain %s: %s); published ports do not pass its input chain.",
				owner, x.Despite.Family, x.Despite.Table, x.Despite.Chain, x.Despite.Text))
		}
	}
	for _, n := range e.Notes {
		wrap(&b, "Note: ", "  ", n+".")
	}
	if len(e.Ports) > 0 {
		fmt.Fprintf(&b, "\n%d of %d open, %.0f ms\n", open, len(e.Ports), max(e.TookMS, 1))
	}
	_, err := io.WriteString(out, b.String())
	return err
}
