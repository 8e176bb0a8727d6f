// Package rules is Linkspan's firewall for people: the page's rules with what they
// counted, the elements of its sets with the names of whom they are for, and the same
// in the shape of iptables, as every textbook shows it.
package rules

import (
	"context"
	"fmt"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

// Observer is who looks for objects in the live kernel; dataplane.Kernel does.
type Observer interface {
	ObserveKeys(ctx context.Context, want []dataplane.Object) (*dataplane.State, error)
}

// Page is the firewall.
type Page struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	// Live says whether the table in the kernel is the declared one: "there",
	// "missing", "different"; "" when nobody was asked.
	Live   string  `json:"live,omitempty"`
	Sets   []Set   `json:"sets"`
	Chains []Chain `json:"chains"`
	// Missing counts declared elements that the kernel does not have as declared.
	Missing int `json:"missing"`
}

// Set is one set or map of the page.
type Set struct {
	Name string `json:"name"`
	Map  bool   `json:"map,omitempty"`
	Type string `json:"type"`
	// About is what the page says of it.
	About    string    `json:"about,omitempty"`
	Elements []Element `json:"elements,omitempty"`
}

// Element is one entry.
type Element struct {
	// Text is as nft writes it: "tcp . 8080 : 172.17.0.2 . 80".
	Text string `json:"text"`
	// Who are the containers and networks that the addresses and devices in it are.
	Who    string `json:"who,omitempty"`
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Missing: the kernel does not have it, or has it otherwise.
	Missing bool `json:"missing,omitempty"`
}

// Chain is one chain of the page.
type Chain struct {
	Name string `json:"name"`
	// Family is that of its table where it is not inet: there is one for bridges with
	// tunnels.
	Family string `json:"family,omitempty"`
	family string
	// Hook is where the kernel starts it ("filter hook forward priority filter"); ""
	// for one that others jump to.
	Hook  string `json:"hook,omitempty"`
	About string `json:"about,omitempty"`
	// Drop is the rule by which this chain drops, if that is what it is for.
	Drop  *dataplane.DropRule `json:"drop,omitempty"`
	Rules []Rule              `json:"rules"`
	// Changed: the live chain does not have as many rules.
	Changed bool `json:"changed,omitempty"`
}

// Rule is one rule.
type Rule struct {
	Text    string `json:"text"`
	Comment string `json:"comment,omitempty"`
	// Packets and Bytes are the live counter's; Counted says that it has one.
	Counted bool   `json:"counted,omitempty"`
	Packets uint64 `json:"packets,omitempty"`
	Bytes   uint64 `json:"bytes,omitempty"`
}

// Of reads the declared page, and what the live kernel adds to it. see may be nil.
func Of(ctx context.Context, w *diagnose.World, see Observer) (*Page, error) {
	objs, err := w.Declared.Objects(ctx)
	if err != nil {
		return nil, err
	}
	p := &Page{Table: w.Table}
	names := namesOf(w, objs)
	var page []dataplane.Object // and its elements
	for _, o := range objs {
		switch o := o.(type) {
		case dataplane.Page:
			sets, chains := parse(o.Text)
			if o.Family == "inet" {
				p.Family, p.Table = o.Family, o.Table
			}
			for i := range chains {
				chains[i].family = o.Family
				if o.Family != "inet" {
					chains[i].Family = o.Family
				}
			}
			p.Sets, p.Chains = append(p.Sets, sets...), append(p.Chains, chains...)
			page = append(page, o)
		case dataplane.Element:
			page = append(page, o)
		}
	}
	differs, err := p.observe(ctx, see, page)
	if err != nil {
		return nil, err
	}
	for _, o := range page {
		if e, ok := o.(dataplane.Element); ok {
			p.add(e, names, differs[e.Key()])
		}
	}
	if w.Kernel == nil {
		return p, nil
	}
	rs, err := w.Kernel.Ruleset(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("the live ruleset: %w", err)
	}
	p.count(rs)
	return p, nil
}

