package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// goal is what a number should be.
type goal struct {
	// value is the bound; 0: none, the row only informs.
	value float64
	// relative: value is the ratio to dockerd's number, else an absolute bound.
	relative bool
	// more: larger is better.
	more bool
}

// verdict judges ours. Without the other engine's number a relative goal cannot
// be judged.
func (g goal) verdict(ours, theirs float64) string {
	if g.value == 0 || math.IsNaN(ours) {
		return "-"
	}
	have := ours
	if g.relative {
		if have = ours / theirs; math.IsNaN(have) {
			return "-"
		}
	}
	if g.more && have >= g.value || !g.more && have <= g.value {
		return "PASS"
	}
	return "MISS"
}

func (g goal) text(u unit) string {
	sign := "≤"
	if g.more {
		sign = "≥"
	}
	switch {
	case g.value == 0:
		return "-"
	case g.relative:
		return fmt.Sprintf("%s %.2fx", sign, g.value)
	}
	return sign + " " + u.text(g.value)
}

// unit prints numbers of one kind.
type unit string

const (
	milliseconds unit = "ms"
	microseconds unit = "µs"
	gigabits     unit = "Gbit/s"
	perSecond    unit = "/s"
	pieces       unit = ""
)

func (u unit) text(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case u == perSecond:
		return fmt.Sprintf("%.0f%s", v, u)
	}
	return fmt.Sprintf("%.2f %s", v, u)
}

// table prints rows as they come: a run that is cut off has told what it knows.
type table struct {
	out            io.Writer
	started        bool
	passed, missed int
	notes          []string
}

const rowFormat = "%-44s %13s %13s %8s %13s  %s\n"

func (t *table) row(name string, u unit, ours, theirs float64, g goal) {
	if !t.started {
		fmt.Fprintf(t.out, rowFormat, "", "linkspan", "dockerd", "ratio", "target", "")
		t.started = true
	}
	ratio := "-"
	if r := ours / theirs; !math.IsNaN(r) && !math.IsInf(r, 0) {
		ratio = fmt.Sprintf("%.2f", r)
	}
	v := g.verdict(ours, theirs)
	switch v {
	case "PASS":
		t.passed++
	case "MISS":
		t.missed++
	}
	fmt.Fprintf(t.out, rowFormat, name, u.text(ours), u.text(theirs), ratio, g.text(u), v)
}

// note adds a line below the table.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) end(took time.Duration) {
	for _, n := range t.notes {
		fmt.Fprintln(t.out, n)
	}
	fmt.Fprintf(t.out, "%d PASS, %d MISS, in %.0f s\n", t.passed, t.missed, took.Seconds())
}

// median of numbers; NaN of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quartiles are the bounds of the middle half.
func quartiles(v []float64) (low, high float64) {
	if len(v) == 0 {
		return math.NaN(), math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/4], s[(len(s)*3)/4]
}
