package crash

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/internal/lab"
)

const soakEnv = "LINKSPAN_SOAK"

// bystanders are containers that run through all crashes.
type bystanders struct {
	v       *victim
	talk    *talk
	names   []string
	details string
}

// details that no crash may change.
const details = `{{.State.Pid}} {{.State.StartedAt}} {{.NetworkSettings.IPAddress}} {{.NetworkSettings.MacAddress}} {{json .NetworkSettings.Ports}} {{.NetworkSettings.SandboxID}} {{json .NetworkSettings.Networks}}`

func (v *victim) bystanders() *bystanders {
	v.t.Helper()
	v.Docker("run", "-d", "--name", "server", "-p", "7000:9000", "netprobe")
	v.Docker("run", "-d", "--name", "counter", "busybox", "sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done")
	b := &bystanders{v: v, talk: v.converse(7000)}
	b.watch("server", "counter")
	return b
}

// watch adds containers that no crash may change.
func (b *bystanders) watch(names ...string) {
	b.v.t.Helper()
	b.names = append(b.names, names...)
	b.details = b.look(b.v)
}

func (b *bystanders) look(v *victim) string {
	v.t.Helper()
	return v.Docker(append([]string{"inspect", "-f", details}, b.names...)...)
}

// unharmed checks them in a subtest.
func (b *bystanders) unharmed(v *victim) {
	v.t.Helper()
	b.talk.t = v.t
	b.talk.on()
	if !v.answers(7000) {
		v.t.Error("the bystander's published port does not answer to a new connection")
	}
	if now := b.look(v); now != b.details {
		v.t.Errorf("the bystanders changed:\n%s\nwere\n%s", now, b.details)
	}
}

// counted: not a line of the counter's log was lost or repeated.
func (b *bystanders) counted() {
	b.v.t.Helper()
	lines := strings.Fields(b.v.Docker("logs", "counter"))
	if len(lines) < 10 {
		b.v.t.Errorf("the counter has %d lines", len(lines))
	}
	for i, l := range lines {
		if l != strconv.Itoa(i) {
			b.v.t.Fatalf("the counter's line %d says %q: lost or repeated", i, l)
		}
	}
}

// story is what a person asks, and what may be true after a crash in the middle.
type story struct {
	name string
	// before prepares; it is not crashed.
	before func(v *victim)
	do     func(v *victim)
	// whole checks that the asked thing is there or not, never half of it, when a
	// new daemon has started; afterwards everything named victim is removed.
	whole func(v *victim, bare string)
	// need are kinds of points at which it must have died.
	need []string
	// fresh: a daemon does some of it once in its life, so that each death needs one
	// that has not done it while something was looked at.
	fresh bool
	// after takes away what is not the container named victim, and looks that what was
	// given back can be had again.
	after func(v *victim)
}

// TestCrashAnywhere kills the daemon at every point of the stories.
func TestCrashAnywhere(t *testing.T) {
	t.Parallel()
	v := start(t)
	b := v.bystanders()
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			v := v.in(t)
			if os.Getenv(soakEnv) == "" {
				v.seen = met
			}
			v.everywhere(s, b)
		})
	}
	b.counted()
}

// death is where a daemon is to die: at the nth point of a kind; the zero one is
// nowhere.
type death struct {
	kind string
	n    int
}

// env makes the daemon die there, once it is armed.
func (d death) env() []string {
	if d.kind == "" {
		return nil
	}
	return []string{"LINKSPAN_FAIL_AT=" + pattern(d.kind), "LINKSPAN_FAIL_NTH=" + strconv.Itoa(d.n)}
}

