package container

import (
	"context"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
)

// follow subscribes to containerd's events. Exits come by waiting on each
// process, which misses none; the events tell what waiting does not, and that
// containerd went away and came back.
func (e *Engine) follow() {
	e.work.Go(func() {
		for e.ctx.Err() == nil {
			e.followOnce()
			if e.ctx.Err() != nil {
				return
			}
			e.log.Warn("containerd does not tell of events; containers keep running", "address", e.cfg.Address)
			if e.ctd.whenServing(e.ctx) == nil {
				e.log.Info("containerd is back", "address", e.cfg.Address)
				e.recovered(e.ctx)
			}
			select { // one that answers calls and refuses events
			case <-time.After(50 * time.Millisecond):
			case <-e.ctx.Done():
			}
		}
	})
}

func (e *Engine) followOnce() {
	ctx, cancel := context.WithCancel(namespaces.WithNamespace(e.ctx, e.cfg.Namespace))
	defer cancel()
	ch, errs := e.cfg.Client.EventService().Subscribe(ctx, `topic=="/tasks/oom",namespace=="`+e.cfg.Namespace+`"`)
	for {
		select {
		case env := <-ch:
			v, err := typeurl.UnmarshalAny(env.Event)
			if err != nil {
				e.log.Warn("an event of containerd cannot be read", "topic", env.Topic, "error", err)
				continue
			}
			if oom, ok := v.(*eventsapi.TaskOOM); ok {
				e.oom(oom.ContainerID)
			}
		case <-errs:
			return
		case <-e.ctx.Done():
			return
		}
	}
}

func (e *Engine) oom(id string) {
	e.mu.Lock()
	en := e.entries[id]
	e.mu.Unlock()
	if en == nil {
		return
	}
	en.mu.Lock()
	if en.run != nil {
		en.run.oom = true
	}
	en.mu.Unlock()
	e.publish(en.load(), "oom")
}
