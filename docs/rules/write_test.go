package rules

import (
	"fmt"
	"slices"
	"strings"
)

// pageText is the page once, without elements.
func pageText(s *state) string {
	return "# The page\n\n" + made +
		"Linkspan's whole firewall, as `nft list table` shows it. It is the same on every host: what varies are\nthe elements of its sets and maps. `linkspan rules` shows it with comments, names and counters.\n\n```\n" + s.rules + "\n```\n"
}

// page writes a scenario: what is new since before.
func (s *scenario) page(before, now *state, foreign string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n%s", s.title, s.about, made)
	if len(s.lines) > 0 {
		b.WriteString("## Typed\n\n```\n" + strings.Join(s.lines, "\n") + "\n```\n\n")
	}
	b.WriteString("## Declared\n\n")
	now.declared(&b, before)
	b.WriteString("## On the page\n\n")
	now.elements(&b, before)
	if foreign != "" {
		b.WriteString("## The host's own\n\n```\n" + strings.TrimSpace(foreign) + "\n```\n\n")
	}
	b.WriteString("## In the words of iptables\n\n")
	now.translated(&b, before)
	return strings.TrimSpace(b.String()) + "\n"
}

func (s *state) declared(b *strings.Builder, before *state) {
	known := map[string]bool{}
	for _, o := range before.objects {
		known[o.key+o.spec] = true
	}
	group, n := "", 0
	for _, o := range s.ordered() {
		if known[o.key+o.spec] {
			continue
		}
		if o.group != group {
			if group != "" {
				b.WriteString("```\n\n")
			}
			group = o.group
			fmt.Fprintf(b, "For %s:\n\n```\n", group)
		}
		line := o.key
		if o.spec != "" {
			line += ": " + o.spec
		}
		b.WriteString(s.plain(line) + "\n    # " + s.plain(o.why) + "\n")
		n++
	}
	if n == 0 {
		b.WriteString("Nothing.\n\n")
		return
	}
	b.WriteString("```\n\n")
}

// ordered are the objects with the routes of each owner by what the page calls them: the
// explanation has them by the ids that their names stand for.
func (s *state) ordered() []object {
	route := func(o object) bool { return strings.HasPrefix(o.key, "route ") }
	all := slices.Clone(s.objects)
	for from := 0; from < len(all); {
		to := from
		for to < len(all) && route(all[to]) && all[to].group == all[from].group {
			to++
		}
		slices.SortStableFunc(all[from:to], func(a, b object) int { return strings.Compare(s.plain(a.key), s.plain(b.key)) })
		from = max(to, from+1)
	}
	return all
}

// elements are those that were not there before, by set.
func (s *state) elements(b *strings.Builder, before *state) {
	had := map[string][]string{}
	for _, t := range before.sets {
		had[t.head] = t.elements
	}
	n := 0
	for _, t := range s.sets {
		if t.head == "map checksums" || strings.HasPrefix(t.head, "set page_") {
			continue // the page's seal
		}
		var more []string
		for _, e := range t.elements {
			if !slices.Contains(had[t.head], e) {
				more = append(more, e)
			}
		}
		if len(more) == 0 {
			continue
		}
		if n++; n == 1 {
			b.WriteString("```\n")
		}
		fmt.Fprintf(b, "%s {\n", t.head)
		for _, l := range t.lines {
			b.WriteString("\t" + l + "\n")
		}
		b.WriteString("\telements = { " + strings.Join(more, ",\n\t             ") + " }\n}\n")
	}
	if n == 0 {
		b.WriteString("Nothing.\n\n")
		return
	}
	b.WriteString("```\n\n")
}

// translated are the lines that were not there before.
func (s *state) translated(b *strings.Builder, before *state) {
	var out []string
	table := ""
	for _, l := range s.iptables {
		if strings.HasPrefix(l, "#") {
			table = l
			continue
		}
		if slices.Contains(before.iptables, l) {
			continue
		}
		if table != "" {
			out, table = append(out, table), ""
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		b.WriteString("Nothing.\n")
		return
	}
	b.WriteString("```\n" + strings.Join(out, "\n") + "\n```\n")
}
