package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/probe"
	"linkspan/store"
	"linkspan/store/mem"
)

func memory(t *testing.T) store.Store {
	st := mem.New(mem.Options{})
	t.Cleanup(func() { st.Close() })
	return st
}

// disk is a small filesystem.
func disk(t *testing.T, size string) string {
	t.Helper()
	probe.Require(t, probe.Root)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so many bytes free.
func fill(t *testing.T, dir string, leave int64) (undo func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for range 20 { // etcd takes room meanwhile
		room, err := free(dir)
		if err != nil {
			t.Fatal(err)
		}
		if room <= leave+4096 {
			break
		}
		if err := unix.Fallocate(int(f.Fd()), 0, size, room-leave); err == nil {
			size += room - leave
		}
	}
	return func() { os.Remove(f.Name()) }
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestAlmostFull: a lone member takes no writes before its disk is full, can be read, and
// takes them again by itself when there is room.
func TestAlmostFull(t *testing.T) {
	t.Parallel()
	dir := disk(t, "256m")
	c, said := config(t, "a")
	c.Dir = filepath.Join(dir, "etcd")
	s := start(t, c)
	kv := client(t, c.ClientURL())
	put(t, kv, "k", "1")
	undo := fill(t, dir, 10<<20)
	eventually(t, "writes are refused", func() bool {
		_, err := kv.Put(within(t, time.Minute), "k", "2")
		return errors.Is(err, rpctypes.ErrNoSpace)
	})
	st := s.Status()
	if st.Err != nil || len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0], "has no room") || st.Free > 20<<20 {
		t.Errorf("%+v", st)
	}
	if v := get(t, kv, "k"); v == "" {
		t.Error("it cannot be read")
	}
	cl, err := NewCluster(ClusterConfig{Endpoints: []string{c.ClientURL()}})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	hs, err := cl.Health(within(t, time.Minute))
	if err != nil || len(hs) != 1 || len(hs[0].Alarms) != 1 || hs[0].Alarms[0] != st.Alarms[0] {
		t.Errorf("%+v %v", hs, err)
	}
	if !strings.Contains(said.String(), "the data folder is almost full") {
		t.Errorf("nothing was said:\n%s", said)
	}
	undo()
	eventually(t, "writes are taken again", func() bool {
		_, err := kv.Put(within(t, time.Minute), "k", "3")
		return err == nil
	})
	if st := s.Status(); len(st.Alarms) != 0 {
		t.Errorf("%+v", st)
	}
}

// TestFull: a disk that is full ends etcd's own process. This one goes on, says what is
// wrong, and has the member again when there is room: nothing that was acknowledged is
// lost.
func TestFull(t *testing.T) {
	dir := disk(t, "256m")
	c, said := config(t, "a")
	c.Dir, c.Room = filepath.Join(dir, "etcd"), 1
	s := start(t, c)
	kv := client(t, c.ClientURL())
	undo := fill(t, dir, 0)
	last := ""
	big := strings.Repeat("x", 200_000)
	quietly(t, func() {
		eventually(t, "the member fails", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			n := fmt.Sprint(time.Now().UnixNano())
			if _, err := kv.Put(ctx, "big"+n, big+n); err == nil {
				last = n
			}
			return s.Failed() != nil
		})
	})
	err := s.Failed()
	if !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), "its data folder "+c.Dir+" is full") {
		t.Errorf("%v", err)
	}
	if st := s.Status(); st.Err == nil || st.Leader != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Snapshot(context.Background(), nil); err == nil {
		t.Error("a backup of a member that does not run")
	}
	undo()
	eventually(t, "the member runs again", func() bool { return s.Failed() == nil })
	eventually(t, "it takes writes", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := kv.Put(ctx, "k", "1")
		return err == nil
	})
	if last != "" {
		if v := get(t, kv, "big"+last); v != big+last {
			t.Errorf("what was acknowledged last is %d bytes", len(v))
		}
	}
	s.Stop()
	if t.Failed() {
		t.Log(said)
	}
	// Nothing of the first run holds the files any more: the filesystem can be unmounted.
	if held := open(t, dir); len(held) > 0 {
		t.Errorf("still open: %v", held)
	}
}

func open(t *testing.T, dir string) (held []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir) {
			held = append(held, to)
		}
	}
	return held
}

// TestNoRoom: where a member does not fit none is begun.
func TestNoRoom(t *testing.T) {
	c, _ := config(t, "a")
	c.Dir = filepath.Join(disk(t, "64m"), "etcd")
	if _, err := Open(context.Background(), c); !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), "has room for 64 MiB, and a member needs 160 MiB") {
		t.Errorf("%v", err)
	}
}

// TestQuota: a database that is full of history makes room by itself.
func TestQuota(t *testing.T) {
	t.Parallel()
	c, _ := config(t, "a")
	c.Quota = 8 << 20
	s := start(t, c)
	kv := client(t, c.ClientURL())
	big := strings.Repeat("x", 200_000)
	full := false
	for range 200 {
		if _, err := kv.Put(within(t, time.Minute), "same", big); errors.Is(err, rpctypes.ErrNoSpace) {
			full = true
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatalf("the quota was never reached: %+v", s.Status())
	}
	eventually(t, "writes are taken again", func() bool {
		_, err := kv.Put(within(t, time.Minute), "same", "small")
		return err == nil
	})
	if st := s.Status(); st.DBSize > c.Quota || len(st.Alarms) != 0 {
		t.Errorf("%+v", st)
	}
}

// TestOneOfThreeFull: a full disk of one member is that member's matter. The others take
// writes, and it catches up by itself.
func TestOneOfThreeFull(t *testing.T) {
	dir := disk(t, "256m")
	cs, ss, _ := three(t, func(cs *[3]Config) { cs[2].Dir = filepath.Join(dir, "etcd") })
	kv := client(t, cs[0].ClientURL(), cs[1].ClientURL())
	undo := fill(t, dir, 0)
	big, n := strings.Repeat("x", 200_000), 0
	eventually(t, "the third fails", func() bool {
		// Each is taken; where the third leads, after the others have elected another.
		if _, err := kv.Put(within(t, time.Minute), fmt.Sprintf("big%03d", n), big); err == nil {
			n++
		} else {
			t.Log(err)
		}
		return ss[2].Failed() != nil
	})
	if ss[0].Failed() != nil || ss[1].Failed() != nil || len(ss[0].Status().Alarms) > 0 {
		t.Errorf("%+v %+v", ss[0].Status(), ss[1].Status())
	}
	for range 20 {
		eventually(t, "the others take it", func() bool {
			_, err := kv.Put(within(t, time.Minute), fmt.Sprintf("big%03d", n), "small")
			return err == nil
		})
		n++
	}
	undo()
	eventually(t, "the third runs again", func() bool { return ss[2].Failed() == nil })
	third := client(t, cs[2].ClientURL())
	eventually(t, "it has caught up", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r, err := third.Get(ctx, fmt.Sprintf("big%03d", n-1))
		return err == nil && len(r.Kvs) == 1
	})
	for _, s := range ss {
		s.Stop()
	}
	// The run that failed is no more: it does not speak to the others beside the new one.
	eventually(t, "the failed run is quiet", func() bool {
		b := make([]byte, 4<<20)
		b = b[:runtime.Stack(b, true)]
		return !strings.Contains(string(b), "rafthttp.(*streamReader).run")
	})
}
