package live_test

import (
	"fmt"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// TestText compares each rule's text with what nft writes of it.
func TestText(t *testing.T) {
	probe.Require(t, probe.NFT, probe.NFTProgram)
	l := lab.New(t)
	a := l.Host("a")
	rules := map[string]string{"page": dataplane.BasePage("linkspan", dataplane.Mark{Value: 1, Mask: 0xff}).Text}
	for _, c := range corpus {
		// Both names are there; ingress wants a device.
		rules[c.name] = strings.NewReplacer("CDEV", "lo", "SDEV", "eth9").Replace(c.rules)
	}
	k := kernel()
	for name, text := range rules {
		t.Run(name, func(t *testing.T) {
			a.Run("nft", "flush", "ruleset")
			nft(a, text)
			rs, err := k.Ruleset(t.Context(), a.NS)
			if err != nil {
				t.Fatal(err)
			}
			var ours, theirs []string
			for _, table := range rs.Tables {
				for _, c := range table.Chains {
					for _, r := range c.Rules {
						ours = append(ours, fmt.Sprintf("%s # handle %d", r.Text(), r.Handle))
					}
				}
			}
			in := false // of a chain
			for _, line := range strings.Split(a.Run("nft", "-s", "-a", "list", "ruleset"), "\n") {
				line = strings.TrimSpace(line)
				switch {
				case strings.HasPrefix(line, "chain "):
					in = true
				case line == "}" || strings.HasPrefix(line, "set ") || strings.HasPrefix(line, "map ") || strings.HasPrefix(line, "table "):
					in = false
				case in && line != "" && !strings.HasPrefix(line, "type "):
					theirs = append(theirs, line)
				}
			}
			if len(ours) != len(theirs) {
				t.Fatalf("%d rules, nft has %d:\n%s\n%s", len(ours), len(theirs), strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
			}
			for i := range ours {
				if ours[i] != theirs[i] {
					t.Errorf("rule is written\n %s\nnft writes\n %s", ours[i], theirs[i])
				}
			}
		})
	}
}
