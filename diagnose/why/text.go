package why

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width of the text: a terminal's.
const width = 80

var marks = map[State]string{Good: "✓", Bad: "✗", Open: "?", Aside: "·"}

// WriteText writes the answer for people: the verdict first, the cure second, then the
// walk.
func (a *Answer) WriteText(out io.Writer) error {
	var b strings.Builder
	mark := map[Verdict]string{Reaches: "✓ Yes: ", Blocked: "✗ No: ", Unsure: "? Unknown: "}[a.Verdict]
	wrap(&b, mark, "  ", a.Sentence)
	if a.Verdict != Reaches {
		if a.Cure != "" {
			fmt.Fprintf(&b, "\nThis mends it%s:\n\n  %s\n", a.typed(), a.Cure)
		}
		if a.Advice != "" {
			b.WriteByte('\n')
			wrap(&b, a.on(a.Host, "On %s: "), "", upper(a.Advice)+".")
		}
	}
	for _, m := range a.Missing {
		wrap(&b, "Missing: ", "  ", m)
	}
	if len(a.Notes) > 0 {
		b.WriteByte('\n')
	}
	for _, n := range a.Notes {
		wrap(&b, "Note: "+a.on(n.Host, "on %s: "), "  ", n.Text+".")
		if n.Cure != "" {
			fmt.Fprintf(&b, "  %s\n", n.Cure)
		}
	}
	if p := a.Probe; p != nil {
		agrees := "which is what the walk says"
		if !p.Agrees {
			agrees = "which is NOT what the walk says"
		}
		b.WriteByte('\n')
		wrap(&b, "A real packet ("+p.Sent+"): ", "  ", p.Heard+", "+agrees+".")
		for _, t := range p.Trace {
			wrap(&b, "  ", "    ", t)
		}
	}
	a.writeSteps(&b)
	fmt.Fprintf(&b, "\n%s, %.0f ms\n", a.Code, max(a.TookMS, 1))
	_, err := io.WriteString(out, b.String())
	return err
}

var titles = map[Part]string{Declared: "What is declared", There: "The way there", Back: "The answer's way back"}

func (a *Answer) writeSteps(b *strings.Builder) {
	where, look := 0, 0
	for _, s := range a.Steps {
		where, look = max(where, utf8.RuneCountInString(s.Where)), max(look, utf8.RuneCountInString(s.Look))
	}
	where, look = min(where, 14), min(look, 26)
	part, host := Part(""), ""
	for _, s := range a.Steps {
		if s.Part != part || s.Host != host {
			part, host = s.Part, s.Host
			fmt.Fprintf(b, "\n%s:\n", titles[part]+a.on(host, ", on %s"))
		}
		head := "  " + marks[s.State] + " " + pad(s.Where, where) + "  " + pad(s.Look, look) + "  "
		wrap(b, head, strings.Repeat(" ", 8+where), s.Found)
	}
}

// on is a word of which host, where that is not the one that was asked.
func (a *Answer) on(host, format string) string {
	if host == "" || host == a.Asked {
		return ""
	}
	return fmt.Sprintf(format, host)
}

// typed says where the cure is typed.
func (a *Answer) typed() string { return a.on(a.Host, ", typed on %s") }

func pad(s string, n int) string {
	if k := utf8.RuneCountInString(s); k < n {
		return s + strings.Repeat(" ", n-k)
	}
	return s
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// wrap writes text in lines of a terminal's width.
func wrap(b *strings.Builder, head, indent, text string) {
	line, begun := head, false
	for word := range strings.FieldsSeq(text) {
		if begun && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, begun = indent, false
		}
		if begun {
			line += " "
		}
		line += word
		begun = true
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
