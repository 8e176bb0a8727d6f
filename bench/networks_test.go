package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"linkspan/network"
)

// BenchmarkNetwork is the life of a network with a running container on it, as far
// as requests wait for it, with few others there and with many.
func BenchmarkNetwork(b *testing.B) {
	for _, there := range []int{few, many} {
		b.Run(fmt.Sprint(there), func(b *testing.B) {
			c, k := newController(b)
			ctx := b.Context()
			for i := range there {
				if _, _, err := c.CreateNetwork(ctx, network.NetworkWish{Name: fmt.Sprint("n", i)}); err != nil {
					b.Fatal(err)
				}
			}
			one := request(0)
			if _, err := c.Join(ctx, one); err != nil {
				b.Fatal(err)
			}
			two := one
			two.Endpoints = append(two.Endpoints[:1:1], network.EndpointWish{Network: "x", Number: 1, Names: []string{"bench"}})
			took := map[string][]time.Duration{}
			timed := func(what string, f func() error) {
				start := time.Now()
				if err := f(); err != nil {
					b.Fatal(what, err)
				}
				took[what] = append(took[what], time.Since(start))
			}
			for b.Loop() {
				timed("create", func() error {
					_, _, err := c.CreateNetwork(ctx, network.NetworkWish{Name: "x"})
					return err
				})
				timed("connect", func() error { return c.Update(ctx, two) })
				timed("disconnect", func() error { return c.Update(ctx, one) })
				timed("rm", func() error { return c.RemoveNetwork(ctx, "x") })
				b.StopTimer()
				if err := k.Settle(ctx); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			for what, d := range took {
				b.ReportMetric(ms(medianOf(d)), what+"-ms")
				slices.Sort(d)
				b.ReportMetric(ms(d[len(d)/10]), what+"-p10-ms")
			}
			b.StopTimer()
			if err := c.Leave(ctx, one.ContainerID, false); err != nil {
				b.Fatal(err)
			}
			for i := range there {
				if err := c.RemoveNetwork(ctx, fmt.Sprint("n", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func medianOf(d []time.Duration) time.Duration {
	v := make([]float64, len(d))
	for i := range d {
		v[i] = float64(d[i])
	}
	return time.Duration(median(v))
}

// BenchmarkJoin is the network's part of a start and of its end, on the default
// bridge and on a network with names, in turns: the resolver's part is the difference.
func BenchmarkJoin(b *testing.B) {
	c, k := newController(b)
	ctx := b.Context()
	if _, _, err := c.CreateNetwork(ctx, network.NetworkWish{Name: "x"}); err != nil {
		b.Fatal(err)
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for what, r := range map[string]network.Request{"bridge": request(0), "names": request(0)} {
			if what == "names" {
				r.Endpoints = []network.EndpointWish{{Network: "x", Names: []string{"bench"}}}
			}
			b.StopTimer()
			if err := k.Settle(ctx); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			start := time.Now()
			if _, err := c.Join(ctx, r); err != nil {
				b.Fatal(err)
			}
			joined := time.Now()
			if err := c.Leave(ctx, r.ContainerID, false); err != nil {
				b.Fatal(err)
			}
			took[what+"-join"] = append(took[what+"-join"], joined.Sub(start))
			took[what+"-leave"] = append(took[what+"-leave"], time.Since(joined))
		}
	}
	for what, d := range took {
		b.ReportMetric(ms(medianOf(d)), what+"-ms")
		slices.Sort(d)
		b.ReportMetric(ms(d[len(d)/10]), what+"-p10-ms")
	}
	b.StopTimer()
	if err := c.RemoveNetwork(ctx, "x"); err != nil {
		b.Fatal(err)
	}
}
