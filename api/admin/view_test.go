package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"linkspan/diagnose"
	"linkspan/diagnose/explain"
	"linkspan/internal/lab"
	"linkspan/internal/worldtest"
)

// TestView: explain, graph and rules come through their doors as they were made.
func TestView(t *testing.T) {
	w := worldtest.New()
	world := func() *diagnose.World { return w.Diagnose() }
	c, _ := daemon(t, Config{Network: &fakeNetwork{}, Doors: []Door{
		Explain(func() explain.Sources { return explain.Sources{World: world(), Observer: w} }), Graph(world), Rules(world, w),
	}})
	ctx := context.Background()
	w.Gone["addr docker0 172.17.0.1/16"] = true
	e, err := c.Explain(ctx, "bridge", explain.KindNetwork)
	if err != nil || e.Missing != 1 || e.Name != "bridge" {
		t.Errorf("%v %+v", err, e)
	}
	here, err := explain.Of(ctx, explain.Sources{World: world(), Observer: w}, "web", "")
	if err != nil {
		t.Fatal(err)
	}
	far, err := c.Explain(ctx, "web", "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, here.WriteText, far.WriteText)
	for subject, words := range map[string]string{"wbe": "did you mean web?", "": "subject is missing", "127.0.0.1:x": "is no port"} {
		if _, err := c.Explain(ctx, subject, ""); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", subject, err)
		}
	}
	g, err := c.Graph(ctx)
	if err != nil || len(g.Containers) != len(w.Ctrs) || len(g.Networks) != len(w.Nets) {
		t.Errorf("%v %+v", err, g)
	}
	p, err := c.Rules(ctx)
	if err != nil || len(p.Chains) < 10 || len(p.Sets) < 10 || p.Live != "there" {
		t.Errorf("%v %+v", err, p)
	}
	tr, err := c.RulesAsIptables(ctx)
	if err != nil || len(tr.Families) != 2 {
		t.Errorf("%v %+v", err, tr)
	}
	var x struct{}
	if err := c.Ask(ctx, "GET", "rules?as=ebtables", nil, &x); err == nil || !strings.Contains(err.Error(), "iptables is known") {
		t.Errorf("%v", err)
	}
}

func same(t *testing.T, a, b func(io.Writer) error) {
	t.Helper()
	var x, y strings.Builder
	if err := errors.Join(a(&x), b(&y)); err != nil || x.String() != y.String() {
		t.Errorf("%v: what came through the door differs:\n%s", err, lab.Differ(x.String(), y.String()))
	}
}
