package dataplane

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// TestDropsNamed: every drop of the page is in a chain of its own, counted and told
// under a name that people know; and there is no name without a drop.
func TestDropsNamed(t *testing.T) {
	text := BasePage("linkspan_3c52f1").Text
	daemon, people := DropGroups("linkspan_3c52f1")
	rest := text
	for _, r := range DropRules() {
		log := func(group uint16) string {
			return fmt.Sprintf("log prefix %q group %d snaplen 128", DropPrefix+r.Name, group)
		}
		chain := fmt.Sprintf("\tchain %s {\n\t\tlimit rate 20/second burst 100 packets %s %s\n\t\tcounter drop\n\t}\n", r.Chain(), log(daemon), log(people))
		if !strings.Contains(rest, chain) {
			t.Errorf("the page has no\n%s", chain)
		}
		rest = strings.Replace(rest, chain, "", 1)
		if !strings.Contains(rest, "goto "+r.Chain()) && r.Name != "not-forwarded" {
			t.Errorf("nothing leads to %s", r.Chain())
		}
		for _, s := range []string{r.Name, r.Chain(), DropPrefix + r.Name} {
			if got, ok := DropRuleOf(s); !ok || got != r {
				t.Errorf("%s: %+v", s, got)
			}
		}
		if r.Why == "" || r.Cure == "" || strings.HasSuffix(r.Why, ".") {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
	if m := regexp.MustCompile(`(?m)^[^#\n]*\b(counter|drop)$`).FindString(rest); m != "" {
		t.Errorf("a drop without a name: %s", m)
	}
	if _, ok := DropRuleOf("ls:unheard-of"); ok {
		t.Error("a rule that nobody wrote")
	}
	if g := GuardForwarding(Meta{}, "t", true); g.Verdict != "goto drop_not_forwarded" {
		t.Errorf("the guard's verdict is %s", g.Verdict)
	}
}

// TestPageConstant: the number of rules is the same for every host and is not large.
func TestPageConstant(t *testing.T) {
	rule := regexp.MustCompile(`(?m)^\t\t[^\t#}]`)
	a, b := len(rule.FindAllString(BasePage("a").Text, -1)), len(rule.FindAllString(BasePage("linkspan_3c52f1").Text, -1))
	if a != b || a > 250 {
		t.Errorf("%d and %d lines", a, b)
	}
}

func TestDropGroups(t *testing.T) {
	seen := map[uint16]int{}
	for i := range 2000 {
		daemon, people := DropGroups(fmt.Sprintf("linkspan_%06x", i*7919+1))
		if daemon < 1024 || people != daemon+1 || daemon%2 != 0 {
			t.Fatalf("groups %d and %d", daemon, people)
		}
		seen[daemon]++
	}
	if len(seen) < 1800 {
		t.Errorf("2000 instances have %d groups", len(seen))
	}
}

func TestQuiet(t *testing.T) {
	p := BasePage("linkspan_3c52f1")
	q := p.Quiet()
	if strings.Contains(q.Text, "log prefix") || strings.Count(q.Text, "counter drop") != len(DropRules()) || q.Spec() != p.Spec() {
		t.Errorf("%s", q.Text)
	}
	if n := strings.Count(p.Text, "\n") - strings.Count(q.Text, "\n"); n != len(DropRules()) {
		t.Errorf("%d lines went", n)
	}
}

// TestSingle: without what spans hosts nothing of the page refers to it, and all else is
// as it was.
func TestSingle(t *testing.T) {
	p := BasePage("linkspan_3c52f1")
	s := p.Single()
	for _, no := range []string{"mesh4", "mesh6", "vnis", "@th,96", "rt mtu"} {
		if regexp.MustCompile(`(?m)^[^#\n]*` + no).MatchString(s.Text) {
			t.Errorf("%s is left", no)
		}
	}
	if s.Spec() != p.Spec() || strings.Count(s.Text, "{") != strings.Count(s.Text, "}") || strings.Count(p.Text, "\n")-strings.Count(s.Text, "\n") > 40 {
		t.Errorf("%s", s.Text)
	}
	if !MeshElement(Meta{}, "t", netip.MustParsePrefix("10.0.0.0/8")).Spanning() || PeerElement(Meta{}, "t", netip.MustParseAddr("10.0.0.1")).Spanning() {
		t.Error("which elements need it")
	}
}
