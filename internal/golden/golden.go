// Package golden compares what a test got with a file that a person has read: `go test
// PACKAGE -update` writes the files, and git shows what changed.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"linkspan/internal/lab"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// Update says whether files are to be written, for tests that keep them in a form of
// their own.
func Update() bool { return *update }

// Compare holds got to the file at path.
func Compare(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		Write(t, path, []byte(got))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it):\n%s", path, lab.Differ(string(want), got))
	}
}

// Write makes the file, with its folder.
func Write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
