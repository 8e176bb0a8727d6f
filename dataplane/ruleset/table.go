package ruleset

// Table is one nftables table.
type Table struct {
	Family string `json:"family"` // "inet", "ip", "ip6", "bridge", "netdev", "arp"
	Name   string `json:"name"`
}
