package ctdtest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestStartLeavesNothing(t *testing.T) {
	var dir string
	t.Run("use", func(t *testing.T) {
		s := New(t)
		dir = s.Dir
		c := s.Client()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := c.Version(ctx); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		s.Run()
		if _, err := c.Version(ctx); err != nil {
			t.Fatalf("after a restart: %v", err)
		}
	})
	if dir == "" {
		return // skipped
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(b), dir) {
		t.Errorf("mounts below %s are left", dir)
	}
}
