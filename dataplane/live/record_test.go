package live_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/lab"
)

var record = flag.Bool("record", false, "write what the kernel says of the corpus to dataplane/ruleset/testdata")

// TestRecord makes the inputs of dataplane/ruleset's own tests, which need no kernel.
func TestRecord(t *testing.T) {
	if !*record {
		return // by hand: go test ./dataplane/live -run TestRecord -record
	}
	l := lab.New(t)
	k := kernel()
	write := func(name string, h *lab.Host) {
		all, err := k.Messages(t.Context(), h.NS)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := ruleset.WriteMessages(&b, all); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("../ruleset/testdata", strings.ReplaceAll(name, " ", "-")+".dump")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"page": dataplane.BasePage("linkspan").Text}
	for _, c := range corpus {
		all[c.name] = c.rules
	}
	for name, rules := range all {
		h := l.Host("h" + strings.ReplaceAll(name, " ", ""))
		if rules != "" {
			nft(h, strings.NewReplacer("CDEV", "lo", "SDEV", "eth9").Replace(rules))
		}
		write(name, h)
	}
	for _, c := range tables {
		h := l.Host("i" + c.name)
		w := &world{t: t, r: h, sDev: "wan1", cDev: "wan0"}
		w.tables("iptables-nft", c.rules)
		write("iptables-"+c.name, h)
	}
}
