package linux_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// many are the entries of n endpoints on other hosts: three each.
func many(n int) (objs []dataplane.Object) {
	for i := range n {
		mac := fmt.Sprintf("02:42:0a:59:%02x:%02x", i>>8, i&0xff)
		objs = append(objs,
			dataplane.FDB{Meta: network, Dev: "vx-x", MAC: mac, Dst: addr("10.99.0.2")},
			dataplane.FDB{Meta: network, Dev: "vx-x", MAC: mac},
			dataplane.Neighbour{Meta: network, Link: "br-x", Addr: addr(fmt.Sprintf("10.90.%d.%d", i>>8, i&0xff)), MAC: mac})
	}
	return objs
}

// TestManyRemotes: 10,000 endpoints elsewhere come in batches, one more costs what one
// costs, and what somebody takes away is back at once.
func TestManyRemotes(t *testing.T) {
	const n = 10_000
	h := newHost(t)
	h.apply(diff.Create(spanning()))
	w := h.watch()
	took := func(f func()) time.Duration { start := time.Now(); f(); return time.Since(start) }
	one := diff.Create(elsewhere("02:42:0a:58:77:77", "10.88.77.77", "10.99.0.3"))
	few := took(func() { h.apply(one) })
	all := many(n)
	whole := took(func() { h.apply(diff.Create(all)) })
	late := time.Hour
	for range 5 { // some have to wait for a processor where others work
		h.apply(diff.Delete(elsewhere("02:42:0a:58:77:77", "10.88.77.77", "10.99.0.3")))
		late = min(late, took(func() { h.apply(one) }))
	}
	t.Logf("%d endpoints: %v; one more: %v before, %v after", n, whole, few, late)
	if whole > patience || late > 50*time.Millisecond {
		t.Errorf("%d endpoints take %v, one more %v", n, whole, late)
	}
	if heard(w.Touched(), silence) {
		t.Errorf("our own is news: %s", told(w.Take()))
	}
	want := dataplane.NewState(append(spanning(), all...)...)
	want.Add(elsewhere("02:42:0a:58:77:77", "10.88.77.77", "10.99.0.3")...)
	if ops := diff.Compute(want, h.observe()).Ops; len(ops) != 0 {
		t.Fatalf("%d ops against what was made, such as %s %s", len(ops), ops[0].Verb, ops[0].Object.Key())
	}
	h.run("bridge", "fdb", "del", "02:42:0a:59:12:34", "dev", "vx-x")
	start := time.Now()
	if !heard(w.Touched(), patience) {
		t.Fatal("nothing heard")
	}
	now := w.Take()
	var here []dataplane.Object
	for _, o := range want.All() {
		if now.Has(o) {
			here = append(here, o)
		}
	}
	have, err := h.k.ObserveTouched(t.Context(), now, here)
	if err != nil {
		t.Fatal(err)
	}
	ops := diff.Compute(dataplane.NewState(here...), have).Ops
	h.apply(ops)
	if len(ops) != 1 {
		t.Errorf("%d ops", len(ops))
	}
	t.Logf("one entry put back after %v", time.Since(start))
	gone := took(func() { h.apply(diff.Delete(all)) })
	t.Logf("all gone: %v", gone)
	if s := h.observe(); s.Len() != len(spanning())+3 {
		t.Errorf("%d objects are left", s.Len())
	}
}

// BenchmarkRemote is one more endpoint on another host, beside 10,000.
func BenchmarkRemote(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHost(b)
			h.apply(diff.Create(append(spanning(), many(n)...)))
			one := elsewhere("02:42:0a:58:77:77", "10.88.77.77", "10.99.0.3")
			for b.Loop() {
				h.apply(diff.Create(one))
				h.apply(diff.Delete(one))
			}
		})
	}
}

// BenchmarkPutBack is what a repair of one entry beside 10,000 endpoints costs.
func BenchmarkPutBack(b *testing.B) {
	h := newHost(b)
	want := dataplane.NewState(append(spanning(), many(10000)...)...)
	h.apply(diff.Create(want.All()))
	now := dataplane.Touch{Links: map[string]bool{"vx-x": true}}
	for b.Loop() {
		var here []dataplane.Object
		for _, o := range want.All() {
			if now.Has(o) {
				here = append(here, o)
			}
		}
		have, err := h.k.ObserveTouched(b.Context(), now, here)
		if err != nil {
			b.Fatal(err)
		}
		diff.Compute(dataplane.NewState(here...), have)
	}
}

// TestBatchFailure: one bad entry among many fails alone, and says which it is.
func TestBatchFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(spanning()))
	all := many(500)
	bad := dataplane.FDB{Meta: endpoint, Dev: "vx-x", MAC: "02:42:0a:58:99:99", Dst: addr("fd00:99::2")}
	ops := diff.Create(all[:700])
	ops = append(append(ops, dataplane.Op{Verb: dataplane.Create, Object: bad}), diff.Create(all[700:])...)
	err := h.k.Apply(t.Context(), ops)
	var f *dataplane.Failure
	if !errors.As(err, &f) || f.Op.Object.Key() != bad.Key() || !strings.Contains(err.Error(), "one address family") || strings.Count(err.Error(), "create ") != 1 {
		t.Errorf("%v", err)
	}
	if ops := diff.Compute(dataplane.NewState(append(spanning(), all...)...), h.observe()).Ops; len(ops) != 0 {
		t.Errorf("%d ops are left, such as %s %s", len(ops), ops[0].Verb, ops[0].Object.Key())
	}
	// Taken away twice, it is gone once.
	for range 2 {
		h.apply(diff.Delete(all))
	}
	if s := h.observe(); s.Len() != len(spanning()) {
		t.Errorf("%d objects are left", s.Len())
	}
}
