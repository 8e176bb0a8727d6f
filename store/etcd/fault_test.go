package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/probe"
	"linkspan/store"
)

// follow keeps a copy of what is under a prefix, as every user of a watch does: list,
// watch, and list again when the watch ends.
func follow(ctx context.Context, s store.Store, prefix string) (copy func() map[string]string, lists func() int) {
	var mu sync.Mutex
	have, n := map[string]string{}, 0
	go func() {
		for ctx.Err() == nil {
			entries, rev, err := s.List(ctx, prefix)
			if err != nil {
				pause(ctx, 50*time.Millisecond)
				continue
			}
			mu.Lock()
			n++
			clear(have)
			for _, e := range entries {
				have[e.Key] = string(e.Value)
			}
			mu.Unlock()
			ch, err := s.Watch(ctx, prefix, rev)
			if err != nil {
				continue
			}
			for e := range ch {
				mu.Lock()
				if e.Value == nil {
					delete(have, e.Key)
				} else {
					have[e.Key] = string(e.Value)
				}
				mu.Unlock()
			}
		}
	}()
	copy = func() map[string]string {
		mu.Lock()
		defer mu.Unlock()
		out := map[string]string{}
		for k, v := range have {
			out[k] = v
		}
		return out
	}
	return copy, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// TestLeaderLost: two of three members go; the watch ends, what cannot be done says why
// and is surely not done; when they are back all goes on without a hand.
func TestLeaderLost(t *testing.T) {
	t.Parallel()
	configs := config(t, 3)
	members := make([]*member, 3)
	var eps []string
	var wg sync.WaitGroup
	for i, c := range configs {
		eps = append(eps, clientURL(c))
		wg.Go(func() { members[i] = start(t, c) })
	}
	wg.Wait()
	for _, m := range members {
		ready(t, m)
	}
	s := open(t, Options{Endpoints: eps, Prefix: "/x/"})
	commit(t, s, put("a", "1"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	have, _ := follow(ctx, s, "")
	_, rev, err := s.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.Watch(ctx, "", rev)
	if err != nil {
		t.Fatal(err)
	}

	// One of three: nothing changes, but for commits that were under way.
	members[0].Close()
	eventually(t, time.Minute, func() error { _, err := s.Commit(ctx, put("a", "2")); return err })
	commit(t, s, put("a", "3"))

	members[1].Close()
	begun := time.Now()
	for range ch {
	}
	if d := time.Since(begun); d > 30*time.Second {
		t.Errorf("the watch ended %v after the majority", d)
	}
	begun = time.Now()
	_, err = s.Commit(ctx, put("a", "never"))
	if d := time.Since(begun); d > 30*time.Second || !errors.Is(err, cnm.ErrUnavailable) || errors.Is(err, store.ErrUnclear) {
		t.Errorf("Commit: %v after %v", err, d)
	}
	if !strings.Contains(fmt.Sprint(err), "the majority of its members is away") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
	t.Log(err)

	for i := range 2 {
		wg.Go(func() { members[i] = start(t, configs[i]) })
	}
	wg.Wait()
	back := eventually(t, time.Minute, func() error { _, err := s.Commit(ctx, put("b", "1")); return err })
	t.Logf("writes again %v after the majority is back", back.Round(10*time.Millisecond))
	eventually(t, time.Minute, func() error {
		if got := have(); got["a"] != "3" || got["b"] != "1" {
			return fmt.Errorf("the follower has %v", got)
		}
		return nil
	})
}

// relay is a wire to a server that a test can cut.
type relay struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	open []net.Conn
	cut  bool
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, to: to}
	t.Cleanup(func() { _ = l.Close(); r.set(true) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *relay) serve(c net.Conn) {
	r.mu.Lock()
	if r.cut {
		r.mu.Unlock()
		_ = c.Close()
		return
	}
	d, err := net.Dial("tcp", r.to)
	if err != nil {
		r.mu.Unlock()
		_ = c.Close()
		return
	}
	r.open = append(r.open, c, d)
	r.mu.Unlock()
	go func() { _, _ = io.Copy(d, c); _ = d.Close() }()
	_, _ = io.Copy(c, d)
	_ = c.Close()
}

// set cuts the wire, with all that runs over it, or joins it.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for _, c := range r.open {
			_ = c.Close()
		}
		r.open = nil
	}
}

