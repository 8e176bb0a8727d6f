package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"linkspan/cnm"
)

// The rows of the mesh's control plane.
const (
	nameMeshAll      = "mesh: all hosts have all endpoints"
	nameMeshCPU      = "mesh: processor time of one host for it"
	nameMeshMemory   = "mesh: memory of one host that has them"
	nameMeshBatch    = "mesh: endpoints written per transaction"
	nameMeshRest     = "mesh: one host at rest, time per second"
	nameMeshOne      = "mesh: one endpoint more, all have it, p50"
	nameMeshOneLate  = "mesh: one endpoint more, all have it, p99"
	nameMeshOneCPU   = "mesh: one endpoint more, time of one host"
	nameMeshOneOther = "mesh: one endpoint more, a host without part"
)

// more is how often one endpoint more is measured.
const more = 150

// mesh measures the control plane: hosts in this process, each with its own connections
// to three etcd members in another.
func (b *bench) mesh(ctx context.Context) error {
	if !b.wanted(nameMeshAll, nameMeshCPU, nameMeshMemory, nameMeshBatch, nameMeshRest, nameMeshOne, nameMeshOneLate, nameMeshOneCPU, nameMeshOneOther) {
		return nil
	}
	dir, err := os.MkdirTemp("", "linkspan-bench-mesh")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	etcd, err := startMembers(ctx, dir)
	if err != nil {
		return err
	}
	defer etcd.stop()
	// All of them together are to have less than 4 GB.
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(3000 << 20))
	before := memory()
	begun := time.Now()
	f, err := newFleet(ctx, etcd.endpoints, b.hosts)
	if f != nil {
		defer f.close()
	}
	if err != nil {
		return err
	}
	b.table.note("mesh: %d hosts joined one after the other and knew each other after %.1f s", b.hosts, time.Since(begun).Seconds())

	// A network with a tenth of the endpoints, to compare what one more costs.
	small, err := f.network(ctx, "small", "10.89.0.0/16", f.hosts)
	if err != nil {
		return err
	}
	if err := f.fill(ctx, small, 0, b.endpoints/10); err != nil {
		return err
	}
	little, err := f.oneMore(ctx, small, f.hosts, b.endpoints/10)
	if err != nil {
		return err
	}
	for _, h := range f.hosts {
		h.Unfollow(small.ID)
	}

	shop, err := f.network(ctx, "shop", "10.90.0.0/16", f.hosts)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // presences are written
	rev, err := f.revision(ctx)
	if err != nil {
		return err
	}
	cpu, theirs := ownCPU(), first(etcd.cost())
	begun = time.Now()
	if err := f.fill(ctx, shop, 0, b.endpoints); err != nil {
		return err
	}
	took := time.Since(begun)
	cpu, theirs = ownCPU()-cpu, first(etcd.cost())-theirs
	after, err := f.revision(ctx)
	if err != nil {
		return err
	}
	each := float64(b.hosts)
	none := math.NaN()
	b.table.row(nameMeshAll, milliseconds, ms(took), none, goal{value: 60_000})
	b.table.row(nameMeshCPU, milliseconds, ms(cpu)/each, none, goal{value: 200})
	b.table.row(nameMeshBatch, pieces, float64(b.endpoints)/float64(after-rev), none, goal{value: 10, more: true})
	b.table.row(nameMeshMemory, megabytes, float64(memory()-before)/each/1e6, none, goal{value: 15})
	_, rss := etcd.cost()
	_, own := processCost(os.Getpid())
	b.table.note("mesh: %d hosts x %d endpoints: all hosts share this machine, so that the time until all have all is the sum of what they compute (%.0f s); etcd's three members together used %.1f s of processor time for it, and have %d MB; the process of all hosts has %d MB", b.hosts, b.endpoints, (cpu + theirs).Seconds(), theirs.Seconds(), rss>>20, own>>20)

	time.Sleep(2 * time.Second)
	cpu, theirs = ownCPU(), first(etcd.cost())
	const rest = 5 * time.Second
	time.Sleep(rest)
	cpu, theirs = ownCPU()-cpu, first(etcd.cost())-theirs
	b.table.row(nameMeshRest, microseconds, us(cpu)/each/rest.Seconds(), none, goal{value: 1000})
	b.table.note("mesh: at rest etcd's members use %.0f ms of processor time per second", ms(theirs)/rest.Seconds())

	lot, err := f.oneMore(ctx, shop, f.hosts, b.endpoints)
	if err != nil {
		return err
	}
	slices.Sort(lot.took)
	b.table.row(nameMeshOne, milliseconds, median(lot.took), median(little.took), goal{value: 100})
	b.table.row(nameMeshOneLate, milliseconds, lot.took[len(lot.took)*99/100], none, goal{value: 300})
	b.table.row(nameMeshOneCPU, microseconds, lot.cpu/each, little.cpu/each, goal{value: 1.5, relative: true})

	// A network of three hosts: the others hear nothing of it.
	some := f.hosts[:3]
	pair, err := f.network(ctx, "pair", "10.91.0.0/16", some)
	if err != nil {
		return err
	}
	heard := int64(0)
	for _, h := range f.hosts[3:] {
		heard -= h.ear.changes.Load()
	}
	few, err := f.oneMore(ctx, pair, some, 0)
	if err != nil {
		return err
	}
	for _, h := range f.hosts[3:] {
		heard += h.ear.changes.Load()
	}
	if heard != 0 {
		return fmt.Errorf("hosts heard %d endpoints of a network that they have no part in", heard)
	}
	b.table.row(nameMeshOneOther, microseconds, few.rest/each, lot.cpu/each, goal{value: 0.1, relative: true})
	b.table.note("mesh: the column of dockerd is: for one more, the same among a tenth of the endpoints; for those it is not for, what it costs those it is for")
	return nil
}

