package diff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"linkspan/internal/golden"

	"github.com/rogpeppe/go-internal/txtar"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// TestStories runs testdata/*.txtar: each has files "desired" and "observed" (or
// "fragment", or "was" and "now"), and the golden "plan" (or "create" and "delete",
// or "update"). Its comment tells
// the story; lines "inside NS" in it ask for a repair inside that sandbox.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(f)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string][]dataplane.Object{}
			for _, part := range ar.Files {
				switch part.Name {
				case "desired", "observed", "fragment", "was", "now":
					in[part.Name] = parse(t, string(part.Data))
				}
			}
			for i, part := range ar.Files {
				var got string
				switch part.Name {
				case "plan":
					p := diff.Compute(dataplane.NewState(in["desired"]...), dataplane.NewState(in["observed"]...), inside(string(ar.Comment))...)
					got = render(p)
					restarted(t, in["desired"], in["observed"])
				case "update":
					got = renderOps(diff.Update(in["was"], in["now"]))
				case "create":
					got = renderOps(diff.Create(in["fragment"]))
				case "delete":
					got = renderOps(diff.Delete(in["fragment"]))
				default:
					continue
				}
				if golden.Update() {
					ar.Files[i].Data = []byte(got)
				} else if got != string(part.Data) {
					t.Errorf("%s\n--- got\n%s--- want\n%s", part.Name, got, part.Data)
				}
			}
			if golden.Update() {
				if err := os.WriteFile(f, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestStable: what is as it should be needs nothing, for every desired state of
// the stories; and applying a plan's text twice gives the same text.
func TestStable(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, f := range files {
		ar, err := txtar.ParseFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range ar.Files {
			if part.Name != "desired" && part.Name != "now" {
				continue
			}
			objs := parse(t, string(part.Data))
			if got := renderOps(diff.Update(objs, objs)); got != "" {
				t.Errorf("%s: an update to the same:\n%s", f, got)
			}
			if got := render(diff.Compute(dataplane.NewState(objs...), dataplane.NewState(objs...))); got != "" {
				t.Errorf("%s: not stable:\n%s", f, got)
			}
		}
	}
}

// TestManyPorts: a plan over many elements stays cheap.
func TestManyPorts(t *testing.T) {
	want, have := dataplane.NewState(), dataplane.NewState()
	for i := range 20000 {
		o := element(fmt.Sprintf("publish4_any tcp . %d = 172.17.0.2 . 80", i))
		if i%2 == 0 {
			want.Add(o)
		} else {
			have.Add(o)
		}
	}
	if p := diff.Compute(want, have); len(p.Ops) != 20000 {
		t.Errorf("%d ops", len(p.Ops))
	}
}

func inside(comment string) (ns []string) {
	for l := range strings.Lines(comment) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(l), "inside "); ok {
			ns = append(ns, n)
		}
	}
	return ns
}

func render(p diff.Plan) string {
	s := renderOps(p.Ops)
	for _, o := range p.Drift {
		s += "drift " + dataplane.Text([]dataplane.Object{o})
	}
	return s
}

func renderOps(ops []dataplane.Op) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "%-6s %s", op.Verb, dataplane.Text([]dataplane.Object{op.Object}))
	}
	return b.String()
}

// BenchmarkCreate orders the fragment of a container with a thousand ports.
func BenchmarkCreate(b *testing.B) {
	var objs []dataplane.Object
	for i := range 1000 {
		objs = append(objs, element(fmt.Sprintf("publish4_any tcp . %d = 172.17.0.2 . 80", i)))
	}
	for b.Loop() {
		diff.Create(objs)
	}
}

// restarted: who looks only into the sandboxes that Half names does the same.
func restarted(t *testing.T, desired, observed []dataplane.Object) {
	t.Helper()
	whole := diff.Compute(dataplane.NewState(desired...), dataplane.NewState(observed...))
	half := diff.Half(dataplane.NewState(desired...), dataplane.NewState(observed...))
	outside := func(objs []dataplane.Object) *dataplane.State {
		return dataplane.NewState(slices.DeleteFunc(slices.Clone(objs), func(o dataplane.Object) bool {
			ns := dataplane.InSandbox(o)
			return ns != "" && !slices.Contains(half, ns)
		})...)
	}
	// What Half sees is the outside alone.
	var out []dataplane.Object
	for _, o := range observed {
		if dataplane.InSandbox(o) == "" {
			out = append(out, o)
		}
	}
	if again := diff.Half(dataplane.NewState(desired...), dataplane.NewState(out...)); !slices.Equal(again, half) {
		t.Errorf("half, by all %v, by the outside %v", half, again)
	}
	if got, want := renderOps(diff.Compute(outside(desired), outside(observed)).Ops), renderOps(whole.Ops); got != want {
		t.Errorf("looking into %v only:\n%s--- want\n%s", half, got, want)
	}
}
