package faults

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"linkspan/api/admin"
)

// answer is what a reader of `linkspan why --json` relies on.
type answer struct {
	Verdict  string `json:"verdict"` // "reaches", "blocked", "unknown"
	Code     string `json:"code"`
	Sentence string `json:"sentence"`
	Cure     string `json:"cure"`   // one command, empty if none mends it
	Advice   string `json:"advice"` // what to do, in words, where no command does it
	Steps    []struct{ Part, Where, Look, Found, State string }
	Notes    []struct{ Text string }
	Probe    *struct{ Agrees bool }
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

// why asks as a program would: by the verb, with its exit code.
func (s *stage) why(t *testing.T, flags ...string) answer {
	t.Helper()
	for i, f := range flags {
		flags[i] = s.expand(f)
	}
	r := s.d.For(t).Linkspan(append([]string{"why", "--json"}, flags...)...)
	var a answer
	if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
		t.Fatalf("why %s: exit code %d, %v\n%s%s", flags, r.Code, err, r.Stdout, r.Stderr)
	}
	codes := map[string]int{"reaches": 0, "blocked": 2, "unknown": 1}
	if want, ok := codes[a.Verdict]; !ok || r.Code != want {
		t.Errorf("why %s: verdict %q, exit code %d", flags, a.Verdict, r.Code)
	}
	a.sound(t)
	return a
}

// again asks by the door behind the verb, in half the time.
func (s *stage) again(t *testing.T, a, b string) (ans answer) {
	t.Helper()
	q := url.Values{"from": {s.expand(a)}, "to": {s.expand(b)}}
	s.get(t, admin.Prefix+"why?"+q.Encode(), &ans)
	ans.sound(t)
	return ans
}

// sound is what holds of every answer.
func (a answer) sound(t *testing.T) {
	t.Helper()
	if a.reaches() != (a.Verdict == "reaches") {
		t.Errorf("code %q with verdict %q", a.Code, a.Verdict)
	}
	if strings.Contains(a.Cure, "\n") || strings.TrimSpace(a.Sentence) == "" {
		t.Errorf("want one sentence and at most one command:\n%s", a)
	}
	if !a.reaches() && a.Cure == "" && a.Advice == "" {
		t.Errorf("neither command nor advice:\n%s", a)
	}
}
