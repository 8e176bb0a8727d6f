package capture

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"linkspan/dataplane/reading"
	"linkspan/diagnose/capture/filter"
	"linkspan/diagnose/flows"
)

// A frame waits so long before it is written: those of other interfaces may be older,
// and the message that conntrack knows its flow may still be on its way. What waits is
// bounded, and then goes early.
const (
	hold      = 300 * time.Millisecond
	holdMost  = 1 << 14  // frames
	holdBytes = 32 << 20 // of them
	tick      = hold / 3
)

// run is a capture that goes on.
type run struct {
	*Capture
	out   *writer
	flush func()

	mu      sync.Mutex
	wait    frames
	bytes   int
	nat     *natTable
	written int
	end     context.CancelCauseFunc
}

type held struct {
	reading.Frame
	place int
	// came is when it was read: the wait is for messages that are read beside it, and a
	// busy machine may have all of them read late.
	came time.Time
}

// Run captures until ctx ends, or the wish's count or time is over. ready is called when
// no packet can be missed any more, flush after what should be seen at once.
func (c *Capture) Run(ctx context.Context, w io.Writer, ready, flush func()) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r := &run{Capture: c, out: &writer{out: w, snap: c.wish.Snap}, flush: flush, end: end}
	r.nat = newNAT(c.wish.Container, addresses(c.box), func() *flows.Book { return c.src.Names.Book(ctx) })

	var all sync.WaitGroup
	// Flows first: what begins from now on is told, what was there is read afterwards.
	all.Go(func() {
		if err := c.src.Tap.Changes(ctx, "", []string{reading.FlowNew, reading.FlowUpdate, reading.FlowDestroy}, r.changes); err != nil {
			end(fmt.Errorf("conntrack cannot be followed, and without it the host's side is not known: %w", err))
		}
	})
	known, err := c.src.World.Kernel.Flows(ctx, "", reading.FlowFilter{})
	if err != nil {
		end(nil)
		all.Wait()
		return fmt.Errorf("the host's conntrack: %w", err)
	}
	r.mu.Lock()
	for _, f := range known {
		r.nat.add(f)
	}
	r.mu.Unlock()

	counts, errs := make([]reading.CaptureCount, len(c.places)), make([]error, len(c.places))
	listening := make(chan bool, len(c.places))
	for i, p := range c.places {
		all.Go(func() {
			counts[i], errs[i] = c.src.Tap.Capture(ctx, p.ns, reading.CaptureWish{Link: p.dev, Filter: p.program, Snap: c.wish.Snap},
				func() { listening <- true }, func(batch []reading.Frame) { r.take(i, batch) })
			if errs[i] != nil {
				end(errs[i])
			}
		})
	}
	for range c.places {
		select {
		case <-listening:
		case <-ctx.Done():
		}
	}
	// Until here an error is an answer of its own.
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		all.Wait()
		return cause
	}
	if ready != nil {
		ready()
	}
	var links []Link
	for _, p := range c.places {
		links = append(links, p.Link)
	}
	r.mu.Lock()
	if err := r.out.begin("linkspan "+c.src.Version, links); err != nil {
		end(err)
	}
	r.mu.Unlock()
	flush()
	if c.wish.For > 0 {
		defer time.AfterFunc(c.wish.For, func() { end(errEnough) }).Stop()
	}
	r.pump(ctx)
	all.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(time.Now().Add(hold))
	return r.close(counts, errs)
}

// pump writes what has waited long enough.
func (r *run) pump(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			r.mu.Lock()
			n := r.written
			r.release(now)
			r.nat.sweep(now)
			if r.written != n {
				r.flush()
			}
			r.mu.Unlock()
		}
	}
}

func (r *run) changes(batch []reading.FlowChange, _ int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range batch {
		if c.Kind == reading.FlowDestroy {
			r.nat.end(c.Flow, c.Time)
		} else {
			r.nat.add(c.Flow)
		}
	}
}

func (r *run) take(at int, batch []reading.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, f := range batch {
		heap.Push(&r.wait, held{f, at, now})
		r.bytes += len(f.Data)
	}
	for len(r.wait) > holdMost || r.bytes > holdBytes {
		r.first()
	}
}

// release writes the frames that are old enough, the oldest first.
func (r *run) release(now time.Time) {
	for len(r.wait) > 0 && now.Sub(r.wait[0].came) >= hold {
		r.first()
	}
}

func (r *run) first() {
	h := heap.Pop(&r.wait).(held)
	r.bytes -= len(h.Data)
	comment, ok := r.judge(h)
	if !ok || r.out.links == 0 || r.wish.Count > 0 && r.written >= r.wish.Count {
		return
	}
	if err := r.out.packet(h.place, h.Frame, comment); err != nil {
		r.end(err)
		return
	}
	if r.written++; r.written == r.wish.Count {
		r.end(errEnough)
	}
}

// judge says whether a frame is wanted, and what is to be said of it. On the host's side
// it must be the container's; on both, the filter may mean either side's addresses.
func (r *run) judge(h held) (comment string, ok bool) {
	v := filter.ViewOf(h.Data)
	t := tupleOf(v.Packet)
	inside := r.places[h.place].inside
	var j joined
	if inside {
		j, ok = r.nat.inside[t]
	} else if j, ok = r.nat.outside[t]; !ok {
		return "", false
	}
	views := []filter.View{v}
	if ok {
		other := v
		other.Packet.Src, other.Packet.Dst = j.other.src, j.other.dst
		views = append(views, other)
	}
	if r.loose && !r.expr.Match(views...) {
		return "", false
	}
	if ok && (j.flow.translated || !inside) {
		comment = r.nat.comment(j.flow)
	}
	return comment, true
}

// close writes what each interface saw, and what a person should know.
func (r *run) close(counts []reading.CaptureCount, errs []error) error {
	for i := range r.places {
		note := ""
		switch {
		case errs[i] != nil:
			note = errs[i].Error()
		case i == 0 && r.nat.refused:
			note = fmt.Sprintf("more than %d flows at once: of the others the host's side is missing", natMost)
		}
		if err := r.out.statistics(i, counts[i], time.Now(), note); err != nil {
			return err
		}
	}
	r.flush()
	return nil
}

// frames is a heap by time.
type frames []held

func (f frames) Len() int           { return len(f) }
func (f frames) Less(i, j int) bool { return f[i].Time.Before(f[j].Time) }
func (f frames) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *frames) Push(x any)        { *f = append(*f, x.(held)) }
func (f *frames) Pop() any {
	last := len(*f) - 1
	h := (*f)[last]
	(*f)[last] = held{}
	*f = (*f)[:last]
	return h
}