// everywhere lives the story once to see its points, then again and again with a
// death at each of them; make test takes one of each kind.
func (v *victim) everywhere(s story, b *bystanders) {
	var points []string
	v.t.Run("whole", func(t *testing.T) { points = v.in(t).once(s, b, death{}, death{}) })
	times, deaths, kinds := map[string]int{}, []death(nil), slices.Clone(s.need)
	for _, p := range points {
		k := kind(p)
		times[k]++
		if v.seen != nil && (v.seen.has(k) || !slices.Contains(s.need, k) && besides.MatchString(k)) {
			continue
		}
		if times[k] == 1 || os.Getenv(soakEnv) != "" {
			deaths = append(deaths, death{k, times[k]})
		}
		if !background.MatchString(k) {
			kinds = append(kinds, k)
		}
	}
	died := map[string]bool{}
	dead := func(kind string) bool { return died[kind] || v.seen.has(kind) }
	for i, at := range deaths {
		if v.t.Failed() {
			return
		}
		var next death
		if i+1 < len(deaths) {
			next = deaths[i+1]
		}
		name := fmt.Sprintf("%s/%d", strings.ReplaceAll(at.kind, "/", "."), at.n)
		// What a story does beside its request it does in any order: where it must die, it
		// is lived again when it went past.
		for try := 0; try == 0 || try < 3 && !dead(at.kind) && slices.Contains(kinds, at.kind) && !v.t.Failed(); try++ {
			v.t.Run(name, func(t *testing.T) {
				points := v.in(t).once(s, b, at, next)
				if kind(points[len(points)-1]) == at.kind {
					died[at.kind] = true
					v.seen.add(at.kind)
				}
			})
		}
	}
	v.t.Logf("died at %d points of %d kinds", len(deaths), len(died))
	slices.Sort(kinds)
	for _, k := range slices.Compact(kinds) {
		if !dead(k) {
			v.t.Errorf("never died at %q", k)
		}
	}
}

// once lives the story with a death, and returns the points that were passed. The
// daemon that comes after is ready to die at the next one.
func (v *victim) once(s story, b *bystanders, at, next death) []string {
	lab.LeakCheck(v.t, v.Watches()...)
	bare := v.kernel()
	if s.before != nil {
		s.before(v)
	}
	if *v.ready != at || s.fresh {
		v.Stop()
		v.Run(at.env()...)
	}
	v.arm()
	s.do(v)
	if at.kind != "" {
		v.dies()
	}
	points := v.disarm()
	if v.dead() {
		_ = v.Wait(5 * time.Second)
	} else {
		if at.kind != "" {
			v.t.Logf("the story went another way this time, past %s", at.kind)
		}
		v.Stop()
	}
	v.Run(next.env()...)
	*v.ready = next
	defer func() {
		if v.TryDocker("inspect", "victim").Code == 0 {
			v.Docker("rm", "-f", "-v", "victim")
		}
		if s.after != nil {
			s.after(v)
		}
	}()
	b.unharmed(v)
	s.whole(v, bare)
	return points
}

// settled waits until nothing of a run of the victim is there, which is in some
// state that is not running.
func (v *victim) settled(state, bare string) {
	v.t.Helper()
	for deadline := time.Now().Add(lab.Patience); v.kernel() != bare; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			v.t.Errorf("the container is %q, and the kernel is not as it was:\n%s", state, lab.Differ(bare, v.kernel()))
			return
		}
	}
}

// met are kinds at which some story of this run of the tests has died: make test takes
// each once, wherever it is met first.
var met = &kindsMet{kinds: map[string]bool{}}

// kindsMet is nil where every kind is met again.
type kindsMet struct {
	mu    sync.Mutex
	kinds map[string]bool
}

func (m *kindsMet) has(kind string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds[kind]
}

func (m *kindsMet) add(kind string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds[kind] = true
}

// besides are kinds that make test leaves to make soak: after a thing of the kernel's is
// as before the next one, or before the commit that follows the last; and before a step
// that is a whole is as after the one before.
var besides = regexp.MustCompile(`^(after |before create sysctl INSIDE|(files|folder|mounts|shm|volume|lease|image|snapshot|keeper|pins|kernel)\..*before$)`)

// background are kinds of work that no request waits for: what of it is met in a
// story may be the end of what came before.
var background = regexp.MustCompile(`^((before|after) (purge conntrack entries|delete doomed links)|containerd\.(container|snapshot)\.list\..*)$`)

// state of the container named victim, "" when there is none.
func state(v *victim) string {
	r := v.TryDocker("inspect", "-f", "{{.State.Status}}", "victim")
	return strings.TrimSpace(r.Stdout)
}

// both are a hook's points, around the data plane's.
func both(names ...string) (out []string) {
	for _, n := range names {
		out = append(out, n+".before", n+".after")
	}
	return out
}

