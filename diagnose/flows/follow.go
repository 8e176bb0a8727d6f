package flows

import (
	"context"
	"errors"
	"sync"

	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// Follower gives flows as they come: accepted ones from conntrack, the others from what
// our rules drop.
type Follower struct {
	World *diagnose.World
	Names *Names
	Tap   reading.Tap
	Drops *Drops
}

// Line is one line of what is followed: a flow, or a note to the person.
type Line struct {
	Flow *Flow  `json:"flow,omitempty"`
	Drop *Drop  `json:"drop,omitempty"`
	Note string `json:"note,omitempty"`
}

// Follow gives what happens to the wished flows until ctx ends or fn fails. ready is
// called when nothing is missed any more. fn is called by one goroutine at a time.
func (f *Follower) Follow(ctx context.Context, w Wish, ready func(), fn func(Line) error) error {
	t, err := w.find(f.World)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var mu sync.Mutex
	give := func(l Line) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			if err := fn(l); err != nil {
				stop(err)
			}
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		stop(f.Tap.Changes(ctx, "", nil, func(batch []reading.FlowChange, lost int) {
			if lost > 0 {
				give(Line{Note: "more happened than could be read: some changes are missing here"})
			}
			for _, c := range batch {
				// The book is asked for each: a container may have come since the last.
				f.Names.At(ctx, c.Flow.Original.Src, c.Flow.Reply.Src)
				flow := flowOf(c.Flow, f.Names.Book(ctx), c.Time)
				flow.Event, flow.Time = c.Kind, c.Time
				if t.wants(flow) {
					give(Line{Flow: &flow})
				}
			}
		}))
	})
	if f.Drops != nil {
		all.Go(func() {
			_ = f.Drops.Follow(ctx, Match{Container: t.container, Network: t.network}, func(d Drop, _ int) error {
				give(Line{Flow: flowOfDrop(d)})
				return nil
			})
		})
	}
	if ready != nil {
		ready()
	}
	<-ctx.Done()
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// flowOfDrop is a flow that did not come to be.
func flowOfDrop(d Drop) *Flow {
	return &Flow{Event: "dropped", Time: d.Time, Proto: d.Proto, From: d.From, To: d.To, Verdict: "dropped", Rule: d.Rule, State: d.TCPFlags + d.ICMPType, Seen: "host"}
}
