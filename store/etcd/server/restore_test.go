package server

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	c, _ := config(t, "a")
	s := start(t, c)
	kv := client(t, c.ClientURL())
	for i := range 50 {
		put(t, kv, fmt.Sprintf("k%02d", i), strings.Repeat("v", 100))
	}
	put(t, kv, "last", "1")
	rev := s.Status().Revision
	cl, err := NewCluster(ClusterConfig{Endpoints: []string{"http://127.0.0.1:1", c.ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	var own, asked bytes.Buffer
	if err := s.Snapshot(within(t, time.Minute), &own); err != nil {
		t.Fatal(err)
	}
	// One of the members that are known is gone: another one gives it.
	if err := cl.Snapshot(within(t, time.Minute), &asked); err != nil {
		t.Fatal(err)
	}
	put(t, kv, "last", "2")
	s.Stop()

	dir := t.TempDir()
	for name, b := range map[string][]byte{"own": own.Bytes(), "asked": asked.Bytes()} {
		file := filepath.Join(dir, name+".db")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _ := config(t, "b") // another name, another address
		if err := Restore(within(t, time.Minute), r, file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := start(t, r)
		kv := client(t, r.ClientURL())
		if v := get(t, kv, "last"); v != "1" {
			t.Errorf("%s: last is %q", name, v)
		}
		if v := get(t, kv, "k49"); len(v) != 100 {
			t.Errorf("%s: k49 is %q", name, v)
		}
		// No host can take a revision for one that it has seen.
		if st := s.Status(); st.Revision < rev+bump || st.Members != 1 {
			t.Errorf("%s: %+v, it was at %d", name, st, rev)
		}
		put(t, kv, "last", "3")
		if name == "asked" {
			continue
		}
		// It can have others again.
		cl, _ := NewCluster(ClusterConfig{Endpoints: []string{r.ClientURL()}})
		defer cl.Close()
		other, _ := config(t, "c")
		promote(t, cl, &other)
		if v := get(t, client(t, other.ClientURL()), "last"); v != "3" {
			t.Errorf("%s: the second member says %q", name, v)
		}
	}
}

// TestBadBackup: what is no backup says so, and leaves nothing; nor is a word on stderr.
func TestBadBackup(t *testing.T) {
	c, _ := config(t, "a")
	s := start(t, c)
	var own bytes.Buffer
	if err := s.Snapshot(within(t, time.Minute), &own); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	dir := t.TempDir()
	whole := own.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"cut":     {whole[:len(whole)-4096], "damaged or no backup"},
		"flipped": {flipped, "damaged or no backup"},
		"empty":   {nil, "damaged or no backup"},
		"text":    {[]byte(strings.Repeat("not a backup\n", 1000)), "damaged or no backup"},
		"no sum":  {whole[:len(whole)-32], "damaged or no backup"},
		"zeros":   {make([]byte, 8192+32), "damaged or no backup"},
	} {
		file := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(file, tt.b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _ := config(t, "b")
		var err error
		quietly(t, func() {
			err = Restore(within(t, time.Minute), r, file)
		})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "bad.db") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(r.Dir)); len(left) != 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
	file := filepath.Join(dir, "own.db")
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	quietly(t, func() {
		good, _ := config(t, "b")
		if err := Restore(within(t, time.Minute), good, file); err != nil {
			t.Error(err)
		}
	})
	r, _ := config(t, "b")
	if err := Restore(within(t, time.Second), r, filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	r.Dir = c.Dir
	if err := Restore(within(t, time.Second), r, filepath.Join(dir, "own.db")); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Error(err)
	}
}
