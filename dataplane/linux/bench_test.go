package linux_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// BenchmarkAttach makes and removes one container's fragment: namespace, veth,
// address, route, elements. The target for the making is 2 ms.
func BenchmarkAttach(b *testing.B) {
	h := newHost(b)
	h.apply(diff.Create(bridgeNet()))
	web := h.container("web", 2)
	create, remove := diff.Create(web), diff.Delete(web)
	var took []time.Duration
	b.ResetTimer()
	for b.Loop() {
		start := time.Now()
		h.apply(create)
		took = append(took, time.Since(start))
		b.StopTimer()
		h.apply(remove)
		if err := h.k.Settle(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	// The mean also counts waits for the kernel's tearing down of earlier namespaces.
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkDetach is the part of removal that a request waits for.
func BenchmarkDetach(b *testing.B) {
	h := newHost(b)
	h.apply(diff.Create(bridgeNet()))
	web := h.container("web", 2)
	create, remove := diff.Create(web), diff.Delete(web)
	for b.Loop() {
		b.StopTimer()
		h.apply(create)
		b.StartTimer()
		h.apply(remove)
	}
}

// BenchmarkPorts publishes and removes n ports with 10,000 others there.
func BenchmarkPorts(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHost(b)
			h.apply(diff.Create(append(bridgeNet(), ports(10000, 10000)...)))
			mine := ports(30000, n)
			create, remove := diff.Create(mine), diff.Delete(mine)
			for b.Loop() {
				h.apply(create)
				h.apply(remove)
			}
		})
	}
}

// BenchmarkObserve reads a host with many containers and ports.
func BenchmarkObserve(b *testing.B) {
	h := newHost(b)
	var pins []string
	objs := append(bridgeNet(), ports(10000, 1000)...)
	for i := range 50 {
		name := fmt.Sprintf("c%d", i)
		objs = append(objs, h.container(name, byte(2+i))...)
		pins = append(pins, h.pin(name))
	}
	h.apply(diff.Create(objs))
	for b.Loop() {
		h.observe(pins...)
	}
}

func ports(from, n int) (out []dataplane.Object) {
	m := endpoint
	m.Owner.Kind = dataplane.OwnerPort
	for i := range n {
		out = append(out, dataplane.PublishElement(m, table, "tcp", netip.Addr{}, uint16(from+i), netip.MustParseAddrPort("172.17.0.9:80")))
	}
	return out
}

// BenchmarkRanges is a published range coming and going, as one element and, for
// rangeMin in driver/bridge, as one for each port; beside others of its kind.
func BenchmarkRanges(b *testing.B) {
	to := netip.MustParseAddr("172.17.0.2")
	one := func(first, last uint16) []dataplane.Object {
		return []dataplane.Object{dataplane.PublishRangeElement(endpoint, table, "tcp", first, last, to)}
	}
	apart := func(first, last uint16) (objs []dataplane.Object) {
		for p := int(first); p <= int(last); p++ {
			objs = append(objs, dataplane.PublishElement(endpoint, table, "tcp", netip.Addr{}, uint16(p), netip.AddrPortFrom(to, uint16(p))))
		}
		return objs
	}
	open := func(first, last uint16) (objs []dataplane.Object) {
		for _, e := range dataplane.OpenElements(endpoint, table, "tcp", netip.AddrPortFrom(to, first), last) {
			objs = append(objs, e)
		}
		return objs
	}
	for _, c := range []struct {
		others, ports int
		how           string
		make          func(first, last uint16) []dataplane.Object
	}{
		{0, 10000, "one", one}, {5000, 10000, "one", one}, {0, 8, "apart", apart}, {0, 16, "apart", apart}, {0, 32, "apart", apart}, {0, 10000, "apart", apart}, {0, 10000, "open", open},
	} {
		b.Run(fmt.Sprintf("%s/ports=%d/others=%d", c.how, c.ports, c.others), func(b *testing.B) {
			h := newHost(b)
			objs := []dataplane.Object{dataplane.BasePage(table)}
			for i := range c.others {
				objs = append(objs, one(uint16(1+2*i), uint16(1+2*i))...)
			}
			h.apply(diff.Create(objs))
			var came, went time.Duration
			for b.Loop() {
				start := time.Now()
				objs := c.make(20000, 20000+uint16(c.ports)-1)
				h.apply(diff.Create(objs))
				made := time.Now()
				h.apply(diff.Delete(objs))
				came, went = came+made.Sub(start), went+time.Since(made)
			}
			b.ReportMetric(float64(came.Microseconds())/float64(b.N), "create-µs")
			b.ReportMetric(float64(went.Microseconds())/float64(b.N), "delete-µs")
		})
	}
}
