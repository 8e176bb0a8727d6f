package container

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// Everybody does everything to a few containers at once. Nothing may hang, no
// error may be of no class, and at the end everything can be removed.
func TestStorm(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	names := []string{"storm-a", "storm-b", "storm-c"}
	ops := map[string]func(ref string) error{
		"create": func(ref string) error {
			r := request(ref, "usleep 200000; exit 1")
			r.Config.Volumes = map[string]struct{}{"/v": {}}
			if rand.IntN(2) == 0 {
				r.HostConfig.RestartPolicy.Name = apicontainer.RestartPolicyAlways
			} else {
				r.HostConfig.AutoRemove = rand.IntN(2) == 0
			}
			switch rand.IntN(3) {
			case 0:
				r.HostConfig.Links = []string{names[rand.IntN(len(names))] + ":other"}
			case 1:
				r.HostConfig.NetworkMode = "shop"
				r.Config.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD", "true"}, Interval: 20 * time.Millisecond}
			}
			_, _, err := e.Create(ctx, r)
			return err
		},
		"start":   func(ref string) error { return e.Start(ctx, ref) },
		"stop":    func(ref string) error { return e.Stop(ctx, ref, StopOptions{Timeout: p(0)}) },
		"restart": func(ref string) error { return e.Restart(ctx, ref, StopOptions{Timeout: p(0)}) },
		"kill":    func(ref string) error { return e.Kill(ctx, ref, "") },
		"pause":   func(ref string) error { return e.Pause(ctx, ref) },
		"unpause": func(ref string) error { return e.Unpause(ctx, ref) },
		"rm":      func(ref string) error { return e.Remove(ctx, ref, RemoveOptions{Force: true, Volumes: true}) },
		"stat":    func(ref string) error { _, err := e.StatPath(ctx, ref, "/etc/passwd"); return err },
		"exec": func(ref string) error {
			x, err := e.ExecCreate(ctx, ref, ExecConfig{Cmd: []string{"true"}})
			if err != nil {
				return err
			}
			return e.ExecStart(ctx, x, false, nil, nil, nil)
		},
		"rename":     func(ref string) error { return e.Rename(ctx, ref, names[rand.IntN(len(names))]) },
		"connect":    func(ref string) error { return e.Connect(ctx, ref, "shop", nil) },
		"disconnect": func(ref string) error { return e.Disconnect(ctx, ref, "shop", false) },
		"wait": func(ref string) error {
			_, err := e.Wait(ctx, ref, WaitNotRunning)
			return err
		},
	}
	var kinds []string
	for k := range ops {
		kinds = append(kinds, k)
	}
	classes := []error{cnm.ErrNotFound, cnm.ErrConflict, cnm.ErrNotModified, cnm.ErrInvalid, cnm.ErrForbidden}
	end := time.Now().Add(4 * time.Second)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for time.Now().Before(end) {
				kind, ref := kinds[rand.IntN(len(kinds))], names[rand.IntN(len(names))]
				begin := time.Now()
				err := ops[kind](ref)
				known := err == nil
				for _, c := range classes {
					known = known || errors.Is(err, c)
				}
				// A process that ends while it is being paused or entered makes the
				// runtime itself fail, in words of its own.
				if !known && kind != "pause" && kind != "unpause" && kind != "exec" && kind != "start" && kind != "restart" {
					t.Errorf("%s: %v", kind, err)
				}
				if d := time.Since(begin); d > time.Minute {
					t.Errorf("%s took %s: %v", kind, d, err)
				}
			}
		})
	}
	all.Wait()
	w.clean()
}
