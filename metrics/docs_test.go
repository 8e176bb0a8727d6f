package metrics

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"linkspan/internal/golden"

	"go.yaml.in/yaml/v3"
)

const docs = "../docs/operations.md"

var description = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

// table is the list of metrics as docs/operations.md has it.
func table() string {
	var lines []string
	add := func(name, labels, help string) {
		if labels != "" {
			labels = "`" + strings.ReplaceAll(labels, ",", "`, `") + "`"
		}
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |\n", name, labels, help))
	}
	for _, m := range newCollector(Sources{}).all() {
		f := description.FindStringSubmatch(m.desc.String())
		add(f[1], f[3], f[2])
	}
	add("linkspan_api_request_duration_seconds", "method,route,status", "Time until the answer to an API request began (histogram), by the route's pattern. Streams count until their first byte.")
	return strings.Join(lines, "")
}

// TestDocs: the page lists what there is, and nothing else.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	const head, foot = "| metric | labels | what |\n|---|---|---|\n", "Besides these: `go_*`"
	before, rest, ok := strings.Cut(text, head)
	have, after, ok2 := strings.Cut(rest, foot)
	if !ok || !ok2 {
		t.Fatalf("%s has no list of metrics", docs)
	}
	want := table() + "\n"
	if have != want && golden.Update() {
		golden.Write(t, docs, []byte(before+head+want+foot+after))
	} else if have != want {
		t.Errorf("%s lists other metrics than there are (go test ./metrics -update writes it):\n%s", docs, want)
	}
}

var (
	named    = regexp.MustCompile(`linkspan_[a-z_]+`)
	selected = regexp.MustCompile(`(linkspan_[a-z_]+)(\{([^}]*)\})?`)
	label    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// TestAlerts: the rules are what Prometheus reads, and are about metrics and labels
// that there are.
func TestAlerts(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "```yaml\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatalf("%s has no rules", docs)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{"linkspan_api_request_duration_seconds_bucket": {"method", "route", "status", "le"}}
	for _, m := range newCollector(Sources{}).all() {
		f := description.FindStringSubmatch(m.desc.String())
		labels[f[1]] = strings.Split(f[3], ",")
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("incomplete or twice: %+v", r)
			}
			seen[r.Alert] = true
			if len(named.FindAllString(r.Expr, -1)) == 0 && !strings.HasPrefix(r.Expr, "up{") {
				t.Errorf("%s is about no metric: %s", r.Alert, r.Expr)
			}
			for _, m := range selected.FindAllStringSubmatch(r.Expr, -1) {
				known, ok := labels[m[1]]
				if !ok {
					t.Errorf("%s: there is no metric %s", r.Alert, m[1])
				}
				for _, l := range label.FindAllStringSubmatch(m[3], -1) {
					if !slices.Contains(known, l[1]) {
						t.Errorf("%s: %s has no label %s", r.Alert, m[1], l[1])
					}
				}
			}
			for _, pair := range []string{"()", "{}", "[]"} {
				if strings.Count(r.Expr, pair[:1]) != strings.Count(r.Expr, pair[1:]) {
					t.Errorf("%s: brackets: %s", r.Alert, r.Expr)
				}
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d alerts", len(seen))
	}
}
