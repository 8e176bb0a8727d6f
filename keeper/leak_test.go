package keeper

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// openFiles counts this process's descriptors, the poller's own aside.
func openFiles(t testing.TB) int {
	t.Helper()
	return len(fileList(t, os.Getpid()))
}

func fileList(t testing.TB, pid int) []string {
	t.Helper()
	var out []string
	links, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || strings.HasPrefix(to, "anon_inode:") {
			continue
		}
		out = append(out, to)
	}
	return out
}

// eventually waits for cond.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
