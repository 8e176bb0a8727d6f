package linux

import (
	"context"
	"sync"
	"time"
)

// The background waits a moment before it works, so that many deletes become
// one: a group of links takes about as long as one, and one walk through the
// conntrack table serves all ports.
const (
	// As long as the runtime takes to clean up after an ended container: the request
	// that waits for that should not share its cores with this.
	coalesce    = 60 * time.Millisecond
	retryEvery  = 20 * time.Millisecond
	doomRetries = 5
	doomAgain   = time.Second
	// restFactor times as long as a round took, the next waits: however fast ports
	// come and go, this takes a fifth of one core at most.
	restFactor = 4
	restMax    = 200 * time.Millisecond
)

// background finishes what a request need not wait for: doomed links and stale
// conntrack entries. One goroutine, which ends with close.
type background struct {
	k    *Kernel
	wake chan struct{} // has room for one: there is work
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex
	links   bool // the doomed group has members
	gaps    int  // the page was made anew: tries left, see gap.go
	flows   flowBook
	spare   *sandbox // made ahead, or nil
	asked   uint64   // counts work given; settled work has been asked before
	settled uint64
	changed chan struct{} // closed and replaced when settled moves
}

func newBackground(k *Kernel) *background {
	b := &background{k: k, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		changed: make(chan struct{}), flows: newFlowBook()}
	go b.run()
	return b
}

// sweep deletes what a killed predecessor had doomed.
func (b *background) sweep() { b.doomed() }

func (b *background) doomed() {
	b.give(func() bool { b.links = true; return true })
}

// give registers work under the lock and wakes the goroutine, unless there turned
// out to be none.
func (b *background) give(register func() bool) {
	b.mu.Lock()
	if !register() {
		b.mu.Unlock()
		return
	}
	b.asked++
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *background) run() {
	defer close(b.done)
	rest := time.Duration(0)
	for {
		select {
		case <-b.wake:
		case <-b.quit:
			b.work(true) // what was given before close
			return
		}
		select {
		case <-time.After(max(coalesce, rest)):
		case <-b.quit:
		}
		start := time.Now()
		b.work(false)
		rest = min(restFactor*time.Since(start), restMax)
	}
}

// work does what there is; last, it makes nothing ahead.
func (b *background) work(last bool) {
	b.mu.Lock()
	links, gaps, upto := b.links, b.gaps, b.asked
	b.links, b.gaps = false, 0
	flows := len(b.flows.ports)+len(b.flows.ranges) > 0
	b.mu.Unlock()

	if flows {
		b.k.point("before purge conntrack entries")
		b.purgeFlows()
		b.k.point("after purge conntrack entries")
	}
	if gaps > 0 {
		b.forgetGap(gaps)
	}
	if links {
		b.k.point("before delete doomed links")
		b.deleteDoomed()
		b.k.point("after delete doomed links")
	}
	if !last {
		b.makeSpare()
	}

	b.mu.Lock()
	b.settled = upto
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
}

func (b *background) deleteDoomed() {
	var err error
	for try := range doomRetries {
		if err = gone(b.k.late.delGroup(b.k.doom)); err == nil {
			return
		}
		time.Sleep(time.Duration(try+1) * retryEvery)
	}
	// They stay down, without a name anyone wants, until then.
	b.k.log.Error("links about to be deleted could not be; tried again", "in", doomAgain, "group", b.k.doom, "err", err)
	time.AfterFunc(doomAgain, b.doomed)
}

// settle waits until everything asked before the call is done.
func (b *background) settle(ctx context.Context) error {
	b.mu.Lock()
	want := b.asked
	for b.settled < want {
		ch := b.changed
		b.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-b.done:
			return nil
		}
		b.mu.Lock()
	}
	b.mu.Unlock()
	return nil
}

func (b *background) close() error {
	b.mu.Lock()
	select {
	case <-b.quit:
	default:
		close(b.quit)
	}
	b.mu.Unlock()
	<-b.done
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spare != nil {
		b.spare.close()
		b.spare = nil
	}
	return nil
}
