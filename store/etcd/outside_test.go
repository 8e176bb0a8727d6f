package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"linkspan/cnm"
	"linkspan/internal/lab"
	"linkspan/probe"
	"linkspan/store"
)

// outside is an etcd that is not ours: Debian's program, which can be killed and started
// again on the same data.
type outside struct {
	t    testing.TB
	args []string // a wrapper before it, if any, is the test's
	addr string   // of its clients
	cmd  *exec.Cmd
	log  string
}

func newOutside(t testing.TB, wrap []string, dir string, extra ...string) *outside {
	t.Helper()
	probe.Require(t, probe.Etcd)
	ports := free(2)
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	o := &outside{t: t, addr: fmt.Sprintf("127.0.0.1:%d", ports[0]), log: filepath.Join(t.TempDir(), "etcd.log")}
	o.args = append(append(wrap, "etcd", "--name", "one", "--data-dir", dir,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer), extra...)
	t.Cleanup(func() {
		if o.cmd != nil {
			o.kill()
		}
		if t.Failed() {
			b, _ := os.ReadFile(o.log)
			t.Logf("etcd's last words:\n%s", b[max(0, len(b)-3000):])
		}
	})
	return o
}

func (o *outside) start() {
	o.t.Helper()
	log, err := os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		o.t.Fatal(err)
	}
	defer log.Close()
	o.cmd = exec.Command(o.args[0], o.args[1:]...)
	o.cmd.Stdout, o.cmd.Stderr = log, log
	if err := begin(o.cmd); err != nil {
		o.t.Fatal(err)
	}
}

// onThread runs functions on a thread that lasts as long as this process.
var onThread = sync.OnceValue(func() chan<- func() {
	todo := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range todo {
			f()
		}
	}()
	return todo
})

// begin starts a command that is killed when this process ends: what prctl(2) looks at is
// the end of the thread that began it, and Go's come and go.
func begin(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := make(chan error)
	onThread() <- func() { began <- c.Start() }
	return <-began
}

func (o *outside) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
	o.cmd = nil
}

// eventually calls do until it succeeds, for a while.
func eventually(t testing.TB, limit time.Duration, do func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		err := do()
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > limit {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func get(s store.Store, key string) error {
	_, _, err := s.Get(context.Background(), key)
	return err
}

func TestOutside(t *testing.T) {
	t.Parallel()
	o := newOutside(t, nil, t.TempDir())
	o.start()
	eventually(t, time.Minute, func() error { return get(open(t, Options{Endpoints: []string{o.addr}}), "a") })
	suite(t, o.addr)
}

// TestKilledAndBack: a server that is killed and comes back at once is followed on
// without a gap; one that stays away is told, and found again without a hand.
func TestKilledAndBack(t *testing.T) {
	t.Parallel()
	o := newOutside(t, nil, t.TempDir())
	o.start()
	s := open(t, Options{Endpoints: []string{o.addr}, Prefix: "/x/"})
	eventually(t, time.Minute, func() error { return get(s, "a") })
	var ch <-chan store.Event
	var lost <-chan struct{}
	for try := 1; ; try++ {
		first := commit(t, s, put("a", fmt.Sprint("before ", try)))
		var err error
		if ch, err = s.Watch(t.Context(), "", first); err != nil {
			t.Fatal(err)
		}
		if lost, err = s.Hold(t.Context(), put(fmt.Sprint("alive ", try), "x"), 6*time.Second); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		o.kill()
		o.start()
		eventually(t, time.Minute, func() error { _, err := s.Commit(t.Context(), put("a", "2")); return err })
		away := time.Since(killed)
		t.Logf("writes again %v after the kill", away.Round(10*time.Millisecond))
		if away > grace/2 && try < 5 {
			continue // this machine has other work: that was not at once
		}
		if away > grace/2 {
			t.Log("too slow to tell a short absence from a long one")
			break
		}
		for seen := false; !seen; {
			select {
			case e, ok := <-ch:
				if !ok {
					t.Fatal("the watch ended although the server was back at once")
				}
				seen = e.Key == "a" && string(e.Value) == "2"
			case <-time.After(time.Minute):
				t.Fatal("the watch does not go on")
			}
		}
		select {
		case <-lost:
			t.Fatal("the held key was lost although the server was back at once")
		default:
		}
		break
	}

	o.kill()
	begun := time.Now()
	for range ch {
	}
	if d := time.Since(begun); d > 30*time.Second {
		t.Errorf("the watch of a server that is away ended after %v", d)
	}
	begun = time.Now()
	_, err := s.Commit(t.Context(), put("a", "3"))
	if d := time.Since(begun); d > 30*time.Second || !errors.Is(err, cnm.ErrUnavailable) || errors.Is(err, store.ErrUnclear) {
		t.Errorf("a commit while it is away: %v after %v", err, d)
	}
	if h := s.Health(); h.OK || h.Err == nil {
		t.Errorf("health: %+v", h)
	}
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Error("the held key is not told to be lost, beyond its ttl")
	}
	o.start()
	t.Logf("found again after %v", eventually(t, time.Minute, func() error { return get(s, "a") }).Round(10*time.Millisecond))
	if h := s.Health(); !h.OK || h.Err != nil {
		t.Errorf("health: %+v", h)
	}
	if e, _, err := s.Get(t.Context(), "a"); err != nil || string(e.Value) != "2" {
		t.Errorf("a = %+v, %v", e, err)
	}
}

// TestCommitsTellTheTruth: a server is killed again and again while many write: what a
// commit answered is what is there, and what it did not know it said so.
func TestCommitsTellTheTruth(t *testing.T) {
	t.Parallel()
	o := newOutside(t, nil, t.TempDir())
	o.start()
	s := open(t, Options{Endpoints: []string{o.addr}, Prefix: "/x/"})
	eventually(t, time.Minute, func() error { return get(s, "a") })
	const workers = 6
	type outcome struct {
		key string
		err error
	}
	var mu sync.Mutex
	var all []outcome
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%d/%d", w, i)
				ctx, cancel := context.WithCancel(context.Background())
				if i%5 == 0 {
					time.AfterFunc(time.Duration(i%7)*time.Millisecond, cancel)
				}
				_, err := s.Commit(ctx, store.Op{Key: key, Value: []byte("x"), Guard: true})
				cancel()
				mu.Lock()
				all = append(all, outcome{key, err})
				mu.Unlock()
			}
		})
	}
	for range 5 {
		time.Sleep(400 * time.Millisecond)
		o.kill()
		o.start()
		eventually(t, time.Minute, func() error { return get(s, "a") })
	}
	close(stop)
	wg.Wait()
	entries, _, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Key] = true
	}
	counts := map[string]int{}
	for _, c := range all {
		switch {
		case c.err == nil:
			counts["written"]++
			if !there[c.key] {
				t.Errorf("%s was said to be written, and is not there", c.key)
			}
		case errors.Is(c.err, store.ErrUnclear):
			counts[fmt.Sprintf("unclear, there %v", there[c.key])]++
		case errors.Is(c.err, store.ErrCompare):
			t.Errorf("%s: compare failed, and nobody else writes it", c.key)
		default:
			counts["not written"]++
			if there[c.key] {
				t.Errorf("%s is there, and was said not to be: %v", c.key, c.err)
			}
		}
	}
	t.Logf("%v", counts)
	if counts["written"] == 0 {
		t.Error("nothing was written")
	}
}

