// Package manual writes man pages, in the macros of man(7), from a command tree, so
// that what `man linkspan-network-create` says is what the program takes.
package manual

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Source says what the pages belong to; it stands at the foot of each.
type Source struct {
	Version string
	// Title is the middle of the page's head, such as "Linkspan".
	Title string
	// Section of a command's page; nil: all are in section 1.
	Section func(*cobra.Command) string
}

func (s Source) section(c *cobra.Command) string {
	if s.Section == nil {
		return "1"
	}
	return s.Section(c)
}

// Name is the page of a command, without its section: linkspan-network-create.
func Name(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// Walk calls f for a command and all below it that a person can use.
func Walk(c *cobra.Command, f func(*cobra.Command) error) error {
	if err := f(c); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := Walk(sub, f); err != nil {
			return err
		}
	}
	return nil
}

// Page writes the page of one command.
func Page(w io.Writer, src Source, c *cobra.Command) error {
	p := &page{}
	p.head(src, Name(c), src.section(c), lower(c.Short))
	p.section("SYNOPSIS")
	p.line(".B " + escape(c.CommandPath()))
	p.text(strings.TrimSpace(strings.TrimPrefix(c.UseLine(), c.CommandPath())))
	p.section("DESCRIPTION")
	if c.Long != "" {
		p.text(c.Long)
	} else {
		p.text(c.Short + ".")
	}
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("GLOBAL OPTIONS", c.InheritedFlags())
	if subs := available(c); len(subs) > 0 {
		p.section("COMMANDS")
		for _, s := range subs {
			p.line(".TP", fmt.Sprintf(".BR %s (%s)", escape(Name(s)), src.section(s)))
			p.text(s.Short)
		}
	}
	if c.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(c.Example)
	}
	if c.HasParent() {
		p.section("SEE ALSO")
		p.line(fmt.Sprintf(".BR %s (%s)", escape(Name(c.Parent())), src.section(c.Parent())))
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// Plain writes a page whose body is a program's own help, as it prints it.
func Plain(w io.Writer, src Source, name, section, short, help string) error {
	p := &page{}
	p.head(src, name, section, lower(short))
	p.section("DESCRIPTION")
	p.verbatim(help)
	p.section("SEE ALSO")
	p.line(".BR linkspan (1)")
	_, err := io.WriteString(w, p.b.String())
	return err
}

func available(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(s *cobra.Command) bool {
		return !s.IsAvailableCommand() || s.IsAdditionalHelpTopicCommand()
	})
}

// lower begins a NAME line as man-pages(7) has it: no capital, no full stop.
func lower(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		s = string(s[0]-'A'+'a') + s[1:]
	}
	return s
}

type page struct{ b strings.Builder }

func (p *page) line(lines ...string) {
	for _, l := range lines {
		p.b.WriteString(l + "\n")
	}
}

// head has no date: the same source gives the same page.
func (p *page) head(src Source, name, section, short string) {
	p.line(fmt.Sprintf(`.TH "%s" "%s" "" "%s" "%s"`, escape(strings.ToUpper(name)), section, escape("linkspan "+src.Version), escape(src.Title)))
	p.line(".nh", ".ad l") // commands are not to be hyphenated nor stretched
	p.section("NAME")
	p.line(escape(name) + ` \- ` + escape(short))
}

func (p *page) section(name string) { p.line(".SH " + name) }

// text fills paragraphs; what is indented is shown as it is.
func (p *page) text(s string) {
	for para := range strings.SplitSeq(strings.TrimSpace(s), "\n\n") {
		if strings.HasPrefix(para, " ") || strings.HasPrefix(para, "\t") {
			p.verbatim(para)
			continue
		}
		for l := range strings.SplitSeq(para, "\n") {
			p.line(escape(strings.TrimSpace(l)))
		}
		p.line(".PP")
	}
}

func (p *page) verbatim(s string) {
	p.line(".nf")
	for l := range strings.SplitSeq(strings.Trim(s, "\n"), "\n") {
		p.line(escape(l))
	}
	p.line(".fi")
}

func (p *page) flags(title string, fs *pflag.FlagSet) {
	if !fs.HasAvailableFlags() {
		return
	}
	p.section(title)
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB` + escape("--"+f.Name) + `\fP`
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			name = `\fB` + escape("-"+f.Shorthand) + `\fP, ` + name
		}
		if value != "" {
			name += ` \fI` + escape(value) + `\fP`
		}
		p.line(".TP", name)
		switch f.DefValue {
		case "", "false", "0", "[]", "map[]":
		default:
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		p.line(escape(strings.ReplaceAll(usage, "\n", " ")))
	})
}

// escape keeps text from being read as roff (groff_char(7)): a backslash, a hyphen
// that is typed and not typeset, and a line that would be a request.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\(ga", `"`, `\(dq`, `^`, `\(ha`, `~`, `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
