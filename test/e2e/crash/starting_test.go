package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
)

// TestCrashStarting kills daemons while they start: at every kind of point of a start
// that has something to do. Before each, a daemon has died in the middle of a
// container's start, and someone has taken an element out of the page; the one after the
// death finds what two have left. make test takes the kinds that no story has met.
func TestCrashStarting(t *testing.T) {
	t.Parallel()
	v := start(t)
	b := v.bystanders()
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(func() { v.TryDocker("rm", "-f", "-v", "victim") })
	bare := v.kernel()
	run := []string{"run", "-d", "--name", "victim", "-p", "8080:9000", "netprobe"}
	// half leaves a start that was cut short, and no daemon.
	half := func(v *victim) {
		v.t.Helper()
		v.Stop()
		at := death{"containerd.task.create.after", 1}
		v.Run(at.env()...)
		v.arm()
		v.TryDocker(run...)
		v.Until(10*time.Second, "it dies while it starts a container", v.dead)
		v.disarm()
		_ = v.Wait(5 * time.Second)
		v.Host.Run("sh", "-c", "nft flush map inet $(nft list tables inet | grep -o 'linkspan_[0-9a-f]*$') publish4_any")
	}
	// whole: what is there in the end is as if nobody had died, or as before the start
	// that was cut short twice.
	whole := func(v *victim) {
		v.t.Helper()
		if st := state(v); st == "created" || st == "exited" {
			v.settled(st, bare)
			v.Docker("start", "victim")
		}
		v.Until(20*time.Second, "the container runs", func() bool { return state(v) == "running" && v.answers(8080) })
		b.unharmed(v)
		v.asDeclared()
		v.Docker("rm", "-f", "victim")
		v.settled("removed", bare)
	}
	half(v)
	v.arm()
	v.Run()
	time.Sleep(time.Second) // what it does after its first answer
	points := v.disarm()
	whole(v)
	times := map[string]int{}
	var deaths []death
	for _, p := range points {
		k := kind(p)
		if times[k]++; os.Getenv(soakEnv) == "" && (times[k] > 1 || met.has(k) || besides.MatchString(k)) {
			continue
		}
		deaths = append(deaths, death{k, times[k]})
	}
	if os.Getenv(soakEnv) == "" {
		deaths = deaths[:min(8, len(deaths))] // when no other story ran before
	}
	died := 0
	for _, at := range deaths {
		t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(at.kind, "/", "."), at.n), func(t *testing.T) {
			v := v.in(t)
			half(v)
			v.arm()
			if err := v.TryRun(at.env()...); err == nil {
				// It answered before it came there, or went another way this time.
				v.dies()
				if v.dead() {
					_ = v.Wait(5 * time.Second)
				} else {
					t.Logf("the start went another way this time, past %s", at.kind)
					v.Stop()
				}
			}
			passed := v.disarm()
			if slices.ContainsFunc(passed, func(p string) bool { return kind(p) == at.kind }) {
				died++
			}
			v.Run()
			whole(v)
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("died at %d of %d points", died, len(deaths))
	if died < len(deaths)*3/4 {
		t.Errorf("died at %d of %d points only", died, len(deaths))
	}
	v.Stop()
	v.Run()
	b.counted()
}
