package rules

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"linkspan/diagnose"
)

// Iptables is the page in the shape of iptables: tables of chains of rules, one set for
// IPv4 and one for IPv6. It is a translation: nothing of it is in the kernel, and where
// the two differ in shape, what a packet meets is the same.
type Iptables struct {
	Table    string   `json:"table"` // ours, of nftables
	Families []Family `json:"families"`
}

// Family is what one of iptables and ip6tables would show.
type Family struct {
	Command string     `json:"command"` // "iptables", "ip6tables"
	Tables  []IptTable `json:"tables"`
}

// IptTable is one of "raw", "nat" and "filter".
type IptTable struct {
	Name   string     `json:"name"`
	Chains []IptChain `json:"chains"`
}

// IptChain is one chain; Policy is "" for one that is not built in.
type IptChain struct {
	Name   string    `json:"name"`
	Policy string    `json:"policy,omitempty"`
	Rules  []IptRule `json:"rules,omitempty"`
}

// IptRule is one rule.
type IptRule struct {
	// Text is the rule as `iptables -S` writes it.
	Text   string       `json:"rule"`
	Src    netip.Prefix `json:"src,omitzero"` // unset: any
	Dst    netip.Prefix `json:"dst,omitzero"`
	NotDst bool         `json:"not_dst,omitempty"`
	In     string       `json:"in,omitempty"`
	Out    string       `json:"out,omitempty"`
	NotIn  bool         `json:"not_in,omitempty"`
	NotOut bool         `json:"not_out,omitempty"`
	Proto  string       `json:"proto,omitempty"`
	// Port is the destination's: "80", "20000:20031".
	Port    string  `json:"port,omitempty"`
	Matches []Match `json:"matches,omitempty"`
	Target  string  `json:"target"`
	// To is where DNAT and SNAT lead.
	To string `json:"to,omitempty"`
}

// Match is one of iptables' extensions: as -S and as -L write it.
type Match struct {
	Rule string `json:"rule"`
	List string `json:"list"`
}

var (
	local       = Match{"-m addrtype --dst-type LOCAL", "ADDRTYPE match dst-type LOCAL"}
	established = Match{"-m conntrack --ctstate RELATED,ESTABLISHED", "ctstate RELATED,ESTABLISHED"}
	translated  = Match{"-m conntrack --ctstate DNAT", "ctstate DNAT"}
	untouched   = Match{"-m conntrack ! --ctstate DNAT", "! ctstate DNAT"}
)

// AsIptables translates what is declared.
func AsIptables(ctx context.Context, w *diagnose.World) (*Iptables, error) {
	objs, err := w.Declared.Objects(ctx)
	if err != nil {
		return nil, err
	}
	t := &Iptables{Table: w.Table, Families: []Family{}}
	for _, v4 := range []bool{true, false} {
		if tr := newTranslation(objs, v4); v4 || tr.used() {
			t.Families = append(t.Families, tr.family())
		}
	}
	for i := range t.Families {
		for j := range t.Families[i].Tables {
			for k := range t.Families[i].Tables[j].Chains {
				c := &t.Families[i].Tables[j].Chains[k]
				for r := range c.Rules {
					c.Rules[r].Text = c.Rules[r].line(c.Name)
				}
			}
		}
	}
	return t, nil
}

// head marks what follows as what it is.
func (t *Iptables) head() string {
	return fmt.Sprintf(`# A translation: on this host Linkspan's rules are nftables', and iptables shows none.
# What is really there: linkspan rules, or nft list table inet %s
`, t.Table)
}

// WriteText writes it as `iptables -t nat -S` and its like do.
func (t *Iptables) WriteText(w io.Writer) error {
	return t.write(w, func(b *strings.Builder, f Family, tab IptTable) {
		fmt.Fprintf(b, "\n# %s -t %s -S\n", f.Command, tab.Name)
		for _, c := range tab.Chains {
			if c.Policy != "" {
				fmt.Fprintf(b, "-P %s %s\n", c.Name, c.Policy)
			}
		}
		for _, c := range tab.Chains {
			if c.Policy == "" {
				fmt.Fprintf(b, "-N %s\n", c.Name)
			}
		}
		tab.rules(b)
	})
}

