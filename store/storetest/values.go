package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/store"
)

func putGetDelete(t *testing.T, s store.Store) {
	r1 := commit(t, s, put("a", "1"), put("b", ""))
	if e, ok := get(t, s, "a"); !ok || string(e.Value) != "1" || e.Rev != r1 {
		t.Errorf("a = %+v, %v", e, ok)
	}
	if e, ok := get(t, s, "b"); !ok || e.Value == nil || len(e.Value) != 0 {
		t.Errorf("an empty value comes back as %+v, %v", e, ok)
	}
	r2 := commit(t, s, put("a", "2"))
	if e, _ := get(t, s, "a"); string(e.Value) != "2" || e.Rev != r2 {
		t.Errorf("a = %+v", e)
	}
	commit(t, s, del("a"))
	if _, ok := get(t, s, "a"); ok {
		t.Error("a is still there")
	}
	r3 := commit(t, s, put("a", "3"))
	if e, _ := get(t, s, "a"); string(e.Value) != "3" || e.Rev != r3 {
		t.Errorf("a = %+v", e)
	}
}

func valuesAreCopies(t *testing.T, s store.Store) {
	v := []byte("one")
	commit(t, s, store.Op{Key: "a", Value: v})
	copy(v, "XXX")
	e, _ := get(t, s, "a")
	if string(e.Value) != "one" {
		t.Fatalf("the store kept the caller's slice: %q", e.Value)
	}
	copy(e.Value, "YYY")
	list, _, _ := s.List(t.Context(), "a")
	copy(list[0].Value, "ZZZ")
	if e, _ := get(t, s, "a"); string(e.Value) != "one" {
		t.Fatalf("the store gave out its own slice: %q", e.Value)
	}
}

func list(t *testing.T, s store.Store) {
	for _, k := range []string{"net/b", "net/a", "nets", "net", "ne", "net/\xff", "sandboxes/1", "net/a/x", "\x00", "ünet/"} {
		commit(t, s, put(k, k))
	}
	for prefix, want := range map[string][]string{
		"net/":  {"net/a", "net/a/x", "net/b", "net/\xff"},
		"net":   {"net", "net/a", "net/a/x", "net/b", "net/\xff", "nets"},
		"net/a": {"net/a", "net/a/x"},
		"x":     nil,
		"":      {"\x00", "ne", "net", "net/a", "net/a/x", "net/b", "net/\xff", "nets", "sandboxes/1", "ünet/"},
	} {
		if got := keys(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("List(%q) = %q, want %q", prefix, got, want)
		}
	}
}

func (tr Traits) bigValues(t *testing.T, s store.Store) {
	for _, n := range []int{1, 4095, 4096, 4097, 1 << 16, 1<<20 + 1} {
		if tr.MaxBytes > 0 && n > tr.MaxBytes {
			continue
		}
		v := bytes.Repeat([]byte{byte(n), 7}, n/2+1)
		commit(t, s, store.Op{Key: "big", Value: v}, put("small", "x"))
		if e, _ := get(t, s, "big"); !bytes.Equal(e.Value, v) {
			t.Errorf("%d bytes do not come back", len(v))
		}
	}
	var ops []store.Op
	for i := range 500 {
		ops = append(ops, store.Op{Key: fmt.Sprintf("many/%04d", i), Value: bytes.Repeat([]byte{'m'}, 1000)})
	}
	tr.fill(t, s, ops)
	if got := len(keys(t, s, "many/")); got != 500 {
		t.Errorf("%d of 500 keys", got)
	}
}

// tooMuch: what is too large for one commit is refused whole; what just fits is taken.
func (tr Traits) tooMuch(t *testing.T, s store.Store) {
	if tr.MaxOps > 0 {
		var ops []store.Op
		for i := range tr.MaxOps + 1 {
			ops = append(ops, put(fmt.Sprint("k", i), "x"))
		}
		if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%d operations: %v", len(ops), err)
		}
		commit(t, s, ops[1:]...)
		if got := len(keys(t, s, "")); got != tr.MaxOps {
			t.Errorf("%d keys of %d", got, tr.MaxOps)
		}
	}
	if tr.MaxBytes > 0 {
		if _, err := s.Commit(t.Context(), put("big", strings.Repeat("x", tr.MaxBytes+1))); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%d bytes: %v", tr.MaxBytes+1, err)
		}
		if _, ok := get(t, s, "big"); ok {
			t.Error("it was written")
		}
	}
}
