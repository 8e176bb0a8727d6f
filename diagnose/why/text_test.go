package why

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"linkspan/dataplane/ruleset"
	"linkspan/internal/golden"
)

func TestText(t *testing.T) {
	for name, c := range map[string]struct {
		make     func(*world)
		from, to string
	}{
		"reaches":   {func(*world) {}, "web", "db:5432"},
		"published": {func(*world) {}, "outside", "pub:80"},
		"loopback":  {func(w *world) { w.deaf("db"); w.listen("db", "tcp 127.0.0.1:5432", 1) }, "web", "db:5432"},
		"firewall":  {func(w *world) { w.drop("", "forward", "FORWARD", "counter drop", all) }, "outside:198.51.100.7", "pub:80"},
		"networks":  {func(*world) {}, "web", "other:80"},
		"unhealthy": {func(w *world) { w.container("db").Health = "unhealthy" }, "web", "db:5432"},
		"stopped":   {func(*world) {}, "web", "gone:80"},
		"unknown":   {func(w *world) { w.fails["rules /ns/db"] = os.ErrPermission }, "web", "db:5432"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			c.make(w)
			a := w.ask(t, c.from, c.to)
			a.TookMS = 7
			var b strings.Builder
			if err := a.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, "testdata/"+name+".txt", b.String())
			for line := range strings.SplitSeq(b.String(), "\n") {
				if utf8.RuneCountInString(line) > width && !strings.Contains(line, a.Cure) {
					t.Errorf("%d characters: %s", utf8.RuneCountInString(line), line)
				}
			}
			js, err := json.MarshalIndent(a, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			var back Answer
			if err := json.Unmarshal(js, &back); err != nil || back.Code != a.Code || len(back.Steps) != len(a.Steps) {
				t.Errorf("read back: %v", err)
			}
			if name == "firewall" {
				golden.Compare(t, "testdata/firewall.json", string(js)+"\n")
			}
		})
	}
}

func TestExposed(t *testing.T) {
	w := newWorld()
	w.drop("", "input", "INPUT", "policy drop", func(p ruleset.Packet) bool { return p.In == "eth0" })
	o := Options{Processes: w, Firewall: func(ns string) (firewall, error) { return fakeRules{w, ns}, nil }}
	e, err := Expose(t.Context(), w.World(), o)
	if err != nil {
		t.Fatal(err)
	}
	e.TookMS = 3
	var b strings.Builder
	if err := e.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/exposed.txt", b.String())
	if len(e.Ports) != 1 || e.Ports[0].State != "open" || e.Ports[0].Despite == nil || e.ExitCode() != 2 {
		t.Errorf("%+v", e.Ports)
	}
	w = newWorld()
	w.drop("", "forward", "FORWARD", "drop", all)
	w.sandbox("other").Host = true
	o.Firewall = func(ns string) (firewall, error) { return fakeRules{w, ns}, nil }
	if e, err = Expose(t.Context(), w.World(), o); err != nil || e.Ports[0].State != "closed" || !strings.Contains(e.Ports[0].Why, "FORWARD") || e.ExitCode() != 0 || len(e.Notes) != 1 {
		t.Errorf("%+v %v", e, err)
	}
	w.sandbox("pub").Ports = nil
	e, _ = Expose(t.Context(), w.World(), o)
	b.Reset()
	if e.WriteText(&b); !strings.HasPrefix(b.String(), "Nothing is reached from outside") {
		t.Error(b.String())
	}
}
