package container

import (
	"slices"
	"strings"
	"testing"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/image"
)

func TestVerifyHealth(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		h     *apicontainer.HealthConfig
		words string
	}{
		{nil, ""},
		{&apicontainer.HealthConfig{}, ""},
		{&apicontainer.HealthConfig{Test: []string{"NONE"}}, ""},
		{&apicontainer.HealthConfig{Test: []string{"CMD", "true"}, Interval: ms, Timeout: ms, StartPeriod: ms, StartInterval: ms}, ""},
		{&apicontainer.HealthConfig{Interval: ms - 1}, "Interval in Healthcheck cannot be less than 1ms"},
		{&apicontainer.HealthConfig{Timeout: 1}, "Timeout in Healthcheck cannot be less than 1ms"},
		{&apicontainer.HealthConfig{StartPeriod: -1}, "StartPeriod in Healthcheck cannot be less than 1ms"},
		{&apicontainer.HealthConfig{StartInterval: 1}, "StartInterval in Healthcheck cannot be less than 1ms"},
		{&apicontainer.HealthConfig{Retries: -1}, "Retries in Healthcheck cannot be negative"},
		{&apicontainer.HealthConfig{Test: []string{"CMD"}}, "has no command"},
		{&apicontainer.HealthConfig{Test: []string{"CMD-SHELL", ""}}, "has no command"},
		{&apicontainer.HealthConfig{Test: []string{"curl", "x"}}, "Unknown healthcheck type 'curl' (expected 'CMD', 'CMD-SHELL' or 'NONE')"},
	} {
		err := verifyHealth(c.h)
		if c.words == "" && err != nil {
			t.Errorf("%+v: %v", c.h, err)
		} else if c.words != "" {
			refused(t, c.words, err, cnm.ErrInvalid, c.words)
		}
	}
}

func TestMergeHealth(t *testing.T) {
	img := &apicontainer.HealthConfig{Test: []string{"CMD", "img"}, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5}
	own := &apicontainer.HealthConfig{Test: []string{"CMD", "own"}, Interval: 6}
	h := mergeHealth(own, img)
	if h.Test[1] != "own" || h.Interval != 6 || h.Timeout != 2 || h.StartPeriod != 3 || h.StartInterval != 4 || h.Retries != 5 || own.Timeout != 0 {
		t.Errorf("%+v", h)
	}
	if h := mergeHealth(&apicontainer.HealthConfig{Retries: 9}, img); h.Test[1] != "img" || h.Retries != 9 {
		t.Errorf("%+v", h)
	}
	if mergeHealth(nil, img) != img || mergeHealth(own, nil) != own {
		t.Error("one alone stands as it is")
	}
}

func TestHealthOf(t *testing.T) {
	for _, c := range []struct {
		test, shell []string
		want        string
	}{
		{nil, nil, ""},
		{[]string{"NONE"}, nil, ""},
		{[]string{"CMD", "a", "b c"}, nil, "a|b c"},
		{[]string{"CMD-SHELL", "a && b"}, nil, "/bin/sh|-c|a && b"},
		{[]string{"CMD-SHELL", "a"}, []string{"/bin/bash", "-ec"}, "/bin/bash|-ec|a"},
	} {
		k := healthOf(&apicontainer.Config{Shell: c.shell, Healthcheck: &apicontainer.HealthConfig{Test: c.test}})
		if c.want == "" {
			if k != nil || k.begin(&Health{}) != nil {
				t.Errorf("%q: %+v", c.test, k)
			}
			continue
		}
		if got := strings.Join(k.cmd, "|"); got != c.want || k.interval != 30*time.Second || k.timeout != 30*time.Second || k.retries != 3 || k.startInterval != 5*time.Second || k.startPeriod != 0 {
			t.Errorf("%q %+v", got, k)
		}
	}
}

