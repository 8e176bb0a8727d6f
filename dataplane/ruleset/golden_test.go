package ruleset_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/dataplane/ruleset"
	"linkspan/internal/golden"
)

func dump(t testing.TB, path string) *ruleset.Ruleset {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := ruleset.ReadMessages(f)
	if err != nil {
		t.Fatal(err)
	}
	return ruleset.Build(all)
}

// TestGolden decodes what a kernel said (dataplane/live, TestRecord) and writes it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dump")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			var b bytes.Buffer
			if err := dump(t, f).WriteText(&b); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, strings.TrimSuffix(f, ".dump")+".nft", b.String())
		})
	}
}

func TestMessages(t *testing.T) {
	all := []ruleset.Message{{What: "table", Family: 1, Body: []byte{1, 2, 3}}, {What: "rule", Family: 10, Body: []byte{4}}}
	var b bytes.Buffer
	if err := ruleset.WriteMessages(&b, all); err != nil {
		t.Fatal(err)
	}
	got, err := ruleset.ReadMessages(&b)
	if err != nil || len(got) != 2 || got[1].Family != 10 || !bytes.Equal(got[0].Body, all[0].Body) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"table", "table 1 zz", "table x 00", "table 300 00", "a b c d"} {
		if _, err := ruleset.ReadMessages(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
