package flows

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// WriteText prints a table: who, whom, and how it is translated on the way.
func (t *Table) WriteText(w io.Writer) error {
	var b strings.Builder
	if len(t.Flows) > 0 {
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "PROTO\tFROM\tTO\tTHROUGH\tVERDICT\tSTATE\tSENT\tBACK\tAGE")
		for _, f := range t.Flows {
			fmt.Fprintln(tw, strings.Join([]string{f.Proto, f.From.String(), f.To.String(), f.through(), f.verdict(), f.State,
				f.volume(f.Sent), f.volume(f.Back), f.age()}, "\t"))
		}
		tw.Flush()
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "%s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteLine prints one that is followed.
func (f Flow) WriteLine(w io.Writer) error {
	parts := []string{clock(f.Time), fmt.Sprintf("%-7s", f.Event), f.Proto, f.From.String() + " -> " + f.To.String()}
	if t := f.through(); t != "-" {
		parts = append(parts, "("+t+")")
	}
	if f.Verdict == "dropped" {
		parts = append(parts, "dropped by "+f.Rule)
	} else {
		parts = append(parts, f.State)
	}
	if f.Counted {
		parts = append(parts, "sent "+f.volume(f.Sent)+", back "+f.volume(f.Back))
	}
	_, err := fmt.Fprintln(w, strings.Join(parts, "  "))
	return err
}

// through is the translation: the published port that was dialled, the address that the
// other side sees.
func (f Flow) through() string {
	var s []string
	if f.Dialled.IsValid() {
		word := "dialled "
		if f.Published {
			word = "published "
		}
		s = append(s, word+at(f.Dialled))
	}
	if f.As.IsValid() {
		s = append(s, "as "+at(f.As))
	}
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, ", ")
}

// at leaves a port away that a protocol does not have.
func at(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func (f Flow) verdict() string {
	if f.Rule != "" {
		return f.Verdict + " by " + f.Rule
	}
	return f.Verdict
}

func (f Flow) volume(v Volume) string {
	if !f.Counted {
		return "-"
	}
	return units.HumanSize(float64(v.Bytes))
}

func (f Flow) age() string {
	if f.Started.IsZero() {
		return "-"
	}
	return (time.Duration(f.Age) * time.Second).String()
}
