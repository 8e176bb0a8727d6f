package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/internal/lab"
)

// TestStorm: several people start and stop containers while the daemon is killed at
// random moments. In the end everything that is there is whole, and after its
// removal nothing is left.
func TestStorm(t *testing.T) {
	t.Parallel()
	rounds := 5
	if os.Getenv(soakEnv) != "" {
		rounds = 40
	}
	v := start(t)
	b := v.bystanders()
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(func() {
		for _, id := range strings.Fields(v.Docker("ps", "-aq", "--filter", "name=storm")) {
			v.Docker("rm", "-f", "-v", id)
		}
		// What containerd was making for a killed daemon it clears away by itself, in
		// its own time.
		v.Until(20*time.Second, "only the bystanders have shims", func() bool { return len(v.processes("containerd-shim")) == 2 })
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range rounds {
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for client := range 5 {
			r := rand.New(rand.NewPCG(seed, uint64(round*100+client)))
			all.Go(func() { v.client(ctx, r, client) })
		}
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		time.Sleep(time.Duration(100+r.IntN(700)) * time.Millisecond)
		v.Kill9()
		time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
		v.Run()
		if r.IntN(2) == 0 { // and again, while it looks after the first
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			v.Kill9()
			v.Run()
		}
		stop()
		all.Wait()
		b.unharmed(v)
		v.consistent(round)
		if t.Failed() {
			return
		}
	}
	b.counted()
	if strings.Contains(v.Log(), ": file exists") {
		t.Error("what containerd was making for a killed daemon was in a new start's way")
	}
}

// client does what people do with one name and one port, until the context ends;
// what fails because the daemon is away fails.
func (v *victim) client(ctx context.Context, r *rand.Rand, n int) {
	name, port := fmt.Sprintf("storm%d", n), fmt.Sprintf("%d:9000", 8100+n)
	for ctx.Err() == nil {
		args := [][]string{
			{"run", "-d", "--name", name, "-p", port, "netprobe"},
			{"run", "-d", "--rm", "--name", name, "-p", port, "-v", "/data", "netprobe"},
			{"run", "-d", "--name", name, "--restart=always", "-p", port, "netprobe"},
			{"run", "-d", "--name", name, "--net=container:server", "busybox", "sleep", "1000"},
			{"run", "-d", "--name", name, "--net=none", "busybox", "sleep", "1000"},
			{"restart", "-t", "0", name},
			{"stop", "-t", "0", name},
			{"start", name},
			{"rm", "-f", "-v", name},
			{"rm", "-f", "-v", name},
		}[r.IntN(10)]
		cmd := exec.CommandContext(ctx, "docker", args...)
		cmd.Env = v.Env()
		cmd.Cancel = func() error { return nil } // what has begun is brought to its end
		cmd.WaitDelay = lab.Patience
		_ = cmd.Run()
	}
}

// consistent: each container that runs is reached, each that does not is not, and
// the kernel is as it is declared.
func (v *victim) consistent(round int) {
	v.t.Helper()
	type seen struct{ state, ports string }
	look := func() map[string]seen {
		out := map[string]seen{}
		for l := range strings.Lines(v.Docker("ps", "-a", "--filter", "name=storm", "--format", "{{.Names}}|{{.State}}|{{.Ports}}")) {
			f := strings.Split(strings.TrimSpace(l), "|")
			out[f[0]] = seen{f[1], f[2]}
		}
		return out
	}
	for n := range 5 {
		name, port := fmt.Sprintf("storm%d", n), 8100+n
		var s seen
		ok := func() bool {
			s = look()[name]
			published := strings.Contains(s.ports, fmt.Sprintf(":%d->", port))
			if (s.state == "running") != published && s.state != "running" {
				return false
			}
			return v.answers(uint16(port)) == published && s.state != "removing" && s.state != "dead"
		}
		for deadline := time.Now().Add(lab.Patience); !ok(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				v.t.Errorf("round %d: %s is %+v, and its port answers: %v", round, name, s, v.answers(uint16(port)))
				break
			}
		}
	}
	r := v.Linkspan("reconcile", "--dry-run")
	if r.Code != 0 {
		v.t.Errorf("round %d: the kernel is not as declared:\n%s%s", round, r.Stdout, r.Stderr)
	}
}
