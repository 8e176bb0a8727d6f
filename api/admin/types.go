package admin

import (
	"fmt"
	"io"
	"strings"
)

// Object is one kernel object as told to a person.
type Object struct {
	Key    string `json:"key"`
	Spec   string `json:"spec,omitempty"`
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Commands are the `ip`, `sysctl` and `nft` lines that a person would type.
	Commands []string `json:"commands"`
}

// Plan is the answer of POST /linkspan/plan: what would be made, in order.
type Plan struct {
	Objects  []Object `json:"objects"`
	Warnings []string `json:"warnings,omitempty"`
}

// Op is one operation of a reconciliation.
type Op struct {
	Verb string `json:"verb"` // "create", "change", "delete"
	Object
}

// Report is the answer of POST /linkspan/reconcile.
type Report struct {
	DryRun bool `json:"dry_run"`
	Ops    []Op `json:"ops"`
	// Drift are objects inside sandboxes that differ and are left alone.
	Drift    []Object `json:"drift,omitempty"`
	Failures []string `json:"failures,omitempty"`
}

// WriteText prints a plan so that its lines can be typed: what and why in
// comments, one command per line.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, warning := range p.Warnings {
		fmt.Fprintf(&b, "# WARNING: %s\n", warning)
	}
	owner := ""
	for _, o := range p.Objects {
		if o.Owner != owner {
			owner = o.Owner
			fmt.Fprintf(&b, "# --- %s\n", owner)
		}
		o.write(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteText prints what a reconciliation did or would do.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, op := range r.Ops {
		fmt.Fprintf(&b, "# %s %s", op.Verb, op.Key)
		if op.Owner != "" {
			fmt.Fprintf(&b, " for %s", op.Owner)
		}
		b.WriteString("\n")
		op.Object.write(&b)
	}
	for _, o := range r.Drift {
		fmt.Fprintf(&b, "# changed by someone inside a sandbox, left alone: %s", o.Key)
		if o.Owner != "" {
			fmt.Fprintf(&b, " of %s", o.Owner)
		}
		b.WriteString("\n")
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "# FAILED: %s\n", f)
	}
	switch n := len(r.Ops); {
	case n == 0 && len(r.Failures) == 0:
		b.WriteString("# the kernel has what is declared\n")
	case r.DryRun:
		fmt.Fprintf(&b, "# %d to do; nothing was changed (dry run)\n", n)
	default:
		fmt.Fprintf(&b, "# %d done, %d failed\n", max(n-len(r.Failures), 0), len(r.Failures))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Object) write(b *strings.Builder) {
	if o.Reason != "" {
		fmt.Fprintf(b, "# %s\n", o.Reason)
	}
	for _, c := range o.Commands {
		b.WriteString(c + "\n")
	}
}
