package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Garbage is the answer of POST /linkspan/gc: what nothing declares.
type Garbage struct {
	DryRun bool          `json:"dry_run"`
	Items  []GarbageItem `json:"items"`
	// Failures are the places that could not be looked at.
	Failures []string `json:"failures,omitempty"`
}

// GarbageItem is one thing.
type GarbageItem struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Why      string   `json:"why"`
	Commands []string `json:"commands,omitempty"`
	// Error says why it is still there.
	Error string `json:"error,omitempty"`
}

// GC is POST /linkspan/gc.
func GC(collect func(ctx context.Context, dryRun bool) (*Garbage, error)) Door {
	return Door{Pattern: "POST " + Prefix + "gc", Answer: func(r *http.Request) (any, error) {
		dry, err := dryRun(r)
		if err != nil {
			return nil, err
		}
		return collect(r.Context(), dry)
	}}
}

// GC removes what nothing declares; with dryRun it only lists it.
func (c Client) GC(ctx context.Context, dryRun bool) (*Garbage, error) {
	path := "gc"
	if dryRun {
		path += "?dry-run=1"
	}
	var g Garbage
	return &g, c.Ask(ctx, http.MethodPost, path, nil, &g)
}

// WriteText prints it.
func (g *Garbage) WriteText(w io.Writer) error {
	var b strings.Builder
	stay := 0
	for _, i := range g.Items {
		fmt.Fprintf(&b, "# %s %s: %s\n", i.Kind, i.Name, i.Why)
		for _, c := range i.Commands {
			b.WriteString(c + "\n")
		}
		if i.Error != "" {
			stay++
			fmt.Fprintf(&b, "# FAILED: %s\n", i.Error)
		}
	}
	for _, f := range g.Failures {
		fmt.Fprintf(&b, "# FAILED: %s\n", f)
	}
	switch {
	case len(g.Items) == 0 && len(g.Failures) == 0:
		b.WriteString("# there is no garbage\n")
	case g.DryRun:
		fmt.Fprintf(&b, "# %d to remove; nothing was changed (dry run)\n", len(g.Items))
	default:
		fmt.Fprintf(&b, "# %d removed, %d could not be\n", len(g.Items)-stay, stay)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
