package bolt

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"linkspan/store"
)

// The killed child is this test binary again, told by its environment.
const (
	envKill  = "LINKSPAN_BOLT_KILL"       // the file
	envPoint = "LINKSPAN_BOLT_KILL_POINT" // the hook point at which it kills itself
	workers  = 4
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envKill); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child commits until it is killed, and prints each commit once it is answered.
// Worker w's n-th commit sets count/w and mirror/w to n, adds log/w/n, and
// removes log/w/(n-50).
func child(path string) {
	n := 0
	var mu sync.Mutex
	hook := func(point string) {
		if point != os.Getenv(envPoint) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 20 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	s, err := Open(path, Options{Hook: hook, CopyEvery: 2 * time.Millisecond})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for w := range workers {
		go func() {
			key := fmt.Sprint("count/", w)
			e, _, err := s.Get(context.Background(), key)
			var n int
			_, _ = fmt.Sscan(string(e.Value), &n)
			rev := e.Rev
			for err == nil {
				n++
				v := []byte(fmt.Sprint(n))
				rev, err = s.Commit(context.Background(),
					store.Op{Key: key, Value: v, Guard: true, IfRev: rev},
					store.Op{Key: fmt.Sprint("mirror/", w), Value: v},
					store.Op{Key: fmt.Sprintf("log/%d/%09d", w, n), Value: bytes.Repeat([]byte{'x'}, 300*(n%20))},
					store.Op{Key: fmt.Sprintf("log/%d/%09d", w, n-50)},
				)
				fmt.Printf("done %d %d %d\n", w, n, rev)
			}
			fmt.Println("error", err)
			os.Exit(1)
		}()
	}
	select {}
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	answered := make([]int, workers)
	var revAnswered int64
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envKill+"="+path)
		switch round % 3 {
		case 1:
			cmd.Env = append(cmd.Env, envPoint+"=store.count.before")
		case 2:
			cmd.Env = append(cmd.Env, envPoint+"=store.count.after")
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round%3 == 0 {
			time.AfterFunc(time.Duration(20+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		} else {
			time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		}
		lines := bufio.NewScanner(out)
		n := 0
		for lines.Scan() {
			var w, count int
			var rev int64
			if _, err := fmt.Sscanf(lines.Text(), "done %d %d %d", &w, &count, &rev); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			answered[w] = max(answered[w], count)
			revAnswered = max(revAnswered, rev)
			n++
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child ended with %v", err)
		}

		s := open(t, path, Options{})
		_, rev, err := s.List(t.Context(), "none")
		if err != nil || rev < revAnswered {
			t.Fatalf("round %d: revision %d, %v; %d was answered", round, rev, err, revAnswered)
		}
		for w := range workers {
			var count, mirror int
			for key, to := range map[string]*int{"count/": &count, "mirror/": &mirror} {
				e, _, err := s.Get(t.Context(), fmt.Sprint(key, w))
				if err != nil {
					t.Fatal(err)
				}
				_, _ = fmt.Sscan(string(e.Value), to)
			}
			if count != mirror || count < answered[w] || count > answered[w]+1 {
				t.Fatalf("round %d: worker %d: count %d, mirror %d, answered %d", round, w, count, mirror, answered[w])
			}
			logs, _, err := s.List(t.Context(), fmt.Sprintf("log/%d/", w))
			if err != nil || len(logs) != min(count, 50) {
				t.Fatalf("round %d: worker %d: %d logs of %d commits, %v", round, w, len(logs), count, err)
			}
			for i, e := range logs {
				n := count - len(logs) + 1 + i
				if e.Key != fmt.Sprintf("log/%d/%09d", w, n) || len(e.Value) != 300*(n%20) {
					t.Fatalf("round %d: log %s with %d bytes", round, e.Key, len(e.Value))
				}
			}
			answered[w] = count
		}
		if next := commit(t, s, put("after", fmt.Sprint(round))); next <= rev {
			t.Fatalf("revision %d after %d", next, rev)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d commits answered, revision %d", round, n, rev)
	}
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) != 2 { // state.db and state.db.good
		t.Errorf("files left: %q, %v", left, err)
	}
	// The copy is a whole state too.
	c := open(t, copyPath(path), Options{})
	if _, _, err := c.List(t.Context(), ""); err != nil {
		t.Errorf("the copy: %v", err)
	}
}
