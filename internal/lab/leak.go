package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Patience is how long what must happen may take before a test fails, by itself or by a
// leak: long, since nobody waits for what has happened, and two cores may run much else.
// How quick things are, bench measures.
const Patience = time.Minute

const (
	// settleTime is what the kernel may take to clear away after the last request.
	settleTime = 200 * time.Millisecond
	pollTime   = 20 * time.Millisecond
)

// Watch is one kind of thing that a test must leave as it found it: List returns
// one line per thing, in any order.
type Watch struct {
	Name string
	List func() ([]string, error)
}

// LeakCheck remembers now how the hosts (those made so far) and the watches are,
// and fails the test when they are not the same again after everything that registers
// a cleanup later has been cleaned up. Call it when the lab stands and before what is
// tested starts.
func (l *Lab) LeakCheck(more ...Watch) {
	l.t.Helper()
	var ws []Watch
	for _, h := range l.hosts {
		ws = append(ws, h.watches()...)
	}
	LeakCheck(l.t, append(ws, more...)...)
}

// LeakCheck is the same for watches alone.
func LeakCheck(t testing.TB, watches ...Watch) {
	t.Helper()
	before, err := snapshot(watches)
	if err != nil {
		t.Fatalf("leak check: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		diff, took := settle(watches, before)
		switch {
		case diff != "":
			t.Errorf("leak check: not as before after %v:\n%s", took.Round(pollTime), diff)
		case took > settleTime:
			t.Logf("leak check: as before only after %v", took.Round(pollTime))
		}
	})
}

// settle looks until everything is as before or patience ends.
func settle(watches []Watch, before map[string][]string) (diff string, took time.Duration) {
	start := time.Now()
	for {
		now, err := snapshot(watches)
		if err != nil {
			diff = err.Error()
		} else {
			diff = compare(before, now)
		}
		took = time.Since(start)
		if diff == "" || took > Patience {
			return diff, took
		}
		time.Sleep(pollTime)
	}
}

func snapshot(watches []Watch) (map[string][]string, error) {
	out := map[string][]string{}
	for _, w := range watches {
		lines, err := w.List()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Name, err)
		}
		slices.Sort(lines)
		out[w.Name] = lines
	}
	return out, nil
}

// compare names what is there now and was not, and the other way round. Equal
// lines count: two of them are not one.
func compare(before, now map[string][]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(before)) {
		count := map[string]int{}
		for _, l := range now[name] {
			count[l]++
		}
		for _, l := range before[name] {
			count[l]--
		}
		for _, l := range slices.Sorted(maps.Keys(count)) {
			switch n := count[l]; {
			case n > 0:
				fmt.Fprintf(&b, "left behind, %s: %s\n", name, l)
			case n < 0:
				fmt.Fprintf(&b, "gone, %s: %s\n", name, l)
			}
		}
	}
	return b.String()
}