func TestJudge(t *testing.T) {
	k := &healthCheck{retries: 3, startPeriod: 10 * time.Second, interval: 30 * time.Second, startInterval: time.Second}
	start := time.Now()
	h := k.begin(nil)
	for i, step := range []struct {
		at     int // seconds
		code   int
		want   apicontainer.HealthStatus
		streak int
		next   time.Duration
	}{
		{1, 1, "starting", 0, time.Second}, // within the start period
		{5, 1, "starting", 0, time.Second},
		{11, 1, "starting", 1, 30 * time.Second},
		{12, 2, "starting", 2, 30 * time.Second},
		{13, -1, "unhealthy", 3, 30 * time.Second},
		{14, 1, "unhealthy", 4, 30 * time.Second},
		{15, 0, "healthy", 0, 30 * time.Second},
		{16, 1, "healthy", 1, 30 * time.Second},
		{17, 0, "healthy", 0, 30 * time.Second},
	} {
		at := time.Duration(step.at) * time.Second
		h = k.judge(h, start, &apicontainer.HealthcheckResult{Start: start.Add(at), ExitCode: step.code})
		if h.Status != step.want || h.FailingStreak != step.streak || len(h.Log) != min(i+1, 5) || k.wait(h, at) != step.next {
			t.Errorf("step %d: %s %d, %d results, next in %v", i, h.Status, h.FailingStreak, len(h.Log), k.wait(h, at))
		}
	}
	// Once healthy, the start period is over for failures too.
	h = k.judge(k.begin(nil), start, &apicontainer.HealthcheckResult{Start: start.Add(time.Second)})
	if h = k.judge(h, start, &apicontainer.HealthcheckResult{Start: start.Add(2 * time.Second), ExitCode: 1}); h.Status != "healthy" || h.FailingStreak != 1 || k.wait(h, time.Second) != 30*time.Second {
		t.Errorf("%+v", h)
	}
	if e := endHealth(h); e.Status != "unhealthy" || h.Status != "healthy" || len(e.Log) != 2 || endHealth(nil) != nil {
		t.Errorf("%+v", e)
	}
	if b := k.begin(h); b.Status != "starting" || b.FailingStreak != 0 || len(b.Log) != 2 {
		t.Errorf("%+v", b)
	}
}

// checked gives a container a check of the shell, every few milliseconds.
func checked(cmd string) func(*CreateRequest) {
	return func(r *CreateRequest) {
		r.Config.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD-SHELL", cmd}, Interval: 50 * time.Millisecond, Retries: 2}
	}
}

func (w *world) health(ref string) *Health {
	c, err := w.e.Get(ref)
	if err != nil || c.State.Health == nil {
		return &Health{}
	}
	return c.State.Health
}

func (w *world) becomes(ref string, s apicontainer.HealthStatus) {
	w.t.Helper()
	w.eventually(ref+" is "+string(s), func() bool { return w.health(ref).Status == s })
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	_, told := w.bus.Subscribe(ctx, time.Time{})
	var seen []string
	all := make(chan struct{})
	go func() {
		defer close(all)
		for ev := range told {
			if ev.Action == "destroy" {
				return
			}
			a, _, _ := strings.Cut(ev.Action, ": /bin/sh")
			if a == "exec_create" && ev.Attributes["execID"] == "" {
				t.Errorf("%+v", ev)
			}
			if (strings.HasPrefix(a, "health") || strings.HasPrefix(a, "exec")) && !slices.Contains(seen, a) {
				seen = append(seen, a)
			}
		}
	}()
	id := w.run("h1", "sleep 1000", checked("echo seen; test -e /well"))
	if s := w.health(id).Status; s != "starting" {
		t.Error(s)
	}
	w.becomes(id, "unhealthy")
	h := w.health(id)
	if h.FailingStreak < 2 || len(h.Log) < 2 || h.Log[0].ExitCode != 1 || h.Log[0].Output != "seen\n" || !h.Log[0].End.After(h.Log[0].Start) {
		t.Errorf("%+v %+v", h, h.Log[0])
	}
	w.execute(id, ExecConfig{Cmd: []string{"touch", "/well"}}, "")
	w.becomes(id, "healthy")
	w.eventually("five results", func() bool { return len(w.health(id).Log) == 5 })
	// Nothing is checked while it is frozen, and nothing forgotten.
	ok(t, "pause", e.Pause(ctx, id))
	usleep(100)
	before := w.health(id)
	usleep(200)
	if now := w.health(id); now.Status != "healthy" || now.Log[4] != before.Log[4] {
		t.Errorf("checked while paused: %+v", now)
	}
	ok(t, "unpause", e.Unpause(ctx, id))
	w.eventually("a new result", func() bool { return w.health(id).Log[4] != before.Log[4] })
	// It outlives the daemon.
	e = w.reborn(nil)
	if s := w.health(id).Status; s != "healthy" {
		t.Error(s)
	}
	last := w.health(id).Log
	w.eventually("checked by the next daemon", func() bool {
		l := w.health(id).Log
		return len(l) > 0 && (len(last) == 0 || l[len(l)-1] != last[len(last)-1])
	})
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	if s := w.health(id).Status; s != "unhealthy" {
		t.Error(s)
	}
	ok(t, "start", e.Start(ctx, id))
	if s := w.health(id).Status; s != "starting" {
		t.Error(s)
	}
	w.becomes(id, "healthy") // the writable layer has the file still
	w.remove(id)
	<-all
	if got := strings.Join(seen, ", "); got != "exec_create, exec_start, exec_die, health_status: unhealthy, exec_create: touch /well, exec_start: touch /well, health_status: healthy" {
		t.Errorf("events: %s", got)
	}
	w.clean()
}

