package container

import (
	"syscall"
	"testing"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
)

func TestShouldRestart(t *testing.T) {
	for _, c := range []struct {
		policy         string
		max            int
		code, restarts int
		stopped        bool
		want           bool
	}{
		{policy: "", code: 1},
		{policy: "no", code: 1},
		{policy: "always", want: true},
		{policy: "always", code: 1, want: true},
		{policy: "always", stopped: true},
		{policy: "unless-stopped", want: true},
		{policy: "unless-stopped", stopped: true},
		{policy: "on-failure"},
		{policy: "on-failure", code: 1, restarts: 1000, want: true},
		{policy: "on-failure", max: 3, code: 1, restarts: 2, want: true},
		{policy: "on-failure", max: 3, code: 1, restarts: 3},
		{policy: "on-failure", code: 137, stopped: true},
	} {
		p := apicontainer.RestartPolicy{Name: apicontainer.RestartPolicyMode(c.policy), MaximumRetryCount: c.max}
		if got := shouldRestart(p, c.code, c.restarts, c.stopped); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestShouldBoot(t *testing.T) {
	for _, c := range []struct {
		policy  string
		state   State
		started bool
		want    bool
	}{
		{policy: "no", started: true},
		{policy: "always", started: true, want: true},
		{policy: "always", started: true, state: State{ManuallyStopped: true}, want: true},
		{policy: "always", started: false},
		{policy: "unless-stopped", started: true, want: true},
		{policy: "unless-stopped", started: true, state: State{ManuallyStopped: true}},
		{policy: "on-failure", started: true, state: State{ExitCode: 1}, want: true},
		{policy: "on-failure", started: true, state: State{ExitCode: 0}},
		{policy: "on-failure", started: true, state: State{ExitCode: 143, ManuallyStopped: true}},
	} {
		r := &Container{State: c.state, HostConfig: &apicontainer.HostConfig{RestartPolicy: apicontainer.RestartPolicy{Name: apicontainer.RestartPolicyMode(c.policy)}}}
		if c.started {
			r.State.StartedAt = time.Now()
		}
		if got := shouldBoot(r); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for i, want := range []time.Duration{ms(100), ms(200), ms(400), ms(800), ms(1600), ms(3200), ms(6400), ms(12800), ms(25600), ms(51200), time.Minute, time.Minute} {
		if got := b.next(time.Second); got != want {
			t.Errorf("restart %d waits %s, want %s", i, got, want)
		}
	}
	if got := b.next(10 * time.Second); got != ms(100) {
		t.Errorf("after a long run: %s", got)
	}
	if got := b.next(0); got != ms(200) {
		t.Errorf("and then: %s", got)
	}
}

// A container that a person stopped and the daemon's start brought back is one
// that runs like any other: its policy counts again.
func TestPolicyAfterAStopAndABoot(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	id := w.run("again", "sleep 1000", func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "always" })
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0)}))
	e = w.reborn(nil)
	w.eventually("the boot", func() bool { return w.phase(id) == Running })
	c, _ := e.Get(id)
	if c.State.ManuallyStopped {
		t.Error("still stopped by a person")
	}
	if err := syscall.Kill(c.State.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("the policy's restart", func() bool { n, _ := e.Get(id); return n.State.Phase == Running && n.State.Pid != c.State.Pid })
	w.clean()
}
