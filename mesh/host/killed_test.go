package host

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/testlog"
	"linkspan/mesh"
	"linkspan/store"
	"linkspan/store/bolt"
)

// A child is a host in a process of its own, which can be killed.
const childEnv = "LINKSPAN_TEST_MESH_CHILD"

type order struct {
	Root, Name, Addr string
	Verb             string // init, join, leave, serve
	Gate, Token      string
	// Kill is at which fail point, from 1 on, the process kills itself; 0: at none.
	Kill int64
}

// runChild carries the order out, and says what came of it in a line.
func runChild() int {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	var left atomic.Int64
	left.Store(o.Kill)
	armed := atomic.Bool{}
	hook := func(point string) {
		if armed.Load() && left.Add(-1) == 0 {
			fmt.Println("killed at " + point)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	local, err := bolt.Open(filepath.Join(o.Root, "linkspan.db"), bolt.Options{})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	ctx := context.Background()
	h, err := Open(ctx, Config{DataRoot: o.Root, Hostname: o.Name, Version: "test", Local: local, Sink: deaf{}, Hook: hook,
		Place: func(netip.Addr) mesh.Place { return mesh.Place{Dev: "lo", MTU: 1500} }, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	h.Begin()
	armed.Store(o.Verb != "serve")
	switch o.Verb {
	case "init":
		_, err = h.Init(ctx, InitRequest{Listen: o.Addr, Voters: 1})
	case "join":
		_, err = h.Join(ctx, JoinRequest{Gate: o.Gate, Token: o.Token, Listen: o.Addr})
	case "leave":
		_, err = h.Leave(ctx, false)
	case "serve":
		in := bufio.NewReader(os.Stdin)
		_, _ = in.ReadString('\n') // until the parent says now
		armed.Store(true)
		fmt.Fprintln(os.Stderr, "armed")
		_, _ = in.ReadString('\n') // and enough
	}
	armed.Store(false)
	if err != nil {
		fmt.Println(err)
	}
	if st, _ := h.current(); st != nil {
		fmt.Println("phase " + st.Phase)
	} else {
		fmt.Println("phase none")
	}
	if cerr := h.Close(); cerr != nil {
		fmt.Println(cerr)
		return 2
	}
	_ = local.Close()
	if err != nil {
		return 1
	}
	return 0
}

func child(t *testing.T, o order) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	// Not by Pdeathsig: that is the death of a thread (prctl(2)), and Go's come and go.
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childEnv+"="+string(b))
	return c
}

// run carries an order out; killed is at which point it was.
func (o order) run(t *testing.T) (said, killed string) {
	t.Helper()
	c := child(t, o)
	var errs testlog.Log
	c.Stderr = &errs
	out, err := c.Output()
	said = strings.TrimSpace(string(out))
	if _, at, ok := strings.Cut(said, "killed at "); ok {
		return said, at
	}
	if err != nil {
		return said + fmt.Sprintf(" (%v)\n%s", err, errs.String()), ""
	}
	return said, ""
}

// left lists what is below a data root besides the store.
func left(t *testing.T, root string) (out []string) {
	t.Helper()
	all, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), "linkspan.db") {
			out = append(out, e.Name())
		}
	}
	return out
}

// apart is how far apart the points are at which a host is killed: each of them in a soak
// (LINKSPAN_SOAK), else some, beginning at random.
func apart() (first, step int64) {
	if os.Getenv("LINKSPAN_SOAK") != "" {
		return 0, 1
	}
	return rand.Int64N(5), 5
}

// TestInitKilled: wherever `mesh init` is killed, it is said again, and is through; and
// `mesh leave` leaves nothing.
func TestInitKilled(t *testing.T) {
	if !isolated(t) {
		return
	}
	var points []string
	first, step := apart()
	for n := 1 + first; ; n += step {
		o := order{Root: t.TempDir(), Name: "host5", Addr: "10.213.0.5", Verb: "init", Kill: n}
		said, at := o.run(t)
		points = append(points, at)
		o.Kill = 0
		if at == "" && said != "phase joined" {
			t.Fatal(said)
		}
		if at != "" {
			again, _ := o.run(t)
			if again != "phase joined" && !strings.Contains(again, "already, as host5") {
				t.Errorf("killed at %s, again: %s", at, again)
			}
		}
		o.Verb = "leave"
		if said, _ := o.run(t); said != "phase none" {
			t.Errorf("killed at %s, leave: %s", at, said)
		}
		if l := left(t, o.Root); len(l) != 0 {
			t.Errorf("killed at %s, left: %v", at, l)
		}
		if at == "" {
			break
		}
	}
	t.Logf("%d points: %s", len(points)-1, strings.Join(points, " "))
	if int(first)+(len(points)-1)*int(step) < 10 {
		t.Error("these are too few")
	}
}

