package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"linkspan/cnm"
	"linkspan/probe"
	"linkspan/store"
)

// small mounts a file system of a size.
func small(t *testing.T, size string) string {
	t.Helper()
	probe.Require(t, probe.Root)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	dir := small(t, "1m")
	s := open(t, filepath.Join(dir, "state.db"), Options{})
	ctx := context.Background()
	// Many at once: those that fit are done although they share a batch with what
	// does not.
	small := bytes.Repeat([]byte{'s'}, 1000)
	big := bytes.Repeat([]byte{'b'}, 2<<20)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if i%4 == 0 {
				_, err := s.Commit(ctx, store.Op{Key: fmt.Sprint("big/", i), Value: big})
				if !errors.Is(err, store.ErrFull) || !errors.Is(err, cnm.ErrExhausted) {
					t.Errorf("a big value: %v", err)
				}
				return
			}
			if _, err := s.Commit(ctx, store.Op{Key: fmt.Sprint("small/", i), Value: small}); err != nil {
				t.Errorf("a small value: %v", err)
			}
		})
	}
	wg.Wait()
	if l, _, err := s.List(ctx, ""); err != nil || len(l) != 15 {
		t.Fatalf("%d entries, %v", len(l), err)
	}

	n := 0
	var err error
	for ; err == nil && n < 2000; n++ {
		_, err = s.Commit(ctx, store.Op{Key: fmt.Sprint("fill/", n), Value: small}, store.Op{Key: "count", Value: []byte(fmt.Sprint(n))})
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, cnm.ErrExhausted) {
		t.Fatalf("after %d: %v", n, err)
	}
	for _, want := range []string{"cannot write state file " + dir + "/state.db", "no space left", "of 1 MiB free", "nothing was changed", "free some space in " + dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error misses %q:\n%v", want, err)
		}
	}
	// Nothing of the failed commit is there; reading goes on, and so does writing
	// when there is room.
	fills, rev, err := s.List(ctx, "fill/")
	if err != nil || len(fills) != n-1 {
		t.Fatalf("%d of %d, %v", len(fills), n-1, err)
	}
	if e, _, err := s.Get(ctx, "count"); err != nil || string(e.Value) != fmt.Sprint(n-2) {
		t.Errorf("count = %s, %v", e.Value, err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if r := commit(t, s, put("again", "1")); r != rev+1 {
		t.Errorf("revision %d after %d", r, rev)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, filepath.Join(dir, "state.db"), Options{})
	if l, _, err := s.List(ctx, "fill/"); err != nil || len(l) != n-1 {
		t.Errorf("after a restart: %d of %d, %v", len(l), n-1, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullByOthers: what was claimed at start is enough to go on removing.
func TestFullByOthers(t *testing.T) {
	dir := small(t, "8m")
	ctx := context.Background()
	s := open(t, filepath.Join(dir, "state.db"), Options{Reserve: 2 << 20})
	for i := range 100 {
		commit(t, s, store.Op{Key: fmt.Sprint("c/", i), Value: bytes.Repeat([]byte{'c'}, 4000)})
	}
	hog, err := os.Create(filepath.Join(dir, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	_ = hog.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := s.Commit(ctx, store.Op{Key: fmt.Sprint("c/", i)}, store.Op{Key: "removed", Value: []byte(fmt.Sprint(i))}); err != nil {
			t.Fatalf("removing the %dth: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFullAtStart(t *testing.T) {
	dir := small(t, "4k")
	if err := os.WriteFile(filepath.Join(dir, "hog"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(dir, "state.db"), Options{})
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), "cannot make state file") {
		t.Errorf("Open: %v", err)
	}
	if left, _ := filepath.Glob(dir + "/state*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestReadOnly(t *testing.T) {
	dir := small(t, "1m")
	path := filepath.Join(dir, "state.db")
	s := open(t, path, Options{})
	commit(t, s, put("a", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Join(dir, "other.db")} {
		_, err := Open(p, Options{})
		if !errors.Is(err, cnm.ErrUnavailable) || !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount the file system of "+dir+" writable") {
			t.Errorf("Open(%s): %v", p, err)
		}
	}
}

// TestDescribe: what the kernel can answer while a commit is written.
func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		err   error
		class error
		want  string
	}{
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, cnm.ErrExhausted, "free some space in /d"},
		{syscall.EDQUOT, cnm.ErrExhausted, "free some space in /d"},
		{fmt.Errorf("file resize error: %s", syscall.ENOSPC), store.ErrFull, "free some space in /d"},
		{syscall.EROFS, cnm.ErrUnavailable, "choose another --data-root"},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, cnm.ErrUnavailable, "run the daemon as root"},
		{syscall.EIO, cnm.ErrUnavailable, "cannot write state file /d/state.db: input/output error"},
	} {
		if err := describe("/d/state.db", "write", c.err); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// TestDamage changes a file in every way that a disk or a person might, and
// wants either the very state that was written, or a refusal that leaves the
// file as it is.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	s := open(t, path, Options{Reserve: 512 << 10})
	for i := range 60 {
		commit(t, s, store.Op{Key: fmt.Sprintf("k/%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 50*i)})
	}
	for i := range 20 {
		commit(t, s, store.Op{Key: fmt.Sprintf("k/%03d", 3*i)})
	}
	want, rev, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := 200 * 4096 // most of the file is a hole
	if used > len(good) {
		used = len(good)
	}

	r := rand.New(rand.NewPCG(1, 1))
	type change struct {
		name string
		data []byte
	}
	changes := []change{
		{"empty", nil},
		{"one byte", good[:1]},
		{"text", []byte("this is not a state file\n")},
		{"a page of zeros", make([]byte, 4096)},
		{"a megabyte of zeros", make([]byte, 1<<20)},
		{"a megabyte of noise", noise(r, 1<<20)},
	}
	for _, n := range []int{4095, 4096, 8191, 8192, 12288, 16384, 20000, 40960, 81920} {
		changes = append(changes, change{fmt.Sprint("cut at ", n), good[:n]})
	}
	for i := range 40 {
		p := i * 4096
		zero := bytes.Clone(good)
		clear(zero[p : p+4096])
		changes = append(changes, change{fmt.Sprint("page ", i, " zeroed"), zero})
		swap := bytes.Clone(good)
		q := r.IntN(40) * 4096
		copy(swap[p:p+4096], good[q:q+4096])
		changes = append(changes, change{fmt.Sprint("page ", i, " is page ", q/4096), swap})
		noisy := bytes.Clone(good)
		copy(noisy[p:p+4096], noise(r, 4096))
		changes = append(changes, change{fmt.Sprint("page ", i, " noise"), noisy})
	}
	for range 300 {
		flip := bytes.Clone(good)
		at := r.IntN(min(used, 40*4096))
		flip[at] ^= 1 << r.IntN(8)
		changes = append(changes, change{fmt.Sprint("bit flipped in byte ", at), flip})
	}
	refused := 0
	for _, c := range changes {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{Reserve: 512 << 10, CopyEvery: -1, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			refused++
			if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "left as it is") && !strings.Contains(err.Error(), "was left") {
				t.Errorf("%s: %v", c.name, err)
			}
			if now, e := os.ReadFile(path); e != nil || !bytes.Equal(now, c.data) {
				t.Errorf("%s: the refused file was changed (%v)", c.name, e)
			}
			continue
		}
		got, gotRev, err := s.List(t.Context(), "")
		// A meta page that is gone falls back to the one before: the last commit.
		if err == nil && gotRev != rev && gotRev != rev-1 {
			t.Errorf("%s: revision %d, want %d", c.name, gotRev, rev)
		}
		if err == nil && gotRev == rev {
			if len(got) != len(want) {
				t.Errorf("%s: %d entries, want %d", c.name, len(got), len(want))
			}
			for i := range min(len(got), len(want)) {
				if got[i].Key != want[i].Key || got[i].Rev != want[i].Rev || !bytes.Equal(got[i].Value, want[i].Value) {
					t.Errorf("%s: %s is another", c.name, got[i].Key)
					break
				}
			}
		}
		// Whatever was overlooked shows as an error, not as a crash.
		for i := range 10 {
			_, _ = s.Commit(t.Context(), put(fmt.Sprint("more/", i), "x"))
		}
		_ = s.Close()
	}
	t.Logf("%d of %d changes refused", refused, len(changes))
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestDamageNamesTheCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path, Options{CopyEvery: time.Millisecond})
	commit(t, s, put("a", "1"))
	for deadline := time.Now().Add(time.Minute); ; {
		if c, err := Open(copyPath(path), Options{CopyEvery: -1}); err == nil {
			_, ok, _ := c.Get(t.Context(), "a")
			_ = c.Close()
			if ok {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no copy was made")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, Options{})
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "the last good copy is "+copyPath(path)+" of 2") {
		t.Fatalf("Open: %v", err)
	}
	// The cure works as it is told.
	if err := os.Rename(copyPath(path), path); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if e, ok, err := s.Get(t.Context(), "a"); !ok || string(e.Value) != "1" {
		t.Errorf("a = %+v, %v", e, err)
	}
}

// TestDamageWhileOpen: a file that is cut under a running daemon ends in errors
// that say so, not in a crash.
func TestDamageWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path, Options{Log: slog.New(slog.DiscardHandler)})
	for i := range 300 {
		commit(t, s, store.Op{Key: fmt.Sprint("k/", i), Value: bytes.Repeat([]byte{'x'}, 1000)})
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.List(t.Context(), "")
	if !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("List: %v", err)
	}
	if _, err := s.Commit(t.Context(), put("a", "1")); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path, Options{})
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte{0, 0, 0, 0, 0, 0, 0, 9}) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, cnm.ErrUnavailable) || !strings.Contains(err.Error(), "use the Linkspan that wrote it") {
		t.Errorf("Open: %v", err)
	}
}