// TestFull: etcd's quota is used up, in a folder that is small too.
func TestFull(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.Root, probe.Etcd)
	dir := t.TempDir()
	// etcd's log takes 64 MB at a time, whatever is in it.
	o := newOutside(t, []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=160m ls-etcd-full "$0" && exec "$@"`, dir}, filepath.Join(dir, "data"),
		"--quota-backend-bytes", "4194304")
	o.start()
	s := open(t, Options{Endpoints: []string{o.addr}, Prefix: "/x/"})
	eventually(t, time.Minute, func() error { return get(s, "a") })
	commit(t, s, put("keep", "1"))
	var err error
	n := 0
	for ; n < 100 && err == nil; n++ {
		_, err = s.Commit(t.Context(), put(fmt.Sprint("fill/", n), strings.Repeat("x", 200<<10)))
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, cnm.ErrExhausted) {
		t.Fatalf("after %d commits: %v", n, err)
	}
	t.Log(err)
	// Reads and deletes go on.
	if e, ok, err := s.Get(t.Context(), "keep"); err != nil || !ok || string(e.Value) != "1" {
		t.Fatalf("Get: %+v, %v, %v", e, ok, err)
	}
	if _, err := s.Commit(t.Context(), put("small", "x")); !errors.Is(err, store.ErrFull) {
		t.Errorf("a small commit: %v", err)
	}
	if _, err := s.Hold(t.Context(), put("alive", "x"), 5*time.Second); !errors.Is(err, store.ErrFull) {
		t.Errorf("Hold: %v", err)
	}
	if h := s.Health(); !h.OK {
		t.Errorf("a full store is not away: %+v", h)
	}
	for i := range n - 1 {
		if _, err := s.Commit(t.Context(), store.Op{Key: fmt.Sprint("fill/", i)}); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	// The cure that the error names.
	admin := raw(t, o.addr, nil)
	_, rev, err := s.List(t.Context(), "none")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Defragment(t.Context(), o.addr); err != nil {
		t.Fatal(err)
	}
	alarms, err := admin.AlarmList(t.Context())
	if err != nil || len(alarms.Alarms) == 0 || alarms.Alarms[0].Alarm != etcdserverpb.AlarmType_NOSPACE {
		t.Fatalf("alarms %v, %v", alarms, err)
	}
	for _, a := range alarms.Alarms {
		if _, err := admin.AlarmDisarm(t.Context(), (*clientv3.AlarmMember)(a)); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, s, put("small", "x"))
}

// TestStopped: a server that hangs with its connections open keeps no call longer than
// its deadline, and its watches end.
func TestStopped(t *testing.T) {
	t.Parallel()
	o := newOutside(t, nil, t.TempDir())
	o.start()
	s := open(t, Options{Endpoints: []string{o.addr}, Prefix: "/x/"})
	eventually(t, time.Minute, func() error { return get(s, "a") })
	ch, err := s.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if err := o.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		if !lab.Stopped(o.cmd.Process.Pid) {
			return errors.New("it runs on")
		}
		return nil
	})
	var wg sync.WaitGroup
	for name, do := range map[string]func() error{
		"Get":    func() error { return get(s, "a") },
		"Commit": func() error { _, err := s.Commit(context.Background(), put("a", "1")); return err },
		"Watch":  func() error { _, err := s.Watch(context.Background(), "", 0); return err },
	} {
		wg.Go(func() {
			begun := time.Now()
			err := do()
			if d := time.Since(begun); d > 30*time.Second || !errors.Is(err, cnm.ErrUnavailable) {
				t.Errorf("%s: %v after %v", name, err, d)
			}
			if errors.Is(err, store.ErrUnclear) != (name == "Commit") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	for range ch {
	}
	if d := time.Since(stopped); d > 30*time.Second {
		t.Errorf("the watch of a server that hangs ended after %v", d)
	}
	if err := o.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { return get(s, "a") })
	// What was unclear was written then, as the error said it might.
	if _, ok, err := s.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	} else {
		t.Logf("the unclear commit was written: %v", ok)
	}
}
