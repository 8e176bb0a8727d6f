package doctor

import (
	"fmt"
	"io"
	"strings"
)

// WriteText writes the report for a terminal: what is wrong with reason and cure,
// then what is well, one line each.
func (r *Report) WriteText(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "host %s, kernel %s, ", r.Host, r.Kernel)
	if r.Daemon != "" {
		fmt.Fprintf(&b, "daemon %s\n", r.Daemon)
	} else {
		b.WriteString("no daemon asked\n")
	}
	last := Severity("")
	for _, f := range r.Findings {
		if f.Severity != last && !(last == "" && f.Severity == OK) || f.Severity != OK {
			b.WriteString("\n")
		}
		last = f.Severity
		fmt.Fprintf(&b, "%-8s %s\n", f.Severity, wrap(f.What, 9, 96))
		if f.Why != "" {
			fmt.Fprintf(&b, "         %s\n", wrap(f.Why, 9, 96))
		}
		if f.Cure != "" {
			fmt.Fprintf(&b, "         cure: %s\n", f.Cure)
		}
	}
	if len(r.Unseen) > 0 {
		b.WriteString("\nnot looked at:\n")
		for _, u := range r.Unseen {
			fmt.Fprintf(&b, "  - %s\n", wrap(u, 4, 96))
		}
	}
	b.WriteString("\n" + r.Summary() + "\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// Summary is one line.
func (r *Report) Summary() string {
	var parts []string
	for _, s := range severities[:3] {
		switch n := r.Count(s); n {
		case 0:
		case 1:
			parts = append(parts, "1 "+string(s))
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", n, s))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing is wrong"}
	}
	return fmt.Sprintf("%s; %d looked at and well", strings.Join(parts, ", "), r.Count(OK))
}

// wrap breaks a text into lines of at most width runes, the later ones indented.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