// TestJoinKilled: the same of `mesh join`, with the one token, and of `mesh leave`; the
// mesh keeps nothing of the host.
func TestJoinKilled(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, nil)
	a.init(InitRequest{Voters: 1})
	for _, verb := range []string{"join", "leave"} {
		count := 0
		first, step := apart()
		for n := 1 + first; ; n += step {
			l := a.token()
			o := order{Root: t.TempDir(), Name: "host5", Addr: "10.213.0.5", Verb: "join", Gate: l.Gate, Token: l.Token}
			at := ""
			if verb == "join" {
				o.Kill = n
				_, at = o.run(t)
				o.Kill = 0
			}
			if said, _ := o.run(t); said != "phase joined" && !strings.Contains(said, "already, as host5") {
				t.Errorf("join killed at %s, again: %s", at, said)
			}
			if o.Verb = "leave"; verb == "leave" {
				o.Kill = n
				_, at = o.run(t)
				o.Kill = 0
			}
			if said, _ := o.run(t); said != "phase none" && !strings.Contains(said, "this host is in no mesh") {
				t.Errorf("%s killed at %s, leave: %s", verb, at, said)
			}
			if l := left(t, o.Root); len(l) != 0 {
				t.Errorf("%s killed at %s, left: %v", verb, at, l)
			}
			if at == "" {
				break
			}
			count++
		}
		eventually(t, time.Minute, "nothing is kept of host5 (of its life, as long as its lease)", func() bool {
			_, r, _ := a.host.inside("")
			es, _, err := r.store.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			return !slices.ContainsFunc(es, func(e store.Entry) bool {
				return strings.Contains(string(e.Value), "host5") && !strings.HasPrefix(e.Key, "tokens/") && !strings.HasPrefix(e.Key, "certificates/")
			})
		})
		if int(first)+count*int(step) < 5 {
			t.Errorf("%s: %d points are too few", verb, count)
		}
		t.Logf("%s: %d points", verb, count)
	}
}

// TestPromoteKilled: wherever a host dies that becomes a member, it becomes one when it
// comes back; and the same of one that stops to be one.
func TestPromoteKilled(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, nil)
	a.init(InitRequest{Voters: 1})
	l := a.token()
	o := order{Root: t.TempDir(), Name: "host5", Addr: "10.213.0.5", Verb: "join", Gate: l.Gate, Token: l.Token}
	if said, _ := o.run(t); said != "phase joined" {
		t.Fatal(said)
	}
	o.Verb = "serve"
	var errs testlog.Log
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("host5:\n%s", errs.String())
		}
	})
	serve := func(kill int64) (arm, stop func(), dead <-chan string) {
		o.Kill = kill
		c := child(t, o)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out testlog.Log
		c.Stdout = &out
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() { // what it was at; gone already in most cases
				_ = c.Process.Signal(syscall.SIGQUIT)
				time.Sleep(300 * time.Millisecond)
			}
			_ = c.Process.Kill()
		})
		ended := make(chan string, 1)
		go func() {
			if err := c.Wait(); err != nil && t.Context().Err() == nil {
				fmt.Fprintln(&errs, "ended:", err, out.String())
			}
			_, at, _ := strings.Cut(strings.TrimSpace(out.String()), "killed at ")
			ended <- at
		}()
		return func() { fmt.Fprintln(in); time.Sleep(100 * time.Millisecond) }, func() { fmt.Fprint(in, "\n\n"); <-ended }, ended
	}
	voters := func() int {
		_, r, err := a.host.inside("")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		e := r.etcd(ctx, a.host.state)
		if e.Answering != e.Voters {
			return 0
		}
		return e.Voters
	}
	// settled says that host5 has written down what it is, and nothing else is left.
	settled := func(n int) bool {
		f := folder{path: Folder(o.Root)}
		st, err := f.load()
		if err != nil || st == nil || voters() != n {
			return false
		}
		if n == 2 {
			return st.Role == RoleMember && !st.Learner
		}
		_, data := os.Stat(f.etcd())
		return st.Role == RoleClient && os.IsNotExist(data)
	}
	// Of two members one was just restarted: there may be no majority for a moment.
	wish := func(change func(context.Context, string) (*Done, error)) {
		eventually(t, time.Minute, "the wish is heard", func() bool { _, err := change(t.Context(), "host5"); return err == nil })
	}
	verbs := []string{"promote"}
	if os.Getenv("LINKSPAN_SOAK") != "" {
		verbs = append(verbs, "demote") // most of the minutes that this takes
	}
	for _, verb := range verbs {
		want := map[string]int{"promote": 2, "demote": 1}[verb]
		change, back := a.host.Promote, a.host.Demote
		if verb == "demote" {
			change, back = back, change
		}
		count := 0
		first, step := apart()
		for n := 1 + 2*first; n < 40; n += 2 * step { // before each change
			if verb == "demote" { // it begins as a member
				_, stop, _ := serve(0)
				eventually(t, time.Minute, "host5 is alive", a.sees("host5"))
				wish(a.host.Promote)
				eventually(t, time.Minute, "host5 is a member", func() bool { return settled(2) })
				stop()
			}
			arm, stop, dead := serve(n)
			eventually(t, time.Minute, "host5 is alive", a.sees("host5"))
			arm()
			at, again := "", false
			eventually(t, time.Minute, "the wish is heard", func() bool {
				select {
				case at = <-dead: // of something else that it does: without it there is no majority
					again = true
					_, stop, _ = serve(0)
				default:
				}
				_, err := change(t.Context(), "host5")
				return err == nil
			})
			deadline := time.Now().Add(time.Minute)
			for through := again; !through; {
				select {
				case at = <-dead:
					through = true
				case <-time.After(100 * time.Millisecond):
					through = settled(want) || time.Now().After(deadline)
				}
			}
			if at == "" { // etcd changes before the host has written it down
				select {
				case at = <-dead:
				case <-time.After(3 * time.Second):
					stop()
				}
			}
			if !again {
				_, stop, _ = serve(0)
			}
			eventually(t, time.Minute, verb+" after a death at "+at, func() bool { return settled(want) })
			eventually(t, time.Minute, "host5 is alive", a.sees("host5"))
			if verb == "promote" {
				wish(back)
				eventually(t, time.Minute, "host5 is a client again", func() bool { return settled(1) })
			}
			stop()
			if at == "" {
				break
			}
			count++
		}
		t.Logf("%s: %d deaths", verb, count)
	}
}

func (m *machine) sees(name string) func() bool {
	return func() bool {
		for _, p := range m.host.Mesh().Peers() {
			if p.Name == name {
				return p.Alive
			}
		}
		return false
	}
}