// fill has every host publish its share of endpoints at once, and waits until all have
// all.
func (f *fleet) fill(ctx context.Context, n *cnm.Network, from, to int) error {
	share := map[int][]cnm.Remote{}
	for i := from; i < to; i++ {
		h := i % len(f.hosts)
		share[h] = append(share[h], endpoint(f.hosts[h], n.ID, i))
	}
	for h, rs := range share {
		f.hosts[h].Publish(n, rs...)
	}
	own := map[*member]int{}
	for h, rs := range share {
		own[f.hosts[h]] = len(rs)
	}
	return f.until(ctx, "have all endpoints", func(h *member) bool { return h.ear.count(n.ID) == to-from-own[h] })
}

// extra is what one endpoint more costs: how long until all have it, processor time
// of all hosts together in microseconds, and the same beyond what rest costs.
type extra struct {
	took      []float64
	cpu, rest float64
}

func (f *fleet) oneMore(ctx context.Context, n *cnm.Network, hosts []*member, from int) (x extra, err error) {
	time.Sleep(time.Second)
	idle := ownCPU()
	const pause = 3 * time.Second
	time.Sleep(pause)
	idle = ownCPU() - idle
	cpu, begun := ownCPU(), time.Now()
	for i := range more {
		by := hosts[i%len(hosts)]
		t := time.Now()
		by.Publish(n, endpoint(by, n.ID, from+i))
		if err := untilAll(ctx, hosts, "have the one endpoint more", func(h *member) bool { return h == by || h.ear.has(n.ID, from+i) }); err != nil {
			return x, err
		}
		x.took = append(x.took, ms(time.Since(t)))
	}
	used := ownCPU() - cpu
	resting := time.Duration(float64(idle) * float64(time.Since(begun)) / float64(pause))
	x.cpu = us(used-resting) / more
	x.rest = max(x.cpu, 0)
	return x, nil
}

func (f *fleet) revision(ctx context.Context) (int64, error) {
	_, rev, err := f.hosts[0].store.List(ctx, "none such")
	return rev, err
}

// memory is what is in use after a collection, stacks too.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func first(d time.Duration, _ int64) time.Duration { return d }
