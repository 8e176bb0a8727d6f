package volume

import (
	"os"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root; owners and device nodes cannot be made: run the tests with sudo")
	}
}
