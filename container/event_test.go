package container

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What `docker events` shows of a life, in Docker's order and words.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	ctx := t.Context()
	begin := time.Now()
	id := w.create("ev1", "sleep 1000", func(r *CreateRequest) {
		r.Config.Labels = map[string]string{"team": "red"}
		r.HostConfig.Binds = nil
	})
	c := newClient(t)
	ok(t, "attach", e.Attach(ctx, id, AttachOptions{Stdout: true, Stream: true}, c.door))
	ok(t, "start", e.Start(ctx, id))
	w.execute(id, ExecConfig{Cmd: []string{"sh", "-c", "exit 3"}}, "")
	ok(t, "pause", e.Pause(ctx, id))
	ok(t, "unpause", e.Unpause(ctx, id))
	ok(t, "rename", e.Rename(ctx, id, "ev2"))
	ok(t, "restart", e.Restart(ctx, id, StopOptions{Timeout: p(0)}))
	ok(t, "stop", e.Stop(ctx, id, StopOptions{Timeout: p(0), Signal: "HUP"}))
	ok(t, "rm", e.Remove(ctx, id, RemoveOptions{}))
	w.eventually("the exec's end", func() bool {
		past, _ := w.bus.Subscribe(ctx, begin)
		return len(past) >= 20
	})
	past, _ := w.bus.Subscribe(ctx, begin)
	var got []string
	for _, ev := range past {
		if ev.Type != "container" {
			continue
		}
		if ev.ID != id || ev.Attributes["team"] != "red" || ev.Attributes["image"] != "busybox" {
			t.Errorf("%+v", ev)
		}
		line := ev.Action + " " + ev.Attributes["name"]
		for _, k := range []string{"signal", "exitCode", "oldName"} {
			if v, there := ev.Attributes[k]; there {
				line += " " + k + "=" + v
			}
		}
		if strings.HasPrefix(ev.Action, "exec_die") {
			continue // it comes when it comes
		}
		got = append(got, line)
	}
	want := []string{
		"create ev1", "attach ev1", "start ev1", "exec_create: sh -c exit 3 ev1", "exec_start: sh -c exit 3 ev1",
		"pause ev1", "unpause ev1", "rename ev2 oldName=/ev1",
		"kill ev2 signal=15", "kill ev2 signal=9", "die ev2 exitCode=137", "stop ev2", "start ev2", "restart ev2",
		"kill ev2 signal=1", "kill ev2 signal=9", "die ev2 exitCode=137", "stop ev2", "destroy ev2",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	w.clean()
}
