// Package doctor looks a host over: what the kernel lacks, which settings, firewalls,
// other engines and routes stand in the way of containers, and what of Linkspan's own
// is not as it should be. Each finding has its cure. It reads, and changes nothing; it
// works, with less to look at, without a daemon.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	// OK: looked at, and as it should be.
	OK Severity = "ok"
	// Note: nothing is wrong; it explains what somebody may come to wonder about.
	Note Severity = "note"
	// Warning: it works now, and will not always; or something others did needs care.
	Warning Severity = "warning"
	// Problem: containers are without something that they were promised.
	Problem Severity = "problem"
)

// severities, the worst first.
var severities = []Severity{Problem, Warning, Note, OK}

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	// Code is one stable word for programs: "forwarding-off".
	Code string `json:"code"`
	// What it is, in one sentence.
	What string `json:"what"`
	// Why it matters; empty for what is ok.
	Why string `json:"why,omitempty"`
	// Cure is one command, or one change of one file.
	Cure string `json:"cure,omitempty"`
}

// Report is all that was found, the worst first.
type Report struct {
	Host   string `json:"host"`
	Kernel string `json:"kernel"`
	// Daemon names the one that was asked; empty without one.
	Daemon string `json:"daemon,omitempty"`
	// Version is the daemon's.
	Version  string    `json:"version,omitempty"`
	Findings []Finding `json:"findings"`
	// Unseen is what could not be looked at, and why.
	Unseen []string `json:"not_looked_at,omitempty"`
}

// ward is one examination under way.
type ward struct {
	*Patient
	report *Report
	seen   map[string]bool // codes, OK ones left out
}

// Examine looks at everything that there is of the patient.
func Examine(ctx context.Context, p *Patient) *Report {
	w := &ward{Patient: p, report: &Report{Host: p.line("proc/sys/kernel/hostname"), Kernel: p.line("proc/sys/kernel/osrelease"), Findings: []Finding{}}, seen: map[string]bool{}}
	if e := p.Engine; e != nil {
		w.report.Version = e.Version
		w.report.Daemon = fmt.Sprintf("%s (instance %s, pid %d)", e.Version, e.Instance, e.PID)
	}
	for _, look := range []func(*ward, context.Context){
		(*ward).features, (*ward).forwarding, (*ward).paths, (*ward).limits, (*ward).ephemeral,
		(*ward).engines, (*ward).managers, (*ward).firewalls,
		(*ward).sizes, (*ward).routes, (*ward).addresses, (*ward).sixth,
		(*ward).servers, (*ward).resolvers,
		(*ward).daemon, (*ward).keeper, (*ward).declared, (*ward).store, (*ward).mesh,
		(*ward).disks, (*ward).logs, (*ward).clock, (*ward).cgroups, (*ward).health,
	} {
		if ctx.Err() != nil {
			w.unseen("the rest: %v", ctx.Err())
			break
		}
		look(w, ctx)
	}
	w.report.sort()
	return w.report
}

// Add puts in what was found elsewhere.
func (r *Report) Add(f Finding) {
	r.Findings = append(r.Findings, f)
	r.sort()
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
}

func (w *ward) say(s Severity, code, what, why, cure string) {
	w.seen[code] = true
	w.report.Findings = append(w.report.Findings, Finding{s, code, what, why, cure})
}

// ok notes that something is as it should be, unless one of codes was found.
func (w *ward) ok(code, what string, args ...any) {
	w.report.Findings = append(w.report.Findings, Finding{Severity: OK, Code: code, What: fmt.Sprintf(what, args...)})
}

// none says whether none of the codes was found.
func (w *ward) none(codes ...string) bool {
	return !slices.ContainsFunc(codes, func(c string) bool { return w.seen[c] })
}

func (w *ward) unseen(format string, args ...any) {
	w.report.Unseen = append(w.report.Unseen, fmt.Sprintf(format, args...))
}

// Count returns how many findings there are of a severity.
func (r *Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Well says that nothing is wrong: notes are not.
func (r *Report) Well() bool { return r.Count(Problem)+r.Count(Warning) == 0 }