// TestCompactedUnderAWatch: what was changed while the way was cut is compacted when it
// is back: the watch ends rather than leave it out.
func TestCompactedUnderAWatch(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	r := newRelay(t, clientURL(c))
	s := open(t, Options{Endpoints: []string{r.l.Addr().String()}, Prefix: "/x/"})
	direct := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/"})
	admin := raw(t, clientURL(c), nil)
	start := commit(t, s, put("a", "0"))
	ch, err := s.Watch(t.Context(), "", start)
	if err != nil {
		t.Fatal(err)
	}
	have, lists := follow(t.Context(), s, "")
	commit(t, direct, put("a", "1"))
	if e := <-ch; string(e.Value) != "1" {
		t.Fatalf("event %+v", e)
	}
	eventually(t, time.Minute, func() error { // its first list, and its watch, are before the cut
		if got := have(); got["a"] != "1" {
			return fmt.Errorf("the follower has %v", got)
		}
		return nil
	})
	r.set(true)
	commit(t, direct, put("a", "2"), put("gone", "x"))
	commit(t, direct, store.Op{Key: "gone"})
	rev := commit(t, direct, put("a", "3"))
	if _, err := admin.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	r.set(false)
	select {
	case e, ok := <-ch:
		if ok {
			t.Fatalf("event %+v over a gap", e)
		}
	case <-time.After(time.Minute):
		t.Fatal("the watch does not end")
	}
	eventually(t, time.Minute, func() error {
		if got := have(); got["a"] != "3" || len(got) != 1 {
			return fmt.Errorf("the follower has %v", got)
		}
		return nil
	})
	if lists() < 2 {
		t.Error("the follower did not list again")
	}
}

