package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// pause between two measurements: what an engine and the kernel still do in the
// background must not be the next one's cost.
const pause = 80 * time.Millisecond

const (
	nameNone     = "start+rm, --net=none"
	nameOne      = "one published port, above none"
	nameHundred  = "100 published ports, above none"
	nameThousand = "1,000 published ports, above none"
)

// life measures start+rm with ports less the same with --net=none. Each pair of
// the difference is measured back to back.
func (b *bench) life(ctx context.Context) error {
	for _, m := range []struct {
		name           string
		ports          int
		ours, dockerds int // pairs
		goal           float64
	}{
		// A difference of a few milliseconds between two that take a hundred.
		{nameOne, 1, 2 * b.pairs, b.pairs, 5},
		{nameHundred, 100, b.pairs, 2, 5},
		// dockerd would need 16 s a pair and 2,000 proxies.
		{nameThousand, 1000, b.pairs, 0, 50},
	} {
		if !b.wanted(m.name) && (m.ports != 1 || !b.wanted(nameNone)) {
			continue
		}
		ours, theirs := &lives{ports: m.ports}, &lives{ports: m.ports}
		// One unmeasured: the first start of an image warms caches.
		for i := -1; i < max(m.ours, m.dockerds); i++ {
			if i < m.ours {
				if err := ours.pair(ctx, b.world.ours, i); err != nil {
					return err
				}
			}
			if b.world.theirs != nil && i < m.dockerds && (i >= 0 || m.ports == 1) {
				if err := theirs.pair(ctx, b.world.theirs, i); err != nil {
					return err
				}
			}
		}
		if m.ports == 1 {
			b.table.row(nameNone, milliseconds, median(ours.none), median(theirs.none), goal{})
		}
		b.table.row(m.name, milliseconds, median(ours.above), median(theirs.above), goal{value: m.goal})
		b.table.note("%s: pairs differ by %s; the quickest quarter of each by %.2f ms", m.name, spread(ours.above), quick(ours.with)-quick(ours.none))
	}
	return nil
}

// spread tells how far the middle half of numbers reaches.
func spread(v []float64) string {
	low, high := quartiles(v)
	if math.IsNaN(low) {
		return "-"
	}
	return fmt.Sprintf("%.2f to %.2f ms in the middle half", low, high)
}

// quick is what a quarter of the runs did not take: on a busy machine nearer to what
// it takes on an idle one than the median.
func quick(v []float64) float64 {
	low, _ := quartiles(v)
	return low
}

// lives are the measurements of one engine.
type lives struct {
	ports             int
	none, with, above []float64 // ms
}

// pair measures one container with ports and one without, in alternating order.
func (l *lives) pair(ctx context.Context, e *engine, i int) error {
	var took [2]time.Duration
	for n := range 2 {
		with := (n + i + 1) % 2
		d, err := l.one(ctx, e, with == 1)
		if err != nil {
			return err
		}
		took[with] = d
	}
	if i >= 0 {
		l.none, l.with = append(l.none, ms(took[0])), append(l.with, ms(took[1]))
		l.above = append(l.above, ms(took[1]-took[0]))
	}
	return nil
}

// one is one start+rm.
func (l *lives) one(ctx context.Context, e *engine, ports bool) (time.Duration, error) {
	network, publish := "none", map[int]int(nil)
	if ports {
		network, publish = "bridge", map[int]int{}
		for p := range l.ports {
			publish[20000+p] = 10000 + p
		}
	}
	id, err := e.create(ctx, "pause", network, publish)
	if err != nil {
		return 0, err
	}
	time.Sleep(pause)
	start := time.Now()
	if err := e.run(ctx, id); err != nil {
		return 0, err
	}
	if err := e.remove(ctx, id); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
