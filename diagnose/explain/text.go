package explain

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is how long a line of prose may be; commands are as long as they are.
const width = 96

// alike is how many neighbours of one set are told one by one.
const alike = 4

// WriteText tells it to a person.
func (e *Explanation) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(e.Title + "\n")
	wide := 0
	for _, f := range e.Facts {
		wide = max(wide, utf8.RuneCountInString(f.Name))
	}
	for i := 0; i < len(e.Facts); {
		n := i
		for ; n < len(e.Facts) && e.Facts[n].Name == e.Facts[i].Name; n++ {
		}
		e.same(&b, e.Facts[i:n], wide)
		i = n
	}
	for _, n := range e.Notes {
		wrap(&b, "  ! ", "    ", n)
	}
	for _, g := range e.Groups {
		fmt.Fprintf(&b, "\n%s\n", g.Title)
		g.write(&b)
	}
	e.sum(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// manyFacts is how many facts of one name are told.
const manyFacts = 20

// same tells facts of one name.
func (e *Explanation) same(b *strings.Builder, all []Fact, wide int) {
	name := all[0].Name
	for i, f := range all {
		if i == manyFacts && len(all) > manyFacts+1 {
			fmt.Fprintf(b, "  %-*s  … and %d more (--json has all)\n", wide, "", len(all)-manyFacts)
			return
		}
		fmt.Fprintf(b, "  %-*s  %s\n", wide, name, f.Value)
		name = ""
	}
}

func (g *Group) write(b *strings.Builder) {
	run, kept, hidden := "", 0, 0
	tell := func() {
		if hidden > 0 {
			fmt.Fprintf(b, "    … and %d more in %s (--json has all)\n", hidden, run)
		}
		kept, hidden = 0, 0
	}
	for _, it := range g.Items {
		if it.set() == "" || it.set() != run {
			tell()
		}
		if run = it.set(); run != "" {
			if kept++; kept > alike && (it.Live == There || it.Live == Unknown) {
				hidden++
				continue
			}
		}
		it.write(b, g.Shared)
	}
	tell()
}

func (it *Item) write(b *strings.Builder, brief bool) {
	mark := map[Live]string{There: "  + ", Missing: "  - ", Different: "  ~ ", Unknown: "  · "}[it.Live]
	b.WriteString(mark + it.What + "\n")
	switch it.Live {
	case Missing:
		b.WriteString("      MISSING: the kernel does not have it\n")
	case Different:
		wrap(b, "      DIFFERENT: ", "      ", fmt.Sprintf("the kernel has %q, and %q is declared", it.Now, it.Spec))
	}
	if it.Cure != "" {
		b.WriteString("      cure   " + it.Cure + "\n")
	}
	if !brief {
		wrap(b, "      why    ", "             ", it.Why)
		wrap(b, "      where  ", "             ", it.Where)
	}
	for i, s := range it.Show {
		b.WriteString([]string{"      show   ", "             "}[min(i, 1)] + s + "\n")
	}
}

func (e *Explanation) sum(b *strings.Builder) {
	n, known := 0, false
	for _, g := range e.Groups {
		for _, it := range g.Items {
			n++
			known = known || it.Live != Unknown
		}
	}
	switch {
	case n == 0:
	case !known:
		fmt.Fprintf(b, "\n%d objects; the kernel was not asked.\n", n)
	case e.Missing+e.Different > 0:
		fmt.Fprintf(b, "\n%d objects: %d missing, %d different.\n", n, e.Missing, e.Different)
	default:
		fmt.Fprintf(b, "\n%d objects, all there.\n", n)
	}
}

// wrap writes words in lines of a readable length.
func wrap(b *strings.Builder, first, then, text string) {
	if text == "" {
		return
	}
	line := first
	for i, w := range strings.Fields(text) {
		switch {
		case i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
			b.WriteString(line + "\n")
			line = then + w
		case i > 0:
			line += " " + w
		default:
			line += w
		}
	}
	b.WriteString(line + "\n")
}
