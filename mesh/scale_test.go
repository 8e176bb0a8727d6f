package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store/mem"
)

// counter is a sink that only counts.
type counter struct {
	deaf
	endpoints atomic.Int64
	last      atomic.Int64 // when something came, in ns
}

func (c *counter) Remote(_ context.Context, _ string, ch cnm.RemoteChange) {
	if ch.Whole {
		c.endpoints.Store(0)
	}
	c.endpoints.Add(int64(len(ch.Came) - len(ch.Gone)))
	c.last.Store(time.Now().UnixNano())
}

// BenchmarkSpread is the control plane without the network and the disk: hosts that
// share one store in memory, each with the same number of endpoints on one network, or
// on one of many. It says how long it takes until all have all, what a host costs, and
// what one endpoint more costs those who care.
func BenchmarkSpread(b *testing.B) {
	for _, c := range []struct{ hosts, endpoints, networks int }{{30, 1000, 1}, {300, 10000, 30}, {100, 1000, 1}} {
		b.Run(fmt.Sprintf("hosts=%d/endpoints=%d/networks=%d", c.hosts, c.endpoints, c.networks), func(b *testing.B) {
			for range b.N {
				spread(b, c.hosts, c.endpoints, c.networks)
			}
		})
	}
}

func spread(b *testing.B, hosts, endpoints, networks int) {
	common := mem.New(mem.Options{History: 1 << 16})
	defer common.Close()
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	if _, err := Found(ctx, common, "", "bench"); err != nil {
		b.Fatal(err)
	}
	all, sinks := make([]*Mesh, hosts), make([]*counter, hosts)
	for i := range all {
		h, err := Enroll(ctx, common, Host{Name: fmt.Sprintf("host%d", i), Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
		if err != nil {
			b.Fatal(err)
		}
		sinks[i] = &counter{}
		m, err := New(Config{Store: common.View(), Self: h, Sink: sinks[i]})
		if err != nil {
			b.Fatal(err)
		}
		all[i] = m
		group.Go(func() { _ = m.Run(ctx) })
		<-m.Ready()
		m.Sync(nil)
	}
	nets := make([]*cnm.Network, networks)
	for i := range nets {
		nets[i] = &cnm.Network{Name: fmt.Sprintf("net%d", i), Pools: []cnm.Pool{{}}, VNIs: []uint32{0}}
		if err := all[0].Create(ctx, nets[i], []ipam.Base{{Prefix: netip.MustParsePrefix("10.128.0.0/9"), Bits: 16}}, nil); err != nil {
			b.Fatal(err)
		}
	}
	for i, m := range all {
		m.Follow(nets[i%networks])
	}
	for _, m := range all {
		if err := m.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	per := endpoints / hosts
	began := time.Now()
	for i, m := range all {
		group.Go(func() {
			for j := range per {
				m.Publish(nets[i%networks], endpoint(i, j))
			}
		})
	}
	want := int64(per * (hosts/networks - 1))
	wait := func(want int64) time.Duration {
		for {
			last, done := int64(0), true
			for _, s := range sinks {
				done = done && s.endpoints.Load() == want
				last = max(last, s.last.Load())
			}
			if done {
				return time.Duration(last - began.UnixNano())
			}
			if time.Since(began) > 2*time.Minute {
				b.Fatalf("not all have all after %s", time.Since(began))
			}
			time.Sleep(time.Millisecond)
		}
	}
	b.ReportMetric(wait(want).Seconds()*1000, "ms-till-all-have-all")
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(hosts)/1024, "KiB/host")

	const more = 50
	var took time.Duration
	for j := range more {
		began = time.Now()
		all[0].Publish(nets[0], endpoint(0, per+j))
		for i := networks; i < hosts; i += networks {
			for sinks[i].endpoints.Load() < want+int64(j+1) {
				runtime.Gosched()
			}
		}
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Microseconds())/more, "µs-one-more")
}

func endpoint(host, i int) cnm.Remote {
	name := fmt.Sprintf("container-%d-%d", host, i)
	return cnm.Remote{ID: fmt.Sprintf("%064x", host<<20|i), Container: fmt.Sprintf("%064x", i<<20|host), ContainerName: name,
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128, byte(host), byte(i)}), 16)}, MAC: "02:42:0a:80:00:01", Names: []string{name, "alias"}}
}