// WriteSave writes it as iptables-save does, for iptables-restore to read.
func (t *Iptables) WriteSave(w io.Writer) error {
	return t.write(w, func(b *strings.Builder, f Family, tab IptTable) {
		fmt.Fprintf(b, "\n# %s-save -t %s\n*%[2]s\n", f.Command, tab.Name)
		for _, c := range tab.Chains {
			policy := c.Policy
			if policy == "" {
				policy = "-"
			}
			fmt.Fprintf(b, ":%s %s [0:0]\n", c.Name, policy)
		}
		tab.rules(b)
		b.WriteString("COMMIT\n")
	})
}

func (t *IptTable) rules(b *strings.Builder) {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			b.WriteString(r.Text + "\n")
		}
	}
}

// WriteList writes it as `iptables -nL` does.
func (t *Iptables) WriteList(w io.Writer) error {
	return t.write(w, func(b *strings.Builder, f Family, tab IptTable) {
		fmt.Fprintf(b, "\n# %s -t %s -nL\n", f.Command, tab.Name)
		for i, c := range tab.Chains {
			if i > 0 {
				b.WriteByte('\n')
			}
			if c.Policy != "" {
				fmt.Fprintf(b, "Chain %s (policy %s)\n", c.Name, c.Policy)
			} else {
				fmt.Fprintf(b, "Chain %s (%d references)\n", c.Name, tab.references(c.Name))
			}
			b.WriteString("target     prot opt source               destination         \n")
			for _, r := range c.Rules {
				b.WriteString(r.row(f.Command == "ip6tables") + "\n")
			}
		}
	})
}

func (t *IptTable) references(chain string) (n int) {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if r.Target == chain {
				n++
			}
		}
	}
	return n
}

func (t *Iptables) write(w io.Writer, each func(*strings.Builder, Family, IptTable)) error {
	var b strings.Builder
	b.WriteString(t.head())
	for _, f := range t.Families {
		for _, tab := range f.Tables {
			each(&b, f, tab)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// line is the rule as -S writes it.
func (r *IptRule) line(chain string) string {
	b := []string{"-A", chain}
	if r.Src.IsValid() {
		b = append(b, "-s", r.Src.String())
	}
	if r.Dst.IsValid() {
		if r.NotDst {
			b = append(b, "!")
		}
		b = append(b, "-d", r.Dst.String())
	}
	for _, i := range []struct {
		not        bool
		flag, name string
	}{{r.NotIn, "-i", r.In}, {r.NotOut, "-o", r.Out}} {
		if i.name == "" {
			continue
		}
		if i.not {
			b = append(b, "!")
		}
		b = append(b, i.flag, i.name)
	}
	if r.Proto != "" {
		b = append(b, "-p", r.Proto)
	}
	if r.Port != "" {
		b = append(b, "-m", r.Proto, "--dport", r.Port)
	}
	for _, m := range r.Matches {
		b = append(b, m.Rule)
	}
	b = append(b, "-j", r.Target)
	switch r.Target {
	case "DNAT":
		b = append(b, "--to-destination", r.To)
	case "SNAT":
		b = append(b, "--to-source", r.To)
	}
	return strings.Join(b, " ")
}

// row is the rule as -nL writes it. (Some versions of iptables write the protocol's
// number with -n; textbooks have its name.)
func (r *IptRule) row(six bool) string {
	proto, any, not := r.Proto, "0.0.0.0/0", " "
	if proto == "" {
		proto = "all"
	}
	if six {
		any = "::/0"
	}
	if r.NotDst {
		not = "!"
	}
	addr := func(p netip.Prefix) string {
		switch {
		case !p.IsValid():
			return any
		case p.IsSingleIP():
			return p.Addr().String()
		}
		return p.String()
	}
	line := fmt.Sprintf("%-9s  %-4s --  %-19s %s%-19s ", r.Target, proto, addr(r.Src), not, addr(r.Dst))
	if r.Port != "" {
		word := "dpt:"
		if strings.Contains(r.Port, ":") {
			word = "dpts:"
		}
		line += " " + r.Proto + " " + word + r.Port
	}
	for _, m := range r.Matches {
		line += " " + m.List
	}
	if r.To != "" {
		line += " to:" + r.To
	}
	return line
}
