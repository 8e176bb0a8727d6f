// Package ruleset is a host's whole nftables ruleset as data, ours and everyone
// else's, and what it does with a packet. It is pure: dataplane/live reads the ruleset
// from a kernel, and this package follows a packet through it.
package ruleset

// Ruleset is what one network namespace has.
type Ruleset struct {
	// Tables in the kernel's order.
	Tables []*Table `json:"tables"`
}
