package why

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented: docs/why.md has every code, and no other.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for l := range strings.Lines(string(b)) {
		if code, ok := strings.CutPrefix(l, "| `"); ok {
			code, _, _ = strings.Cut(code, "`")
			told[code] = true
		}
	}
	for _, m := range Meanings {
		if !told[string(m.Code)] {
			t.Errorf("docs/why.md does not tell of %s: %s", m.Code, m.Text)
		}
		delete(told, string(m.Code))
	}
	for code := range told {
		t.Errorf("docs/why.md tells of %s, which is no code", code)
	}
}
