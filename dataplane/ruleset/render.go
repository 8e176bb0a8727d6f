package ruleset

// Text is the rule as nft would write it.
func (r *Rule) Text() string { return "…" }
