package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAtWork(t *testing.T) {
	id := strings.Repeat("ab", 32)
	proc := t.TempDir()
	for pid, args := range map[string][]string{
		"10": {"/usr/bin/containerd-shim-runc-v2", "-namespace", "linkspan", "-id", id, "-address", "/x"},
		"11": {"/usr/bin/containerd-shim-runc-v2", "-namespace", "linkspan", "-id", strings.Repeat("cd", 32)},
		"12": {"runc", "--root", "/run/runc", "create", "--bundle", "/x/" + id, id},
		"13": {"docker", "wait", id},
		"14": {""},
		"me": {"runc", id},
	} {
		if err := os.MkdirAll(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "cmdline"), []byte(strings.Join(args, "\x00")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := atWork(proc, id)
	slices.Sort(got)
	if !slices.Equal(got, []int{10, 12}) {
		t.Errorf("at work: %v", got)
	}
}