// TestShortCut: a cut shorter than the grace is not noticed, and nothing is left out.
func TestShortCut(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	r := newRelay(t, clientURL(c))
	s := open(t, Options{Endpoints: []string{r.l.Addr().String()}, Prefix: "/x/"})
	direct := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/"})
	ch, err := s.Watch(t.Context(), "", commit(t, s, put("a", "0")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		r.set(true)
		commit(t, direct, put("a", fmt.Sprint(2*i+1)))
		time.Sleep(20 * time.Millisecond)
		r.set(false)
		commit(t, direct, put("a", fmt.Sprint(2*i+2)))
		for n := 2*i + 1; n <= 2*i+2; n++ {
			select {
			case e, ok := <-ch:
				if !ok || string(e.Value) != fmt.Sprint(n) {
					t.Fatalf("event %s (%v), want %d", e.Value, ok, n)
				}
			case <-time.After(time.Minute):
				t.Fatal("no event")
			}
		}
	}
}

// TestBehind: a reader that does not read is let go, not waited for.
func TestBehind(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	s := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/", Queue: 300})
	ch, err := s.Watch(t.Context(), "", commit(t, s, put("a", "0")))
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for i := range MaxOps {
		ops = append(ops, put(fmt.Sprint("k", i), "x"))
	}
	for range 10 {
		commit(t, s, ops...)
	}
	time.Sleep(100 * time.Millisecond)
	n := 0
	for range ch {
		n++
	}
	if n > 10*MaxOps-1 {
		t.Errorf("%d events", n)
	}
}

// TestEndpointsChange: members come and go.
func TestEndpointsChange(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	dead := free(1)[0]
	s := open(t, Options{Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", dead)}, CallTimeout: 400 * time.Millisecond})
	if err := get(s, "a"); !errors.Is(err, cnm.ErrUnavailable) {
		t.Fatalf("Get: %v", err)
	}
	if err := s.SetEndpoints([]string{clientURL(c)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { return get(s, "a") })
	for _, bad := range [][]string{nil, {"https://127.0.0.1:2379"}, {"127.0.0.1:0"}} {
		if err := s.SetEndpoints(bad); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("SetEndpoints(%q): %v", bad, err)
		}
	}
	// The members say themselves where they are.
	r := newRelay(t, clientURL(c))
	auto := open(t, Options{Endpoints: []string{r.l.Addr().String()}, SyncEvery: 50 * time.Millisecond})
	eventually(t, time.Minute, func() error {
		if eps := auto.Endpoints(); len(eps) != 1 || eps[0] != clientURL(c) {
			return fmt.Errorf("endpoints %q", eps)
		}
		return nil
	})
	r.set(true)
	eventually(t, time.Minute, func() error { return get(auto, "a") })
}

// helperEnv makes the test's binary a host of its own, in a namespace: it watches and
// holds, and prints what it sees.
const helperEnv = "LINKSPAN_STORE_HELPER"

func help(ep string) {
	s, err := Open(context.Background(), Options{Endpoints: []string{ep}, Prefix: "/x/"})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	ctx := context.Background()
	for get(s, "a") != nil {
	}
	lost, err := s.Hold(ctx, put("alive", "x"), 4*time.Second)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	ch, err := s.Watch(ctx, "", 0)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("watching")
	for range ch {
	}
	fmt.Println("ended")
	begun := time.Now()
	_, err = s.Commit(ctx, put("b", "1"))
	fmt.Println("answered", time.Since(begun).Milliseconds(), errors.Is(err, cnm.ErrUnavailable), errors.Is(err, store.ErrUnclear), err)
	<-lost
	fmt.Println("lost")
	for {
		if _, err := s.Watch(ctx, "", 0); err == nil {
			break
		}
	}
	fmt.Println("again")
	select {}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// TestHolderDies: the key of a host that is killed goes with its ttl.
func TestHolderDies(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+clientURL(c))
	if err := begin(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	s := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/"})
	alive := func(want bool) func() error {
		return func() error {
			if _, ok, err := s.Get(t.Context(), "alive"); err != nil || ok != want {
				return fmt.Errorf("there %v, %v", ok, err)
			}
			return nil
		}
	}
	eventually(t, time.Minute, alive(true))
	time.Sleep(time.Second)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if d := eventually(t, time.Minute, alive(false)); d > 30*time.Second || d < time.Second/2 {
		t.Errorf("the key went %v after its holder, of a ttl of 4 s", d)
	}
}

// TestClosedGivesBack: what a store holds ends with it.
func TestClosedGivesBack(t *testing.T) {
	t.Parallel()
	_, c := one(t)
	s := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/"})
	if _, err := s.Hold(t.Context(), put("alive", "x"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := open(t, Options{Endpoints: []string{clientURL(c)}, Prefix: "/x/"})
	if _, ok, err := other.Get(t.Context(), "alive"); ok || err != nil {
		t.Errorf("there %v, %v", ok, err)
	}
}

// TestSilentCut: packets between a host and the etcd are dropped without a word, as when a
// wire is pulled behind a switch.
func TestSilentCut(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.NFT, probe.NFTProgram, probe.Etcd)
	id := fmt.Sprintf("%06x", rand.IntN(1<<24))
	server, host := "ls-store-"+id+"-s", "ls-store-"+id+"-h"
	for _, ns := range []string{server, host} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	run(t, "ip", "-n", server, "link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", host)
	for ns, addr := range map[string]string{server: "10.213.0.1/24", host: "10.213.0.2/24"} {
		run(t, "ip", "-n", ns, "addr", "add", addr, "dev", "w0")
		run(t, "ip", "-n", ns, "link", "set", "w0", "up")
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	in := func(ns string) []string { return []string{"nsenter", "--net=/run/netns/" + ns} }
	o := newOutside(t, in(server), t.TempDir(), "--listen-client-urls", "http://10.213.0.1:2379", "--advertise-client-urls", "http://10.213.0.1:2379")
	o.start()

	cmd := exec.Command(in(host)[0], in(host)[1], os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=10.213.0.1:2379")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = begin(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := make(chan string, 10)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	next := func(want string, limit time.Duration) (string, time.Duration) {
		t.Helper()
		begun := time.Now()
		select {
		case l := <-lines:
			if !strings.HasPrefix(l, want) {
				t.Fatalf("the host says %q, want %q", l, want)
			}
			return l, time.Since(begun)
		case <-time.After(limit):
			t.Fatalf("the host does not say %q", want)
		}
		return "", 0
	}
	next("watching", 20*time.Second)
	nft := func(ruleset string) { run(t, "nsenter", "--net=/run/netns/"+server, "nft", ruleset) }
	nft("add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }; add chain inet cut out { type filter hook output priority 0; policy drop; }; add rule inet cut in iif lo accept; add rule inet cut out oif lo accept")
	_, d := next("ended", 10*time.Second)
	t.Logf("the watch ended %v after the cut", d.Round(10*time.Millisecond))
	l, _ := next("answered", 10*time.Second)
	t.Log(l)
	var ms int
	var away, unclear bool
	if _, err := fmt.Sscan(l, new(string), &ms, &away, &unclear); err != nil || ms > 3500 || !away || unclear {
		t.Errorf("the host says %q (%v)", l, err)
	}
	next("lost", 10*time.Second)
	nft("delete table inet cut")
	_, d = next("again", 10*time.Second)
	t.Logf("a watch again %v after the cut was healed", d.Round(10*time.Millisecond))
}
