// Package rules holds docs/rules to what a real daemon does: each page is what one
// scenario declares, and what `nft list` then shows. `go test ./docs/rules -update`
// writes the pages.
package rules

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/api/admin"
	"linkspan/diagnose/explain"
	"linkspan/internal/daemontest"
	"linkspan/internal/golden"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// TestPages makes every scenario and compares its page.
func TestPages(t *testing.T) {
	d := daemontest.Shared(t)
	compare(t, "page.md", func() (string, string) {
		s := look(t, d)
		return pageText(s), s.damage
	})
	files := []string{"README.md", "page.md"}
	index := "# What is in the kernel, by example\n\n" + made +
		"Each page has what a person typed, the kernel objects that Linkspan then declares (whose each is, and\nwhy it is there), the elements that are then on [its firewall's page](page.md), which never changes\nitself, and the same in the words of iptables, for who knows those.\n\n"
	for _, s := range scenarios {
		ok := t.Run(s.file, func(t *testing.T) {
			d := d.For(t)
			start := look(t, d)
			before := start
			if s.whole {
				before = &state{}
			}
			for _, l := range s.lines {
				typed(t, d, l)
			}
			if golden.Update() && len(s.undo) > 0 {
				time.Sleep(2 * time.Second) // what follows the host's own changes comes a little later
			}
			compare(t, s.file+".md", func() (string, string) {
				now, foreign := look(t, d), ""
				if s.foreign != "" {
					foreign = d.Host.Run(append([]string{"nft", "list", "table"}, strings.Fields(s.foreign)...)...)
				}
				return s.page(before, now, foreign), now.damage
			})
			d.RemoveAll()
			for _, n := range strings.Fields(d.Docker("network", "ls", "-q", "--filter", "type=custom")) {
				d.Docker("network", "rm", n)
			}
			for _, l := range s.undo {
				typed(t, d, l)
			}
			d.Until(within, "everything is as it was", func() bool { return look(t, d).has(start) })
		})
		if !ok {
			t.FailNow() // the next one would start from what this one left
		}
		index += fmt.Sprintf("- [%s](%s.md)\n", s.title, s.file)
		files = append(files, s.file+".md")
	}
	lines, more := spanIndex()
	index, files = index+lines, append(files, more...)
	compare(t, "README.md", func() (string, string) { return index, "" })
	there, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if !slices.Contains(files, f) {
			t.Errorf("%s is no scenario's any more: remove it", f)
		}
	}
}

const made = "Written by `go test ./docs/rules -update` from a daemon that ran; CI compares. Names stand for what is\ndifferent each time: ids, the ends of wires, the folder of pinned namespaces.\n\n"

func typed(t *testing.T, d *daemontest.Daemon, line string) {
	t.Helper()
	words := strings.Fields(line)
	if words[0] == "docker" {
		d.Docker(words[1:]...)
		return
	}
	d.Host.Run(words...)
}

// within is how long the daemon may take to follow what the host does by itself.
const within = lab.Patience

// compare holds a page to its file, or writes it. What it is made of may still be on its
// way: damage says what the kernel lacks.
func compare(t *testing.T, name string, make func() (page, damage string)) {
	t.Helper()
	want, err := os.ReadFile(name)
	if err != nil && !golden.Update() {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		got, damage := make()
		late := time.Now().After(deadline)
		switch {
		case damage != "" && late:
			t.Fatalf("%s: not everything is there:\n%s", name, damage)
		case damage != "":
		case golden.Update():
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		case got == string(want):
			return
		case late:
			t.Errorf("%s is not what the daemon does; if it should be, `go test ./docs/rules -update` writes it:\n%s", name, lab.Differ(string(want), got))
			return
		}
	}
}

// state is all that a page is written of.
type state struct {
	objects  []object // in the order of explanations
	sets     []set
	rules    string // the table without its elements
	iptables []string
	names    *strings.Replacer
	damage   string // what the kernel does not have as declared
}

// has says that all objects of another state are there.
func (s *state) has(o *state) bool {
	return s.damage == "" && !slices.ContainsFunc(o.objects, func(x object) bool {
		return !slices.ContainsFunc(s.objects, func(y object) bool { return x.key == y.key && x.spec == y.spec })
	})
}

type object struct{ group, key, spec, why string }

// set is one of the table's, with its elements, as nft lists them.
type set struct {
	head     string // "map publish4_any"
	lines    []string
	elements []string
}

// client asks the daemon as linkspan's verbs do.
func client(d *daemontest.Daemon) admin.Client {
	return admin.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}}}}
}