// observe finds what of the page and its elements is not as declared.
func (p *Page) observe(ctx context.Context, see Observer, want []dataplane.Object) (map[string]bool, error) {
	differs := map[string]bool{}
	if see == nil {
		return differs, nil
	}
	have, err := see.ObserveKeys(ctx, want)
	if err != nil {
		return nil, err
	}
	p.Live = "there"
	for _, op := range diff.Compute(dataplane.NewState(want...), have).Ops {
		is, there := have.Get(op.Object.Key())
		if there && op.Object.Spec() == is.Spec() {
			continue // made anew with the table only
		}
		if _, ok := op.Object.(dataplane.Page); ok {
			p.Live = map[bool]string{true: "different", false: "missing"}[there]
			continue
		}
		differs[op.Object.Key()] = true
		p.Missing++
	}
	return differs, nil
}

func (p *Page) add(e dataplane.Element, n *names, missing bool) {
	for i := range p.Sets {
		if p.Sets[i].Name != e.Set {
			continue
		}
		text := e.KeyText
		if s := e.Spec(); s != "" {
			text += " : " + s
		}
		p.Sets[i].Elements = append(p.Sets[i].Elements, Element{Text: text, Who: n.who(e), Owner: e.Owner.String(), Reason: e.Reason, Missing: missing})
	}
}

// count joins the live counters, rule by rule: the page is loaded as it is written.
func (p *Page) count(rs *ruleset.Ruleset) {
	for _, t := range rs.Tables {
		if t.Name != p.Table {
			continue
		}
		for i := range p.Chains {
			c := &p.Chains[i]
			if c.family != t.Family {
				continue
			}
			live := t.Chain(c.Name)
			if c.Changed = live == nil || len(live.Rules) != len(c.Rules); c.Changed {
				continue
			}
			for j, r := range live.Rules {
				for _, x := range r.Exprs {
					if n, ok := x.(ruleset.Counter); ok {
						c.Rules[j].Counted, c.Rules[j].Packets, c.Rules[j].Bytes = true, n.Packets, n.Bytes
					}
				}
			}
		}
	}
}

// parse reads the page's text, which is ours: one set, chain or rule to a line, comments
// before what they are of.
func parse(text string) (sets []Set, chains []Chain) {
	var about []string
	var set *Set
	var chain *Chain
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "#":
			about = append(about, rest)
		case word == "table":
			about = nil
		case word == "set" || word == "map":
			sets = append(sets, Set{Name: strings.Fields(rest)[0], Map: word == "map", About: strings.Join(about, " ")})
			set, chain, about = &sets[len(sets)-1], nil, nil
		case word == "chain":
			name := strings.Fields(rest)[0]
			chains = append(chains, Chain{Name: name, About: strings.Join(about, " ")})
			set, chain, about = nil, &chains[len(chains)-1], nil
			if d, ok := dataplane.DropRuleOf(name); ok && d.Chain() == name {
				chain.Drop = &d
			}
		case line == "" || line == "}":
		case set != nil && (word == "type" || word == "typeof"):
			set.Type = rest
		case set != nil: // flags
			set.Type += " (" + strings.TrimPrefix(line, "flags ") + ")"
		case chain != nil && word == "type":
			hook, _, _ := strings.Cut(rest, ";")
			chain.Hook = hook
		case chain != nil:
			text, comment, _ := strings.Cut(line, ` comment "`)
			chain.Rules = append(chain.Rules, Rule{Text: text, Comment: strings.TrimSuffix(comment, `"`)})
		}
	}
	return sets, chains
}

// Damaged says that the kernel does not have the page as it is declared.
func (p *Page) Damaged() bool {
	for _, c := range p.Chains {
		if c.Changed {
			return true
		}
	}
	return p.Missing > 0 || p.Live == "missing" || p.Live == "different"
}
