// Package ruleset is a host's whole nftables ruleset as data, ours and everyone
// else's, and what it does with a packet. It is pure: dataplane/live reads the ruleset
// from a kernel, and this package follows a packet through it.
//
// What it does not understand it says: a rule with an expression that it cannot
// evaluate makes the verdict "unknown" where it could matter, and never a guess.
package ruleset

// Ruleset is what one network namespace has.
type Ruleset struct {
	// Tables in the kernel's order; those of legacy iptables come last.
	Tables []*Table `json:"tables"`
}

// Table finds one of nftables; nil when there is none.
func (r *Ruleset) Table(family, name string) *Table {
	for _, t := range r.Tables {
		if t.Family == family && t.Name == name && !t.Legacy {
			return t
		}
	}
	return nil
}