// look asks the daemon for everything, and the kernel for the table.
func look(t *testing.T, d *daemontest.Daemon) *state {
	t.Helper()
	s := &state{}
	c, ctx := client(d), context.Background()
	g, err := c.Graph(ctx)
	if err != nil {
		t.Fatal(err)
	}
	table := ""
	var names []string
	tell := func(e *explain.Explanation) {
		for _, gr := range e.Groups {
			for _, it := range gr.Items {
				if it.Key == "" || slices.ContainsFunc(s.objects, func(o object) bool { return o.key == it.Key }) {
					continue
				}
				s.objects = append(s.objects, object{it.Owner, it.Key, it.Spec, it.Why})
			}
		}
	}
	explained := func(subject string, kind explain.Kind) {
		e, err := c.Explain(ctx, subject, kind)
		if err != nil {
			t.Fatal(err)
		}
		if e.Missing+e.Different > 0 {
			var b strings.Builder
			_ = e.WriteText(&b)
			s.damage += b.String()
		}
		tell(e)
	}
	explained("host", explain.KindHost)
	for _, o := range s.objects {
		if name, ok := strings.CutPrefix(o.key, "table inet "); ok {
			table = name
		}
	}
	names = append(names, table, "linkspan_INSTANCE")
	if _, instance, ok := strings.Cut(table, "_"); ok {
		names = append(names, "ls-r"+instance, "ls-rINSTANCE", "ls-w"+instance, "ls-wINSTANCE")
	}
	for _, o := range s.objects {
		if addr, ok := strings.CutPrefix(o.key, "addr ls-w"); ok { // a prefix that the mesh made up
			if p, err := netip.ParsePrefix(addr[strings.IndexByte(addr, ' ')+1:]); err == nil {
				names = append(names, p.Masked().Addr().String(), "fd00:5ec::")
			}
		}
	}
	for _, n := range g.Networks {
		explained(n.ID, explain.KindNetwork)
		names = append(names, "br-"+n.ID[:12], "br-"+n.Name, "vx-"+n.ID[:12], "vx-"+n.Name)
	}
	for _, c := range g.Containers {
		explained(c.ID, explain.KindContainer)
		for _, e := range c.Endpoints {
			names = append(names, e.HostIf, "veth_"+c.Name+"_"+e.Name)
		}
		if c.Sandbox != "" && c.With == "" {
			names = append(names, d.Exec+"/netns/"+c.Sandbox[:12], "/run/linkspan/netns/"+c.Name, c.Sandbox[:12], c.Name)
		}
	}
	s.names = strings.NewReplacer(slices.DeleteFunc(pairs(names), func(p string) bool { return p == "\x00" })...)
	s.table(d.Host.Run("nft", "list", "table", "inet", table))
	translation, err := c.RulesAsIptables(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	_ = translation.WriteText(&b) // a strings.Builder takes all
	for l := range strings.Lines(b.String()) {
		if l = strings.TrimSpace(s.names.Replace(l)); l != "" {
			s.iptables = append(s.iptables, l)
		}
	}
	return s
}

// pairs marks those of names that have nothing to be replaced.
func pairs(names []string) []string {
	for i := 0; i < len(names); i += 2 {
		if names[i] == "" {
			names[i], names[i+1] = "\x00", "\x00"
		}
	}
	return names
}

var varies = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`counter packets \d+ bytes \d+`), "counter packets 0 bytes 0"},
	{regexp.MustCompile(`\bgroup \d+\b`), "group N"},
	{regexp.MustCompile(`page_[0-9a-f]{8}`), "page_HASH"},
	{regexp.MustCompile(`\bpage [0-9a-f]{8}\b`), "page HASH"},
	{regexp.MustCompile(`fd4c:534c:[0-9a-f:]*[0-9a-f]`), "fd4c:534c::VTEP"},
	{regexp.MustCompile(`(ls-rINSTANCE.*?)(?:[0-9a-f]{2}:){5}[0-9a-f]{2}`), "${1}VTEP-MAC"},
}

func (s *state) plain(text string) string {
	text = s.names.Replace(text)
	for _, v := range varies {
		text = v.what.ReplaceAllString(text, v.with)
	}
	return text
}

// table takes nft's text apart: the page without its elements, and the elements, sorted,
// since the kernel keeps those of hash sets in no order.
func (s *state) table(text string) {
	var now *set
	var rules []string
	inElements := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		bare := strings.TrimSpace(line)
		word, _, _ := strings.Cut(bare, " ")
		switch {
		case now == nil && (word == "set" || word == "map"):
			s.sets = append(s.sets, set{head: s.plain(strings.TrimSuffix(bare, " {"))})
			now = &s.sets[len(s.sets)-1]
			rules = append(rules, line)
		case now != nil && (inElements || strings.HasPrefix(bare, "elements = {")):
			bare = strings.TrimPrefix(bare, "elements = {")
			inElements = !strings.HasSuffix(bare, "}")
			for _, e := range strings.Split(strings.TrimSuffix(bare, "}"), ", ") {
				if e = strings.Trim(strings.TrimSpace(e), ","); e != "" {
					now.elements = append(now.elements, s.plain(e))
				}
			}
		case now != nil && bare == "}":
			slices.Sort(now.elements)
			now = nil
			rules = append(rules, line)
		default:
			if now != nil {
				now.lines = append(now.lines, s.plain(bare))
			}
			rules = append(rules, line)
		}
	}
	s.rules = s.plain(strings.Join(rules, "\n"))
}
