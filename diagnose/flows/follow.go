package flows

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

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
	twice := newTwice()
	listen := func(ns, where string) {
		err := f.Tap.Changes(ctx, ns, nil, func(batch []reading.FlowChange, lost int) {
			if lost > 0 {
				give(Line{Note: "more happened than could be read: some changes are missing here"})
			}
			for _, c := range batch {
				if where != "host" && (inside(c.Flow) || !f.within(ctx, c.Flow)) || twice.seen(c) {
					continue
				}
				// The book is asked for each: a container may have come since the last.
				f.Names.At(ctx, c.Flow.Original.Src, c.Flow.Reply.Src)
				flow := flowOf(c.Flow, f.Names.Book(ctx), where, c.Time)
				flow.Event, flow.Time = c.Kind, c.Time
				if t.wants(flow) {
					give(Line{Flow: &flow})
				}
			}
		})
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist): // a container that ended
		case where == "host":
			stop(err)
		default:
			give(Line{Note: "the conntrack of container " + where + " cannot be followed: " + err.Error()})
		}
	}
	all.Go(func() { listen("", "host") })
	// Flows within one network are seen by the containers' own conntracks only.
	if t.container != "" || t.network != "" {
		for i, s := range t.boxes {
			if i < boxesMost {
				all.Go(func() { listen(s.Path, s.OwnerName) })
			}
		}
	}
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

// within says that both ends are of one network, so that the host does not see the flow.
func (f *Follower) within(ctx context.Context, flow reading.Flow) bool {
	a, b := f.Names.At(ctx, flow.Original.Src, flow.Reply.Src)
	return a.Network != "" && a.Network == b.Network && a.Kind == KindContainer && b.Kind == KindContainer
}

// flowOfDrop is a flow that did not come to be.
func flowOfDrop(d Drop) *Flow {
	return &Flow{Event: "dropped", Time: d.Time, Proto: d.Proto, From: d.From, To: d.To, Verdict: "dropped", Rule: d.Rule, State: d.TCPFlags + d.ICMPType, Seen: "host"}
}

// twice forgets soon: it knows what two conntracks tell of the same moment.
type twice struct {
	mu   sync.Mutex
	last map[happened]time.Time
}

type happened struct {
	wire
	kind, state string
}

const (
	twiceFor  = 2 * time.Second
	twiceMost = 4096
)

func newTwice() *twice { return &twice{last: map[happened]time.Time{}} }

func (t *twice) seen(c reading.FlowChange) bool {
	h := happened{answerOf(c.Flow), c.Kind, state(c.Flow)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.last[h]; ok && c.Time.Sub(at) < twiceFor {
		return true
	}
	if len(t.last) >= twiceMost {
		for k, at := range t.last {
			if c.Time.Sub(at) >= twiceFor {
				delete(t.last, k)
			}
		}
		if len(t.last) >= twiceMost {
			clear(t.last)
		}
	}
	t.last[h] = c.Time
	return false
}

// Now are the flows of this moment.
func (f *Follower) Now(ctx context.Context, w Wish) (*Table, error) {
	return Now(ctx, f.World, f.Names, w)
}
