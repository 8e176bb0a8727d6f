package rules

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// most is how many elements of one set are written for people; --json has all.
const most = 40

// WriteText writes the page for a person: what varies first, then the rules.
func (p *Page) WriteText(w io.Writer) error {
	var b strings.Builder
	n := 0
	for _, c := range p.Chains {
		n += len(c.Rules)
	}
	state := map[string]string{"there": ", live and whole", "missing": ": NOT IN THE KERNEL (`linkspan reconcile`)",
		"different": ": the kernel's DIFFERS (`linkspan reconcile`)"}[p.Live]
	if p.Missing > 0 {
		state += fmt.Sprintf("; %d elements are not as declared (`linkspan reconcile`)", p.Missing)
	}
	fmt.Fprintf(&b, "table %s %s%s\n%d rules in %d chains, which never change; what varies are the elements.\n", p.Family, p.Table, state, n, len(p.Chains))
	b.WriteString("\nELEMENTS (sets that are empty are left out)\n")
	for _, s := range p.Sets {
		s.write(&b)
	}
	b.WriteString("\nRULES\n")
	var drops []Chain
	for _, c := range p.Chains {
		if c.Drop != nil {
			drops = append(drops, c)
			continue
		}
		c.write(&b)
	}
	if len(drops) > 0 {
		b.WriteString("\nDROPS (chains that log at a limited rate, count, and drop; `linkspan drops` tells which packets)\n")
		for _, c := range drops {
			c.writeDrop(&b)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Set) write(b *strings.Builder) {
	if len(s.Elements) == 0 {
		return
	}
	fmt.Fprintf(b, "  %s\n", s.Name)
	if s.About != "" {
		wrap(b, "      # ", s.About)
	}
	wide := 0
	for _, e := range s.Elements {
		wide = max(wide, utf8.RuneCountInString(e.Text))
	}
	wide = min(wide, 56)
	for i, e := range s.Elements {
		if i == most {
			fmt.Fprintf(b, "    … and %d more (--json has all)\n", len(s.Elements)-most)
			break
		}
		mark := "    "
		if e.Missing {
			mark = "  - "
		}
		line := mark + e.Text
		if e.Who != "" {
			line += strings.Repeat(" ", max(0, wide-utf8.RuneCountInString(e.Text))) + "  " + e.Who
		}
		if e.Missing {
			line += "  MISSING"
		}
		b.WriteString(line + "\n")
	}
}

func (c *Chain) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s", c.Name)
	if c.Hook != "" {
		fmt.Fprintf(b, ": %s", c.Hook)
	}
	if c.Changed {
		b.WriteString("  CHANGED: the live chain has other rules (`linkspan reconcile`)")
	}
	b.WriteByte('\n')
	if c.About != "" {
		wrap(b, "      # ", c.About)
	}
	for _, r := range c.Rules {
		line := "    " + r.Text
		if r.Counted {
			line += fmt.Sprintf("  [%s]", counted(r))
		}
		b.WriteString(line + "\n")
		if r.Comment != "" {
			wrap(b, "      # ", r.Comment)
		}
	}
}

func (c *Chain) writeDrop(b *strings.Builder) {
	n := "not counted"
	for _, r := range c.Rules {
		if r.Counted {
			n = counted(r)
		}
	}
	if c.Changed {
		n = "CHANGED: the live chain has other rules (`linkspan reconcile`)"
	}
	fmt.Fprintf(b, "  %-14s %s\n", c.Drop.Name, n)
	wrap(b, "      # ", c.Drop.Why)
}

func counted(r Rule) string { return fmt.Sprintf("%d packets, %d bytes", r.Packets, r.Bytes) }

// wrap writes words in lines of a readable length, each with the same beginning.
func wrap(b *strings.Builder, begin, text string) {
	line := begin
	for i, w := range strings.Fields(text) {
		switch {
		case i > 0 && line != begin && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > 96:
			b.WriteString(line + "\n")
			line = begin + w
		case i > 0:
			line += " " + w
		default:
			line += w
		}
	}
	b.WriteString(line + "\n")
}