func TestHealthOddChecks(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	slow := w.run("slow", "sleep 1000", checked("echo begun; sleep 100"), func(r *CreateRequest) { r.Config.Healthcheck.Timeout = 300 * time.Millisecond })
	loud := w.run("loud", "sleep 1000", checked("yes | head -c 300000"))
	missing := w.run("missing", "sleep 1000", func(r *CreateRequest) {
		r.Config.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD", "nosuch", "x"}, Interval: 50 * time.Millisecond, Retries: 1}
	})
	plain := w.run("plain", "sleep 1000")
	none := w.run("none", "sleep 1000", func(r *CreateRequest) {
		r.Config.Healthcheck = &apicontainer.HealthConfig{Test: []string{"NONE"}}
	})
	w.becomes(slow, "unhealthy")
	if r := w.health(slow).Log[0]; r.ExitCode != -1 || r.Output != "Health check exceeded timeout (300ms): begun\n" {
		t.Errorf("%+v", r)
	}
	w.becomes(loud, "healthy")
	if r := w.health(loud).Log[0]; len(r.Output) != 4096+3 || !strings.HasSuffix(r.Output, "y\n...") {
		t.Errorf("%d bytes, %q", len(r.Output), r.Output[len(r.Output)-9:])
	}
	w.becomes(missing, "unhealthy")
	if r := w.health(missing).Log[0]; r.ExitCode != -1 || !strings.Contains(r.Output, `exec: "nosuch": executable file not found in $PATH`) {
		t.Errorf("%+v", r)
	}
	for _, id := range []string{plain, none} {
		if c, _ := e.Get(id); c.State.Health != nil {
			t.Errorf("%s: %+v", c.Name, c.State.Health)
		}
	}
	// Checks leave neither execs nor processes behind.
	w.eventually("few execs", func() bool { return len(e.ExecIDs(slow)) <= 1 && len(e.ExecIDs(loud)) <= 1 })
	pids, err := e.ctd.pids(t.Context(), slow)
	if err != nil || len(pids) > 4 {
		t.Errorf("%v %v", pids, err)
	}
	w.clean()
}

// A check that an earlier daemon left running is ended by the next one.
func TestHealthOfADeadDaemon(t *testing.T) {
	w := newWorld(t)
	w.start()
	id := w.run("h1", "sleep 1000", checked("sleep 1000"))
	running := func() []string { ids, _ := w.e.ctd.execs(t.Context(), id); return ids }
	w.eventually("a check runs", func() bool { return len(running()) == 1 })
	old := running()[0]
	w.reborn(nil)
	w.eventually("the old check is gone", func() bool { return !slices.Contains(running(), old) })
	w.clean()
}

// The image's HEALTHCHECK is run, unless the container says otherwise.
func TestHealthFromTheImage(t *testing.T) {
	w := newWorld(t)
	w.images.health = &image.Healthcheck{Test: []string{"CMD", "true"}, Interval: 50 * time.Millisecond}
	e := w.start()
	id, warnings, err := e.Create(t.Context(), request("h1", "sleep 1000"))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	ok(t, "start", e.Start(t.Context(), id))
	w.becomes(id, "healthy")
	no := w.run("h2", "sleep 1000", func(r *CreateRequest) {
		r.Config.Healthcheck = &apicontainer.HealthConfig{Test: []string{"NONE"}}
	})
	if c, _ := e.Get(no); c.State.Health != nil {
		t.Error("checked all the same")
	}
	w.clean()
}