func around(names ...string) (out []string) {
	for _, n := range names {
		out = append(out, "before "+n, "after "+n)
	}
	return out
}

func stories() []story {
	run := []string{"run", "-d", "--name", "victim", "-p", "8080:9000", "netprobe"}
	served := func(v *victim) {
		v.t.Helper()
		v.Until(10*time.Second, "the published port answers", func() bool { return v.answers(8080) })
	}
	runOrNot := func(v *victim, bare string) {
		v.t.Helper()
		switch st := state(v); st {
		case "running":
			served(v)
		case "", "created", "exited":
			// Not running means that nothing of a run is there.
			v.settled(st, bare)
			// Nothing is in its way.
			if st == "" {
				v.Docker(run...)
			} else {
				v.Docker("start", "victim")
			}
			served(v)
		default:
			v.t.Errorf("the container is %q", st)
		}
	}
	return []story{
		{
			name:  "run",
			do:    func(v *victim) { v.TryDocker(run...) },
			whole: runOrNot,
			need: slices.Concat(
				both("containerd.container.create", "image.prepare", "snapshot.prepare", "container.commit.created", "container.commit.starting",
					"store.containers", "store.sandboxes", "network.join", "keeper.reserve", "containerd.snapshot.mounts", "containerd.container.update",
					"containerd.task.create", "containerd.task.start", "container.commit.running"),
				around("create netns PIN", "create link VETH", "create addr INSIDE:eth0 ADDR/16", "create up INSIDE:eth0", "create up VETH",
					"create route INSIDE:eth0 ADDR/0", "create element inet TABLE endpoints4", "create element inet TABLE publish4_any"),
				[]string{"between create and alias link VETH"}),
		},
		{
			name:   "remove",
			before: func(v *victim) { v.Docker(run...); served(v) },
			do:     func(v *victim) { v.TryDocker("rm", "-f", "victim") },
			whole:  runOrNot,
			need: slices.Concat(
				both("network.leave", "store.sandboxes", "keeper.release", "containerd.task.delete", "containerd.snapshot.remove", "containerd.container.delete", "container.commit.removing"),
				around("delete netns PIN", "delete link VETH", "delete element inet TABLE publish4_any")),
		},
		{
			name:   "restart",
			before: func(v *victim) { v.Docker(run...); served(v) },
			do:     func(v *victim) { v.TryDocker("restart", "-t", "0", "victim") },
			whole:  runOrNot,
			need:   both("containerd.task.create", "containerd.task.start", "containerd.task.delete", "container.commit.running"),
		},
		{
			name:   "stop",
			before: func(v *victim) { v.Docker(run...); served(v) },
			do:     func(v *victim) { v.TryDocker("stop", "-t", "0", "victim") },
			whole:  runOrNot,
			need:   both("network.leave", "store.sandboxes", "containerd.task.delete"),
		},
		{
			name: "join",
			do: func(v *victim) {
				v.TryDocker("run", "-d", "--name", "victim", "--net=container:server", "busybox", "netprobe", "serve", "tcp/:8080")
			},
			whole: func(v *victim, bare string) {
				v.t.Helper()
				switch st := state(v); st {
				case "running", "":
				case "created", "exited":
					v.Docker("start", "victim")
				default:
					v.t.Errorf("the container is %q", st)
				}
				if state(v) == "running" {
					v.Until(5*time.Second, "it is in the server's sandbox", func() bool {
						return strings.Contains(v.TryDocker("exec", "victim", "netprobe", "dial", "tcp/127.0.0.1:9000").Stdout, "src=127.0.0.1")
					})
				}
			},
			need: both("container.commit.starting", "network.join", "store.sandboxes", "containerd.task.create", "containerd.task.start", "container.commit.running"),
		},
		{
			name: "run with a volume and --rm",
			do: func(v *victim) {
				v.TryDocker("run", "-d", "--rm", "--name", "victim", "-p", "8080:9000", "-v", "/data", "netprobe")
			},
			whole: func(v *victim, bare string) {
				v.t.Helper()
				switch st := state(v); st {
				case "running":
					served(v)
				case "", "created":
					v.settled(st, bare)
				default:
					v.t.Errorf("the container is %q", st)
				}
			},
			need: both("container.commit.created", "store.volumes", "container.commit.running"),
		},
	}
}
