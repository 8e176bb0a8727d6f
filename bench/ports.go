package main

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

const megabytes unit = "MB"

const (
	nameRange     = "10,000-port range, bare attach above none"
	nameReserve   = "  of which the reservation"
	nameRangeMap  = "  of which the map and the rest"
	nameRangeHeld = "  memory while it is held"
	nameShifted   = "10,000-port range to other numbers"
	nameFirst     = "first container with 32 ports, bare attach"
	nameLater     = "101st container with 32 ports, bare attach"
	nameLaterTo   = "  to the first one"
	nameRangeLife = "10,000-port range, start+rm above none"
	nameAmong     = "connections among %d published ports"
	nameFlat      = "  to those among %d"
)

// ports measures many ports: at the controller, in the keeper, of a whole
// container, and what they do to others' connections.
func (b *bench) ports(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.ranges, b.rangeLife, b.among} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ranges runs the benchmarks of ports_test.go.
func (b *bench) ranges(ctx context.Context) error {
	if !b.wanted(nameRange, nameReserve, nameRangeMap, nameRangeHeld, nameShifted, nameFirst, nameLater, nameLaterTo) {
		return nil
	}
	out, err := benchmarks(ctx, "Range|Hundred", 20)
	if err != nil {
		return err
	}
	m := readMetrics(out)
	need := func(name string) float64 {
		v, ok := m[name]
		if !ok {
			err = fmt.Errorf("%s was not measured:\n%s", name, out)
		}
		return v
	}
	join, reserve := need("BenchmarkRange/same join-ms"), need("BenchmarkReserveRange reserve-ms")
	held, shifted := need("BenchmarkReserveRange held-MB"), need("BenchmarkRange/shifted join-ms")
	first, later := need("BenchmarkHundred first-p25-ms"), need("BenchmarkHundred later-p25-ms")
	if err != nil {
		return err
	}
	none := math.NaN()
	b.table.row(nameRange, milliseconds, join, none, goal{value: 100})
	b.table.row(nameReserve, milliseconds, reserve, none, goal{})
	b.table.row(nameRangeMap, milliseconds, join-reserve, none, goal{value: 5})
	b.table.row(nameRangeHeld, megabytes, held, none, goal{value: 80})
	b.table.row(nameShifted, milliseconds, shifted, none, goal{})
	b.table.row(nameFirst, milliseconds, first, none, goal{value: 20})
	b.table.row(nameLater, milliseconds, later, none, goal{value: 20})
	b.table.row(nameLaterTo, "x", later/first, none, goal{value: 1.05})
	b.table.note("many ports: no process is started for any; dockerd starts one or two proxies for each port, and is not asked for 10,000")
	return nil
}

var (
	metricLine = regexp.MustCompile(`(?m)^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)
	metric     = regexp.MustCompile(`([0-9.e+-]+) (\S+)`)
)

// readMetrics finds all numbers that `go test -bench` printed, as "name unit".
func readMetrics(out string) map[string]float64 {
	found := map[string]float64{}
	for _, line := range metricLine.FindAllStringSubmatch(out, -1) {
		for _, m := range metric.FindAllStringSubmatch(line[2], -1) {
			if v, err := strconv.ParseFloat(m[1], 64); err == nil {
				found[line[1]+" "+m[2]] = v
			}
		}
	}
	return found
}

// rangeLife is start+rm of a whole container with 10,000 ports of the same numbers.
func (b *bench) rangeLife(ctx context.Context) error {
	if !b.wanted(nameRangeLife) {
		return nil
	}
	var above []float64
	for i := -1; i < max(3, b.pairs/3); i++ {
		l := &lives{ports: 10000}
		if err := l.pair(ctx, b.world.ours, max(i, 0)); err != nil {
			return err
		}
		if i >= 0 {
			above = append(above, l.above...)
		}
	}
	b.table.row(nameRangeLife, milliseconds, median(above), math.NaN(), goal{})
	b.table.note("%s: pairs differ by %s", nameRangeLife, spread(above))
	return nil
}

// others are how many ports are published beside the one that is measured. dockerd
// is asked for the fewest only: it starts two processes for each.
var others = []int{10, 1000, 10000}

// among measures new connections to one published port while others are published,
// all of them in turns, so that what else runs takes from each alike.
func (b *bench) among(ctx context.Context) error {
	var names []string
	for _, n := range others {
		names = append(names, fmt.Sprintf(nameAmong, n))
	}
	if !b.wanted(names...) {
		return nil
	}
	rate := map[int][]float64{}
	var theirs []float64
	// The server is one of its own: traffic's has published its port already.
	measure := func(e *engine, n int) (err error) {
		s := &servers{engine: e}
		const at = 28999
		if s.probe, err = e.server(ctx, "netprobe", map[int]int{at: probePort}); err != nil {
			return err
		}
		defer e.remove(context.WithoutCancel(ctx), s.probe.id)
		more := map[int]int{}
		for p := range n {
			more[30000+p] = 10000 + p // other numbers: an element for each
		}
		id, err := e.create(ctx, "pause", "bridge", more)
		if err != nil {
			return err
		}
		defer e.remove(context.WithoutCancel(ctx), id)
		if err := e.run(ctx, id); err != nil {
			return err
		}
		time.Sleep(pause)
		w := ways[1] // from outside
		to := w.to(s, s.probe, probePort, at)
		v, err := greetings(ctx, w.client(s, s.probe), to, b.load()/2)
		if err != nil {
			return fmt.Errorf("%s: among %d ports: %w", e.name, n, err)
		}
		if e == b.world.ours {
			rate[n] = append(rate[n], v)
		} else {
			theirs = append(theirs, v)
		}
		return nil
	}
	for r := range b.rounds {
		for i := range others {
			if err := measure(b.world.ours, others[(i+r)%len(others)]); err != nil {
				return err
			}
		}
		if b.world.theirs != nil {
			if err := measure(b.world.theirs, others[0]); err != nil {
				return err
			}
		}
	}
	few := best(rate[others[0]], true)
	for i, n := range others {
		with := math.NaN()
		if i == 0 {
			with = best(theirs, true)
		}
		b.table.row(names[i], perSecond, best(rate[n], true), with, goal{})
		if i > 0 {
			b.table.row(fmt.Sprintf(nameFlat, others[0]), "x", best(rate[n], true)/few, math.NaN(), goal{value: 0.95, more: true})
		}
	}
	return nil
}
