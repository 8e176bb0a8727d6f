package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/probe"
	"linkspan/store"
)

// history is a store's file at its end, with what every key ever was.
type written struct {
	file, copy []byte
	// ever are the values a key has had, with nil when it was deleted; now are the last.
	ever map[string][][]byte
	now  map[string][]byte
	// atCopy is what the copy has.
	atCopy map[string][]byte
	rev    int64
}

func (w *written) set(t *testing.T, s *Store, key string, value []byte) {
	t.Helper()
	w.rev = commit(t, s, store.Op{Key: key, Value: value})
	w.ever[key] = append(w.ever[key], value)
	if w.now[key] = value; value == nil {
		delete(w.now, key)
	}
}

// write makes a file with several levels of pages, in the middle of whose life a good
// copy was made.
func write(t *testing.T, n int) *written {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path, Options{Reserve: -1})
	w := &written{ever: map[string][][]byte{}, now: map[string][]byte{}, atCopy: map[string][]byte{}}
	w.set(t, s, "daemon/id", []byte("0123456789"))
	value := func(i, of int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d.%d ", i, of), 10+i%40) }
	for i := range n {
		w.set(t, s, fmt.Sprintf("containers/%03d", i), value(i, 1))
		if i%5 == 0 {
			w.set(t, s, fmt.Sprintf("networks/%03d", i), value(i, 1))
		}
	}
	if _, err := s.copy(-1); err != nil {
		t.Fatal(err)
	}
	for k, v := range w.now {
		w.atCopy[k] = v
	}
	for i := range n / 3 {
		w.set(t, s, fmt.Sprintf("containers/%03d", 3*i), value(i, 2))
		w.set(t, s, fmt.Sprintf("containers/%03d", 3*i+1), nil)
		w.set(t, s, fmt.Sprintf("later/%03d", i), value(i, 1))
		if i%2 == 0 {
			w.set(t, s, fmt.Sprintf("later/%03d", i), nil)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, s.used); err != nil { // what is claimed ahead is nothing
		t.Fatal(err)
	}
	var err error
	if w.file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if w.copy, err = os.ReadFile(copyPath(path)); err != nil {
		t.Fatal(err)
	}
	return w
}

// damage in a given way, and whether a copy is there.
type damage struct {
	name string
	data []byte // nil: the file is gone
	copy []byte
}

// repairs a damaged file and looks at what came of it.
func (w *written) repairs(t *testing.T, dir string, d damage) (r *Repaired) {
	t.Helper()
	path := filepath.Join(dir, "state.db")
	for _, f := range []struct {
		path string
		data []byte
	}{{path, d.data}, {copyPath(path), d.copy}} {
		_ = os.Remove(f.path)
		if f.data != nil {
			if err := os.WriteFile(f.path, f.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	quiet := Options{Reserve: -1, CopyEvery: -1, Log: slog.New(slog.DiscardHandler)}
	refused := func() error {
		s, err := Open(path, quiet)
		if err == nil {
			_ = s.Close()
		}
		return err
	}()
	if refused != nil && !strings.Contains(refused.Error(), "linkspan doctor --repair-store --data-root "+dir) {
		t.Errorf("%s: the cure is not told: %v", d.name, refused)
	}
	r, err := Repair(path, time.Now(), nil)
	if err != nil {
		if !errors.Is(err, cnm.ErrUnavailable) || refused == nil || d.copy != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, d.data) {
			t.Errorf("%s: what cannot be repaired was changed", d.name)
		}
		return nil
	}
	if r.Sound != (refused == nil) {
		t.Errorf("%s: sound %v, and Open says %v", d.name, r.Sound, refused)
	}
	if !r.Sound && d.data != nil {
		if kept, err := os.ReadFile(r.Kept); err != nil || !bytes.Equal(kept, d.data) {
			t.Errorf("%s: the damaged file is not kept: %v", d.name, err)
		}
		_ = os.Remove(r.Kept)
	}
	s, err := Open(path, quiet)
	if err != nil {
		t.Errorf("%s: after the repair: %v", d.name, err)
		return r
	}
	defer s.Close()
	list, rev, err := s.List(t.Context(), "")
	if err != nil || len(list) != r.Records || uint64(rev) != r.Revision {
		t.Errorf("%s: %d records, revision %d, %v; the report says %d, %d", d.name, len(list), rev, err, r.Records, r.Revision)
	}
	if rev == w.rev-1 && r.Sound {
		return r // a meta page is gone: this is the commit before
	}
	in := func(key string) bool { return slices.ContainsFunc(r.Holes, func(h Range) bool { return h.has(key) }) }
	have := map[string]bool{}
	for _, e := range list {
		have[e.Key] = true
		old := slices.Contains(r.FromCopy, e.Key) || slices.Contains(r.FromPages, e.Key)
		switch {
		case !old && !bytes.Equal(w.now[e.Key], e.Value):
			t.Errorf("%s: %s is certain, and is not what it was last", d.name, e.Key)
		case old && !in(e.Key):
			t.Errorf("%s: %s is an older one's, and was in no hole", d.name, e.Key)
		case old && !slices.ContainsFunc(w.ever[e.Key], func(v []byte) bool { return bytes.Equal(v, e.Value) }):
			t.Errorf("%s: %s was never that", d.name, e.Key)
		}
	}
	for k := range w.now {
		if _, was := w.atCopy[k]; !have[k] && (!in(k) || was && d.copy != nil) {
			t.Errorf("%s: %s is lost, and the holes are %v", d.name, k, r.Holes)
		}
	}
	return r
}

// TestRepair damages a file in every way that a disk might, with and without a copy.
func TestRepair(t *testing.T) {
	w := write(t, 120)
	dir := t.TempDir()
	page := os.Getpagesize()
	pages := len(w.file) / page
	r := rand.New(rand.NewPCG(7, 7))
	var all []damage
	add := func(data []byte, format string, args ...any) {
		name := fmt.Sprintf(format, args...)
		all = append(all, damage{name, data, w.copy}, damage{name + ", no copy", data, nil})
	}
	all = append(all, damage{"gone", nil, w.copy})
	add([]byte{}, "empty")
	add([]byte("this is not a state file\n"), "text")
	add(make([]byte, len(w.file)), "zeros")
	for n := 100; n < len(w.file); n += len(w.file)/60 + 13 {
		add(w.file[:n], "cut at %d", n)
	}
	for p := range pages {
		zero := bytes.Clone(w.file)
		clear(zero[p*page : (p+1)*page])
		add(zero, "page %d zeroed", p)
		half := bytes.Clone(w.file)
		copy(half[p*page+512:(p+1)*page], noise(r, page-512))
		add(half, "page %d noise behind 512", p)
		q := r.IntN(pages)
		swap := bytes.Clone(w.file)
		copy(swap[p*page:(p+1)*page], w.file[q*page:])
		add(swap, "page %d is page %d", p, q)
		for _, at := range []int{0, 8, 10, 12, 16, 20, 24, 28, 36} { // heads and first elements
			flip := bytes.Clone(w.file)
			flip[p*page+at] ^= 1 << r.IntN(3)
			add(flip, "bit flipped in page %d at %d", p, at)
		}
	}
	both := bytes.Clone(w.file)
	clear(both[:2*page])
	add(both, "both metas zeroed")
	for range 200 {
		flip := bytes.Clone(w.file)
		at := r.IntN(len(flip))
		flip[at] ^= 1 << r.IntN(8)
		add(flip, "bit flipped at %d", at)
	}
	sound, whole, partly, none := 0, 0, 0, 0
	for _, d := range all {
		switch r := w.repairs(t, dir, d); {
		case t.Failed():
			return
		case r == nil:
			none++
		case r.Sound:
			sound++
		case r.Complete():
			whole++
		default:
			partly++
		}
	}
	t.Logf("%d damages: %d did no harm, %d mended without loss, %d with holes filled as far as possible, %d hopeless (and no copy)", len(all), sound, whole, partly, none)
}

// TestRepairRefuses: while a process has the file, and on a disk that is full or read-only.
func TestRepairRefuses(t *testing.T) {
	w := write(t, 30)
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path, Options{})
	if _, err := Repair(path, time.Now(), nil); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("beside a process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	probe.Require(t, probe.Root)
	dir := small(t, "4m")
	path = filepath.Join(dir, "state.db")
	cut := w.file[:len(w.file)/2]
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(path, time.Now(), nil); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "remount") {
		t.Errorf("read-only: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	hog, err := os.Create(filepath.Join(dir, "hog"))
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	_ = hog.Close()
	if _, err := Repair(path, time.Now(), nil); !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("full: %v", err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, cut) {
		t.Error("a repair that failed has changed the file")
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	if err := os.Remove(hog.Name()); err != nil {
		t.Fatal(err)
	}
	if r, err := Repair(path, time.Now(), nil); err != nil || r.Records == 0 {
		t.Errorf("with room again: %+v, %v", r, err)
	}
}

// TestGone: a file that is gone while its copy is there is not made anew.
func TestGone(t *testing.T) {
	w := write(t, 30)
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(copyPath(path), w.copy, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "is gone: "+path) {
		t.Errorf("Open: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it was made anew")
	}
	added := store.Entry{Key: "daemon/id", Value: []byte("another")}
	r, err := Repair(path, time.Now(), func(have map[string]store.Entry) []store.Entry {
		if string(have["daemon/id"].Value) != "0123456789" {
			t.Errorf("have %v", have["daemon/id"])
		}
		return []store.Entry{added}
	})
	if err != nil || len(r.FromCopy) != len(w.atCopy) || r.Kept != "" || r.CopyTime.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	s := open(t, path, Options{})
	if e, _, err := s.Get(t.Context(), "daemon/id"); err != nil || string(e.Value) != "another" || e.Rev != int64(r.Revision) {
		t.Errorf("%+v, %v", e, err)
	}
}

func FuzzElements(f *testing.F) {
	f.Add(make([]byte, 64), true)
	f.Fuzz(func(t *testing.T, p []byte, leaf bool) {
		elements(p, leaf, 4096)
		dig(&image{data: p, page: 64}, false).stray()
	})
}
