package golden_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/golden"
)

// listener keeps what a test says, and goes on.
type listener struct {
	testing.TB
	said []string
}

func (l *listener) Helper()                   {}
func (l *listener) Errorf(f string, a ...any) { l.said = append(l.said, fmt.Sprintf(f, a...)) }
func (l *listener) Fatalf(f string, a ...any) { l.Errorf(f, a...); panic(l) }

func TestCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "file")
	golden.Write(t, path, []byte("one\ntwo\n"))
	golden.Compare(t, path, "one\ntwo\n")
	l := &listener{TB: t}
	golden.Compare(l, path, "one\nthree\n")
	if len(l.said) != 1 || !strings.Contains(l.said[0], "- two\n+ three\n") {
		t.Errorf("%q", l.said)
	}
	defer func() {
		if recover() != l || len(l.said) != 2 || !strings.Contains(l.said[1], "-update") {
			t.Errorf("a file that is not there: %q", l.said)
		}
	}()
	golden.Compare(l, path+"s", "")
}
