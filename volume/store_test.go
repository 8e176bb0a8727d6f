package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/events"
	"linkspan/store"
	"linkspan/store/mem"
)

type fakeUsers map[string][]string

func (f fakeUsers) VolumeUsers(name string) []string { return f[name] }

func open(t *testing.T, root string, st store.Store) (*Store, *events.Bus) {
	t.Helper()
	bus := events.New()
	s, err := New(t.Context(), Config{Root: root, Store: st, Events: bus})
	if err != nil {
		t.Fatal(err)
	}
	return s, bus
}

func fresh(t *testing.T) *Store {
	s, _ := open(t, filepath.Join(t.TempDir(), "volumes"), mem.New(mem.Options{}))
	return s
}

func create(t *testing.T, s *Store, name string) *Volume {
	t.Helper()
	v, err := s.Create(t.Context(), CreateRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLife(t *testing.T) {
	ctx := t.Context()
	start := time.Now()
	s, bus := open(t, filepath.Join(t.TempDir(), "volumes"), mem.New(mem.Options{}))
	v, err := s.Create(ctx, CreateRequest{Name: "db", Driver: "local", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(s.cfg.Root, "db", "_data"); v.Mountpoint != want {
		t.Errorf("mountpoint %s, want %s", v.Mountpoint, want)
	}
	if i, err := os.Stat(v.Mountpoint); err != nil || i.Mode().Perm() != 0o755 {
		t.Errorf("mountpoint: %v, %v", i, err)
	}
	if v.Anonymous() {
		t.Error("a named volume counts as anonymous")
	}
	// The name again gives the same volume, whatever else is asked.
	again, err := s.Create(ctx, CreateRequest{Name: "db", Labels: map[string]string{"x": "y"}})
	if err != nil || !reflect.DeepEqual(again.Labels, v.Labels) || !again.Created.Equal(v.Created) {
		t.Errorf("again: %+v, %v", again, err)
	}
	anon, err := s.Create(ctx, CreateRequest{})
	if err != nil || len(anon.Name) != 64 || !anon.Anonymous() {
		t.Errorf("anonymous: %+v, %v", anon, err)
	}
	all, err := s.List(ctx)
	if err != nil || len(all) != 2 {
		t.Fatalf("list: %v, %v", all, err)
	}
	if err := s.Remove(ctx, anon.Name, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(anon.Mountpoint)); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	_, err = s.Get(ctx, anon.Name)
	if !errors.Is(err, cnm.ErrNotFound) || err.Error() != "get "+anon.Name+": no such volume" {
		t.Errorf("get: %v", err)
	}
	if err := s.Remove(ctx, "nosuch", false); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("remove: %v", err)
	}
	if err := s.Remove(ctx, "nosuch", true); err != nil {
		t.Errorf("remove with force: %v", err)
	}
	past, _ := bus.Subscribe(ctx, start)
	var got []string
	for _, e := range past {
		got = append(got, e.Type+" "+e.Action+" "+e.ID)
	}
	want := []string{"volume create db", "volume create " + anon.Name, "volume destroy " + anon.Name}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestCreateRefuses(t *testing.T) {
	s := fresh(t)
	for _, c := range []struct {
		r     CreateRequest
		class error
		words string
	}{
		{CreateRequest{Name: "a"}, cnm.ErrInvalid, "create a: volume name is too short, names should be at least two alphanumeric characters"},
		{CreateRequest{Name: "a b"}, cnm.ErrInvalid, `create a b: "a b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{CreateRequest{Name: "../etc"}, cnm.ErrInvalid, "includes invalid characters"},
		{CreateRequest{Name: ".removing-x"}, cnm.ErrInvalid, "includes invalid characters"},
		{CreateRequest{Name: "a/b"}, cnm.ErrInvalid, "includes invalid characters"},
		{CreateRequest{Name: "ab\n"}, cnm.ErrInvalid, "includes invalid characters"},
		{CreateRequest{Name: strings.Repeat("a", 250)}, cnm.ErrInvalid, "250 characters"},
		{CreateRequest{Name: "vol", Driver: "rexray"}, cnm.ErrNotFound, `create vol: error looking up volume plugin rexray: plugin "rexray" not found`},
		{CreateRequest{Name: "vol", Options: map[string]string{"type": "nfs"}}, cnm.ErrInvalid, `missing required option: "device"`},
		{CreateRequest{Name: "vol", Options: map[string]string{"device": "/x"}}, cnm.ErrInvalid, `missing required option: "type"`},
		{CreateRequest{Name: "vol", Options: map[string]string{"size": "1g"}}, cnm.ErrUnsupported, `quota size`},
		{CreateRequest{Name: "vol", Options: map[string]string{"colour": "red"}}, cnm.ErrInvalid, `invalid option: "colour"`},
	} {
		_, err := s.Create(t.Context(), c.r)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	if all, _ := s.List(t.Context()); len(all) != 0 {
		t.Errorf("left behind: %v", all)
	}
	if entries, _ := os.ReadDir(s.cfg.Root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestInUse(t *testing.T) {
	ctx := t.Context()
	s := fresh(t)
	create(t, s, "db")
	s.SetUsers(fakeUsers{"db": {"cafe", "beef"}})
	for _, force := range []bool{false, true} {
		err := s.Remove(ctx, "db", force)
		if !errors.Is(err, cnm.ErrConflict) || err.Error() != "remove db: volume is in use - [beef, cafe]" {
			t.Errorf("force %v: %v", force, err)
		}
	}
	s.SetUsers(fakeUsers{})
	release := s.Hold("db", "newborn")
	release2 := s.Hold("db", "newborn")
	release()
	if err := s.Remove(ctx, "db", false); err == nil || err.Error() != "remove db: volume is in use - [newborn]" {
		t.Errorf("held: %v", err)
	}
	release2()
	release2() // twice does no harm
	if err := s.Remove(ctx, "db", false); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	s := fresh(t)
	create(t, s, "kept")
	create(t, s, "used")
	v := create(t, s, "gone")
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if size, err := s.Size(t.Context(), "gone"); err != nil || size < 100<<10 {
		t.Errorf("size %d, %v", size, err)
	}
	s.SetUsers(fakeUsers{"used": {"c1"}})
	removed, n, err := s.Prune(t.Context(), func(v *Volume) bool { return v.Name != "kept" })
	if err != nil || !reflect.DeepEqual(removed, []string{"gone"}) || n < 100<<10 {
		t.Errorf("pruned %v, %d bytes, %v", removed, n, err)
	}
}

// A crash at any step of a removal or a creation is repaired by the next New.
func TestRecover(t *testing.T) {
	root := filepath.Join(t.TempDir(), "volumes")
	st := mem.New(mem.Options{})
	s, _ := open(t, root, st)
	for _, n := range []string{"renamed", "committed", "nodir"} {
		v := create(t, s, n)
		if err := os.WriteFile(filepath.Join(v.Mountpoint, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, os.Rename(s.dir("renamed"), filepath.Join(root, removing+"00000001-renamed")))
	must(t, os.Rename(s.dir("committed"), filepath.Join(root, removing+"00000002-committed")))
	if _, err := st.Commit(t.Context(), store.Op{Key: prefix + "committed"}); err != nil {
		t.Fatal(err)
	}
	must(t, os.RemoveAll(s.dir("nodir")))
	must(t, os.MkdirAll(filepath.Join(root, "foreign", data), 0o755))

	s, _ = open(t, root, st)
	if _, err := os.Stat(filepath.Join(root, "renamed", data, "precious")); err != nil {
		t.Errorf("a removal that was not committed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, removing+"00000002-committed")); !os.IsNotExist(err) {
		t.Errorf("a committed removal left its files: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "nodir", data)); err != nil {
		t.Errorf("a volume without a folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "foreign", data)); err != nil {
		t.Errorf("an unknown folder was touched: %v", err)
	}
	if all, _ := s.List(t.Context()); len(all) != 2 {
		t.Errorf("volumes %v", all)
	}
}

type failing struct {
	store.Store
	fail error
}

func (f *failing) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	return f.Store.Commit(ctx, ops...)
}

func TestStoreFails(t *testing.T) {
	f := &failing{Store: mem.New(mem.Options{})}
	s, _ := open(t, filepath.Join(t.TempDir(), "volumes"), f)
	v := create(t, s, "db")
	must(t, os.WriteFile(filepath.Join(v.Mountpoint, "precious"), nil, 0o600))
	f.fail = store.ErrFull
	if err := s.Remove(t.Context(), "db", false); !errors.Is(err, cnm.ErrExhausted) {
		t.Errorf("remove: %v", err)
	}
	if _, err := os.Stat(filepath.Join(v.Mountpoint, "precious")); err != nil {
		t.Errorf("a removal that failed took the files: %v", err)
	}
	if _, err := s.Create(t.Context(), CreateRequest{Name: "more"}); !errors.Is(err, cnm.ErrExhausted) {
		t.Errorf("create: %v", err)
	}
	if _, err := os.Stat(s.dir("more")); !os.IsNotExist(err) {
		t.Errorf("a creation that failed left a folder: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	s := fresh(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := s.Create(t.Context(), CreateRequest{Name: "same"}); err != nil {
					t.Error(err)
				}
				if err := s.Remove(t.Context(), "same", true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entries, _ := os.ReadDir(s.cfg.Root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
