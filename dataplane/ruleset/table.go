package ruleset

import "time"

// Table is one nftables table, or one of legacy iptables.
type Table struct {
	Family string `json:"family"` // "inet", "ip", "ip6", "bridge", "netdev", "arp"
	Name   string `json:"name"`
	Handle uint64 `json:"handle,omitempty"`
	// Dormant tables are not asked by the kernel.
	Dormant bool `json:"dormant,omitempty"`
	// Legacy tables are iptables-legacy's, which `nft` does not show.
	Legacy  bool      `json:"legacy,omitempty"`
	Chains  []*Chain  `json:"chains,omitempty"`
	Sets    []*Set    `json:"sets,omitempty"`
	Objects []*Object `json:"objects,omitempty"`

	chains map[string]*Chain
	sets   map[string]*Set
}

// Chain is one chain. Hook is "" unless the kernel starts there.
type Chain struct {
	Name     string   `json:"name"`
	Handle   uint64   `json:"handle,omitempty"`
	Type     string   `json:"type,omitempty"` // "filter", "nat", "route"
	Hook     string   `json:"hook,omitempty"` // "prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"
	Priority int      `json:"priority,omitempty"`
	Policy   string   `json:"policy,omitempty"` // "accept", "drop"
	Devices  []string `json:"devices,omitempty"`
	Rules    []*Rule  `json:"rules,omitempty"`

	table *Table
}

// Rule is one rule. Text tells it as nft does.
type Rule struct {
	Handle  uint64 `json:"handle,omitempty"`
	Comment string `json:"comment,omitempty"`
	Exprs   []Expr `json:"-"`

	chain *Chain
}

// Object is a named counter, limit, quota, helper, ….
type Object struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Over: a limit or quota that matches what exceeds it.
	Over bool `json:"over,omitempty"`
}

// Set is a set or map. Elements are in the kernel's order.
type Set struct {
	Name      string        `json:"name"`
	Handle    uint64        `json:"handle,omitempty"`
	Anonymous bool          `json:"anonymous,omitempty"`
	Constant  bool          `json:"constant,omitempty"`
	Interval  bool          `json:"interval,omitempty"`
	Map       bool          `json:"map,omitempty"`
	Dynamic   bool          `json:"dynamic,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
	// KeyType and DataType are nft's numbers of types, six bits for each of a
	// concatenation; the lengths are in bytes.
	KeyType  uint32    `json:"key_type,omitempty"`
	DataType uint32    `json:"data_type,omitempty"`
	KeyLen   int       `json:"-"`
	DataLen  int       `json:"-"`
	Objects  bool      `json:"objects,omitempty"` // its data are names of objects
	HasTime  bool      `json:"-"`                 // elements may expire
	Elements []Element `json:"elements,omitempty"`
	Fields   []int     `json:"-"` // lengths of a concatenation's parts

	index *index
}

// Element is one of a set. Of an interval set the kernel keeps both ends as elements of
// their own: Last marks the one that is no longer inside. A concatenation of ranges has
// KeyEnd instead, which is inside.
type Element struct {
	Key     []byte        `json:"key,omitempty"`
	KeyEnd  []byte        `json:"key_end,omitempty"`
	Last    bool          `json:"last,omitempty"`
	Any     bool          `json:"any,omitempty"` // the catch-all, "*"
	Data    []byte        `json:"data,omitempty"`
	Verdict *Verdict      `json:"verdict,omitempty"`
	Object  string        `json:"object,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Expires time.Duration `json:"expires,omitempty"`
	Comment string        `json:"comment,omitempty"`
}

// Chain finds one; nil when there is none.
func (t *Table) Chain(name string) *Chain {
	if t.chains == nil {
		for _, c := range t.Chains {
			if c.Name == name {
				return c
			}
		}
	}
	return t.chains[name]
}

// Rule finds one by its handle; nil when there is none.
func (c *Chain) Rule(handle uint64) *Rule {
	for _, r := range c.Rules {
		if r.Handle == handle {
			return r
		}
	}
	return nil
}

// Rejects says whether it answers what it drops.
func (r *Rule) Rejects() bool {
	for _, e := range r.Exprs {
		if t, ok := e.(Target); ok && t.Name == "REJECT" {
			return true
		}
		if _, ok := e.(Reject); ok {
			return true
		}
	}
	return false
}

// Set finds one; nil when there is none.
func (t *Table) Set(name string) *Set {
	if t.sets == nil {
		for _, s := range t.Sets {
			if s.Name == name {
				return s
			}
		}
	}
	return t.sets[name]
}

func (t *Table) object(name string) *Object {
	for _, o := range t.Objects {
		if o.Name == name {
			return o
		}
	}
	return nil
}

// Link makes what belongs together know each other. Whoever builds a ruleset calls it
// last; then the ruleset is not changed any more, and may be read by many at once.
func (r *Ruleset) Link() {
	for _, t := range r.Tables {
		t.chains, t.sets = map[string]*Chain{}, map[string]*Set{}
		for _, c := range t.Chains {
			c.table = t
			t.chains[c.Name] = c
			for _, rule := range c.Rules {
				rule.chain = c
			}
		}
		for _, s := range t.Sets {
			s.index = newIndex(s)
			t.sets[s.Name] = s
		}
	}
}
