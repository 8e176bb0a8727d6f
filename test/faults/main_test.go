// Package faults is the corpus that proves `linkspan why`: each fault is made on a
// real host, is seen by real traffic, is explained, and goes by the very command that
// the explanation prints. Healthy pairs are asked as well: of them `why` must say that
// they reach each other, and traffic must agree. README.md says how to add one.
package faults

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// fault is one way for A not to reach B. Scripts are sh, and run in the host's network
// namespace with the words of prelude; in all other texts too, $ip_bob and the like stand
// for what prepare found.
type fault struct {
	name string
	// setup makes what the stage lacks ("run cat --network m"): it is no part of the fault,
	// and what it made with run and net is removed afterwards.
	setup string
	// broken makes the fault; empty: it is there after setup. Before it A reaches B.
	broken string
	// undo puts back what broken did, also when the cure did it before, or in part.
	undo string
	// a and b are what `why` is asked.
	a, b string
	// try is what A does to reach B: "tcp/$ip_bob:80", "udp/bob:80" (a name, as A resolves
	// it), "bulk/$ip_bob:80" (as many bytes as to need full packets). Empty: b, with the
	// name that it is asked by.
	try string
	// tryCured, when what reaches B afterwards is something else.
	tryCured string
	// from is the source of what A sends, ADDRESS:PORT, where that matters.
	from string
	// after is what happens besides once the cure was given: what time does by itself
	// (entries that age), or a program that was broken is put right.
	after string

	// code is the verdict, or several that are as right, "x|y"; says are words of its sentence.
	code string
	says []string
	// cure are words of the command, or of the advice.
	cure []string
	// byHand: no command mends it; the answer says in words what does, and this script
	// does what it says.
	byHand string
	// cannot is what an honest `why` cannot know: it says "unknown", before and after.
	cannot string
}

// trafficOnly is the environment variable by which a new fault is tried without asking
// why: it is made, seen, undone and no more seen.
const trafficOnly = "LINKSPAN_FAULTS_TRAFFIC"

// themes are the tables, one file each.
func themes() map[string][]fault {
	return map[string][]fault{
		"reach": reachFaults(), "ports": portFaults(), "state": stateFaults(), "names": nameFaults(), "firewall": firewallFaults(),
		"sandbox": sandboxFaults(), "link": linkFaults(), "address": addressFaults(), "route": routeFaults(),
	}
}

// TestFaults makes all of them on one host, and asks the healthy pairs there.
func TestFaults(t *testing.T) {
	s := newStage(t, daemontest.Shared(t))
	for _, theme := range []string{"reach", "ports", "state", "names", "firewall", "sandbox", "link", "address", "route"} {
		t.Run(theme, func(t *testing.T) { s.all(t, themes()[theme]) })
	}
	t.Run("healthy", func(t *testing.T) { s.pairs(t, healthyPairs()) })
	t.Run("probe", s.probes)
}

// TestCorpus: the corpus is what was promised, and each case says what it must.
func TestCorpus(t *testing.T) {
	n, all := 0, themes()
	all["unrepaired"], all["flags"] = unrepairedFaults(), flagFaults()
	for theme, faults := range all {
		names := map[string]bool{}
		for _, f := range faults {
			n++
			if f.cannot != "" && f.code != "unknown" {
				t.Errorf("%s: %s: who cannot know says unknown", theme, f.name)
			}
			if f.name == "" || names[f.name] || f.a == "" || f.b == "" || f.code == "" {
				t.Errorf("%s: %q lacks a name of its own, its ends or its code", theme, f.name)
			}
			names[f.name] = true
		}
	}
	if n < 40 {
		t.Errorf("%d faults, want 40 at least", n)
	}
	if n := len(healthyPairs()); n < 20 {
		t.Errorf("%d healthy pairs, want 20 at least", n)
	}
}

func (s *stage) all(t *testing.T, faults []fault) {
	for _, f := range faults {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) { s.one(t, f) })
	}
}

// one makes a fault, sees it, asks, mends it as told, and sees that it is gone.
func (s *stage) one(t *testing.T, f fault) {
	s.prepare(t, f.setup)
	t.Cleanup(func() { s.clear(t, f.undo) })
	if f.try == "" {
		f.try = plainTry(f.b)
	}
	if f.tryCured == "" {
		f.tryCured = f.try
	}
	if f.broken != "" {
		s.reaches(t, "before the fault", f.a, f.from, f.try)
		s.run(t, f.broken)
	}
	if err := s.dial(f.a, f.from, f.try, lost); err == nil && f.broken != "" {
		// Networks heal: a late ARP answer, say, puts a neighbour right.
		t.Log("it healed by itself, and is made again")
		_, _ = s.sh("set +e\n" + f.undo)
		s.run(t, f.broken)
		s.fails(t, f.a, f.from, f.try)
	} else if err == nil {
		t.Fatalf("there is no fault: %s reaches %s", f.a, s.expand(f.try))
	}

	if os.Getenv(trafficOnly) != "" {
		if f.undo != "" && f.broken != "" || f.byHand != "" {
			_, _ = s.sh("set +e\n" + cmp.Or(f.byHand, f.undo) + "\n" + f.after)
			s.prepare(t, "")
			s.reaches(t, "undone", f.a, f.from, f.tryCured)
		}
		return
	}
	a := s.why(t, f.a, f.b)
	t.Logf("why %s %s\n%s: %s\n%s%s", f.a, s.expand(f.b), a.Code, a.Sentence, a.Cure, a.Advice)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(a)
		}
	})
	if !slices.Contains(strings.Split(f.code, "|"), a.Code) {
		t.Errorf("code %q, want %q", a.Code, f.code)
	}
	for _, w := range f.says {
		if w = s.expand(w); !strings.Contains(a.Sentence, w) {
			t.Errorf("the sentence does not name %q", w)
		}
	}
	for _, w := range f.cure {
		if w = s.expand(w); !strings.Contains(a.Cure+a.Advice, w) {
			t.Errorf("the cure lacks %q", w)
		}
	}
	if opens(a.Cure) && !strings.Contains(a.Cure, "port ") {
		t.Errorf("the cure opens more than was asked: %s", a.Cure)
	}
	switch {
	case a.Cure != "" && !a.reaches():
		s.run(t, a.Cure)
	case f.byHand != "":
		s.run(t, f.byHand)
	default:
		t.Error("no cure")
		return
	}
	if f.after != "" {
		_, _ = s.sh(f.after)
	}
	s.prepare(t, "")
	s.reaches(t, fmt.Sprintf("cured by %q", a.Cure+f.byHand), f.a, f.from, f.tryCured)
	if b := s.again(t, f.a, f.b); !b.reaches() && f.tryCured == f.try && f.cannot == "" {
		t.Errorf("it works now, but:\n%s", b)
	}
}

// opens says that a command lets packets through a firewall. What the kernel says by ICMP,
// ARP and the sandbox's own resolver have no port to open.
func opens(cure string) bool {
	return strings.Contains(strings.ToLower(cure), "accept") && !strings.Contains(cure, "icmp") && !strings.Contains(cure, "rule arp ") && !strings.Contains(cure, "127.0.0.11")
}

// plainTry: "bob:80/udp" is udp/bob:80.
func plainTry(b string) string {
	target, proto, ok := strings.Cut(b, "/")
	if !ok {
		proto = "tcp"
	}
	return proto + "/" + target
}
