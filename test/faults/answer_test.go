package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// answer is what a reader of `linkspan why --json` relies on.
type answer struct {
	Verdict  string  `json:"verdict"` // "reaches", "blocked", "unknown"
	Code     string  `json:"code"`
	Sentence string  `json:"sentence"`
	Cure     string  `json:"cure"`   // one command, empty if none mends it
	Advice   string  `json:"advice"` // what to do, in words, where no command does it
	Took     float64 `json:"took_ms"`
	Steps    []struct{ Part, Where, Look, Found, State string }
	Notes    []struct{ Text string }
}

// String is what a failure shows.
func (a answer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n  cure:   %s\n  advice: %s\n", a.Code, a.Sentence, a.Cure, a.Advice)
	for _, n := range a.Notes {
		fmt.Fprintf(&b, "  note:   %s\n", n.Text)
	}
	for _, st := range a.Steps {
		fmt.Fprintf(&b, "  %s, %s: %s: %s (%s)\n", st.Part, st.Where, st.Look, st.Found, st.State)
	}
	return b.String()
}

func (a answer) reaches() bool { return a.Code == "ok" }

// why asks as a person would, and as a program would.
func (s *stage) why(t *testing.T, a, b string) answer {
	t.Helper()
	a, b = s.expand(a), s.expand(b)
	r := s.d.For(t).Linkspan("why", "--json", a, b)
	var ans answer
	if err := json.Unmarshal([]byte(r.Stdout), &ans); err != nil {
		t.Fatalf("why %s %s: exit code %d, %v\n%s%s", a, b, r.Code, err, r.Stdout, r.Stderr)
	}
	codes := map[string]int{"reaches": 0, "blocked": 2, "unknown": 1}
	if want, ok := codes[ans.Verdict]; !ok || r.Code != want || ans.reaches() != (r.Code == 0) {
		t.Errorf("why %s %s: code %q, verdict %q, exit code %d", a, b, ans.Code, ans.Verdict, r.Code)
	}
	if strings.Contains(ans.Cure, "\n") || strings.TrimSpace(ans.Sentence) == "" {
		t.Errorf("why %s %s: want one sentence and at most one command:\n%s", a, b, ans)
	}
	if !ans.reaches() && ans.Cure == "" && ans.Advice == "" {
		t.Errorf("why %s %s: neither command nor advice:\n%s", a, b, ans)
	}
	return ans
}
