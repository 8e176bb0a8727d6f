package crash

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// chance is the source of a test's random moments: LINKSPAN_SEED, or the clock; it is
// logged, so that a night can be had again.
func chance(t *testing.T) (seed uint64) {
	t.Helper()
	seed = uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("LINKSPAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("LINKSPAN_SEED=%d", seed)
	return seed
}

// installed is a binary at a path of its own, and another version of it: what an upgrade
// puts in its place, as install(1) does, while the daemon runs.
type installed struct {
	path     string
	versions [2]string
	now      int
}

// install makes the two. The second differs in one letter of its version, which is
// cheaper than to link it.
func install(t *testing.T) *installed {
	t.Helper()
	binary := daemontest.Binary(t)
	out, err := exec.Command(binary, "--version").Output()
	fields := strings.Fields(string(out)) // Linkspan version 0.1.0-dev, docker …
	if err != nil || len(fields) < 3 {
		t.Fatalf("--version: %q, %v", out, err)
	}
	version := strings.TrimSuffix(fields[2], ",")
	other := version[:len(version)-1] + "X"
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: on the same file system as nothing else, and short.
	dir := t.TempDir()
	in := &installed{path: filepath.Join(dir, "linkspan"), versions: [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	for i, c := range [][]byte{content, bytes.ReplaceAll(content, []byte(version), []byte(other))} {
		if err := os.WriteFile(in.versions[i], c, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(in.versions[1], "--version").Output(); err != nil || !strings.Contains(string(out), "version "+other+",") {
		t.Fatalf("the other version says %q, %v", out, err)
	}
	in.put(t)
	return in
}

// put puts the other version in place.
func (in *installed) put(t *testing.T) {
	t.Helper()
	in.now = 1 - in.now
	if err := os.Link(in.versions[in.now], in.path+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(in.path+".new", in.path); err != nil {
		t.Fatal(err)
	}
}

// churn has people make, connect, move and remove things until the context ends; what
// fails because the daemon is away fails.
func (v *victim) churn(ctx context.Context, seed uint64) (wait func()) {
	v.Docker("run", "-d", "--name", "mover", "--network", "home", "netprobe")
	var all sync.WaitGroup
	for n, cmds := range [][][]string{
		{{"network", "connect", "away", "mover"}, {"network", "disconnect", "away", "mover"}, {"network", "connect", "--alias", "friend2", "--ip", "172.30.1.77", "away", "mover"}, {"network", "disconnect", "home", "mover"}, {"network", "connect", "home", "mover"}},
		{{"run", "-d", "--name", "guest", "--network", "home", "-p", "7200:9000", "netprobe"}, {"rm", "-f", "guest"}, {"run", "-d", "--name", "guest", "--network", "away", "--network", "home", "netprobe"}},
		{{"network", "create", "fleeting"}, {"network", "rm", "fleeting"}},
	} {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			for ctx.Err() == nil {
				cmd := exec.CommandContext(ctx, "docker", cmds[r.IntN(len(cmds))]...)
				cmd.Env = v.Env()
				cmd.Cancel = func() error { return nil } // what has begun is brought to its end
				cmd.WaitDelay = lab.Patience
				_ = cmd.Run()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return all.Wait
}

// upgraded are the daemon's watches, to which a keeper is the same after an upgrade,
// which gave it other arguments.
func (v *victim) upgraded() (out []lab.Watch) {
	for _, w := range v.Watches() {
		list := w.List
		w.List = func() ([]string, error) {
			lines, err := list()
			for i, l := range lines {
				if before, after, ok := strings.Cut(l, "linkspan keeper "); ok {
					_, pid, _ := strings.Cut(after, " (pid ")
					lines[i] = before + "linkspan keeper (pid " + pid
				}
			}
			return lines, err
		}
		out = append(out, w)
	}
	return out
}

// TestTwentyDeaths: the daemon dies twenty times at random moments, killed, asked to end,
// and replaced by another version, while containers come and go and are connected and
// disconnected. Two containers that nobody touches talk on, with each other, with a
// client of a published port and with another machine; nothing of that is lost, and
// their names are answered all the time.
func TestTwentyDeaths(t *testing.T) {
	t.Parallel()
	deaths := 20
	if os.Getenv(soakEnv) != "" {
		deaths = 200
	}
	seed := chance(t)
	in := install(t)
	dir := t.TempDir()
	v := &victim{t: t, ready: &death{}, armed: filepath.Join(dir, "armed"), log: filepath.Join(dir, "points")}
	v.Daemon = daemontest.Start(t, daemontest.Options{Binary: in.path})
	v.Docker("pull", "-q", "netprobe")
	lab.LeakCheck(t, v.upgraded()...)
	t.Cleanup(v.RemoveAll)
	v.home()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	all, wait := v.streams(ctx, 250*time.Millisecond)
	quiet := v.churn(ctx, seed)
	r := rand.New(rand.NewPCG(seed, 99))
	kinds := map[string]int{}
	for range deaths {
		time.Sleep(time.Duration(100+r.IntN(500)) * time.Millisecond)
		switch r.IntN(3) {
		case 0:
			kinds["killed"]++
			v.Kill9()
		case 1:
			kinds["asked to end"]++
			v.Signal(unix.SIGTERM)
			_ = v.Wait(30 * time.Second)
		case 2:
			kinds["upgraded"]++
			in.put(t)
			if r.IntN(2) == 0 {
				v.Kill9()
			} else {
				v.Signal(unix.SIGTERM)
				_ = v.Wait(30 * time.Second)
			}
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		v.Run()
	}
	time.Sleep(1100 * time.Millisecond) // what is asked once a second is asked once more
	stop()
	quiet()
	wait()
	t.Logf("the daemon was %v", kinds)
	report(t, all)
	v.asDeclared()
	v.whole("mover")
}

// report says how the streams fared; all that failed fails the test.
func report(t *testing.T, all []*stream) {
	t.Helper()
	for _, s := range all {
		t.Logf("%s: %d times, the longest took %v", s.name, s.times.Load(), time.Duration(s.longest.Load()).Round(time.Microsecond))
		if len(s.failures) > 0 {
			t.Errorf("%s failed %d of %d times:\n%s", s.name, len(s.failures), s.times.Load(), strings.Join(s.failures[:min(20, len(s.failures))], "\n"))
		}
	}
}
