package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/keeper"
	"linkspan/network"
	"linkspan/probe"
	"linkspan/publish"
)

// ranged asks for a range with the same numbers on both sides, or shifted.
func ranged(ports, shift int) network.Request {
	r := request(0)
	if ports > 0 {
		n, at := uint16(ports-1), uint16(20000-shift)
		r.Publish = []publish.Request{{Proto: "tcp", HostPort: 20000, HostPortEnd: 20000 + n, Port: at, PortEnd: at + n}}
	}
	return r
}

// BenchmarkRange is the way in and out with 10,000 ports, and with none, in turns.
func BenchmarkRange(b *testing.B) {
	for _, m := range []struct {
		name  string
		shift int
	}{{"same", 0}, {"shifted", 5000}} {
		b.Run(m.name, func(b *testing.B) {
			c, k := newController(b)
			took := map[string][]time.Duration{}
			for b.Loop() {
				for _, ports := range []int{0, 10000} {
					r := ranged(ports, m.shift)
					start := time.Now()
					s, err := c.Join(b.Context(), r)
					joined := time.Now()
					if err == nil && len(s.Ports) != min(ports, 1) {
						b.Fatalf("joined as %+v", s.Ports)
					}
					if err == nil {
						err = c.Leave(b.Context(), r.ContainerID, false)
					}
					if err != nil {
						b.Fatal(err)
					}
					took[fmt.Sprint("join", ports)] = append(took[fmt.Sprint("join", ports)], joined.Sub(start))
					took[fmt.Sprint("leave", ports)] = append(took[fmt.Sprint("leave", ports)], time.Since(joined))
					b.StopTimer()
					if err := k.Settle(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
			b.ReportMetric(ms(medianOf(took["join10000"])-medianOf(took["join0"])), "join-ms")
			b.ReportMetric(ms(medianOf(took["leave10000"])-medianOf(took["leave0"])), "leave-ms")
		})
	}
}

// BenchmarkReserveRange is the keeper's part of it, and what it costs while it is
// held: the process's memory and the kernel's.
func BenchmarkReserveRange(b *testing.B) {
	probe.Require(b, probe.Root, probe.NetNS)
	h := lab.New(b).Host("reserve")
	dir, ctx := b.TempDir(), context.Background()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	var kp *keeper.Client
	err = h.Do(func() (err error) {
		kp, _, err = keeper.Ensure(ctx, keeper.EnsureConfig{Socket: filepath.Join(dir, "s"), Dir: dir, Exe: exe, Name: "bench", Version: "bench"})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	defer kp.Shutdown(ctx)
	info, err := kp.Info(ctx)
	if err != nil {
		b.Fatal(err)
	}
	time.Sleep(3 * time.Second) // what its start took goes back
	memory := func() float64 {
		return memoryKB(b, fmt.Sprintf("/proc/%d/status", info.PID), "RssAnon:") + memoryKB(b, "/proc/meminfo", "Slab:")
	}
	four := keeper.PortRequest{Owner: "c", Proto: "tcp", Addr: netip.IPv4Unspecified(), Port: 20000, PortEnd: 29999}
	six := four
	six.Addr, six.ForwardTo = netip.IPv6Unspecified(), netip.MustParseAddrPort("172.17.0.2:20000")
	var reserve, release []time.Duration
	var held []float64
	for b.Loop() {
		before := memory()
		start := time.Now()
		if err := kp.Reserve(ctx, []keeper.PortRequest{four, six}); err != nil {
			b.Fatal(err)
		}
		reserve = append(reserve, time.Since(start))
		held = append(held, (memory()-before)/1024)
		start = time.Now()
		if err := kp.Release(ctx, "c"); err != nil {
			b.Fatal(err)
		}
		release = append(release, time.Since(start))
		time.Sleep(50 * time.Millisecond) // sockets are freed after RCU
	}
	b.ReportMetric(ms(medianOf(reserve)), "reserve-ms")
	b.ReportMetric(ms(medianOf(release)), "release-ms")
	b.ReportMetric(median(held), "held-MB")
}

func memoryKB(b *testing.B, file, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s has no %s", file, field)
	return 0
}

// BenchmarkHundred is the network's share of a container with 32 ports, as the
// first one and as the 101st of its kind.
func BenchmarkHundred(b *testing.B) {
	const ports = 32
	c, k := newController(b)
	ctx := b.Context()
	ask := func(i int) network.Request {
		r := request(0)
		at := uint16(20000 + i*ports)
		r.Publish = []publish.Request{{Proto: "tcp", HostPort: at, HostPortEnd: at + ports - 1, Port: 8000, PortEnd: 8000 + ports - 1}}
		return r
	}
	measure := func(times int) (took []time.Duration) {
		for range times {
			r := ask(200)
			start := time.Now()
			s, err := c.Join(ctx, r)
			took = append(took, time.Since(start))
			if err == nil && len(s.Ports) != 1 {
				b.Fatalf("joined as %+v", s.Ports)
			}
			if err == nil {
				err = c.Leave(ctx, r.ContainerID, false)
			}
			if err == nil {
				err = k.Settle(ctx)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		return took
	}
	measure(5)
	const rounds, each = 3, 40
	var first, later []time.Duration
	for range rounds { // whatever -benchtime says: it takes its time
		first = append(first, measure(each)...)
		var ids []string
		for i := range 100 {
			r := ask(i)
			if _, err := c.Join(ctx, r); err != nil {
				b.Fatal(err)
			}
			ids = append(ids, r.ContainerID)
		}
		later = append(later, measure(each)...)
		for _, id := range ids {
			if err := c.Leave(ctx, id, false); err != nil {
				b.Fatal(err)
			}
		}
		if err := k.Settle(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(ms(medianOf(first)), "first-ms")
	b.ReportMetric(ms(medianOf(later)), "later-ms")
	slices.Sort(first)
	slices.Sort(later)
	b.ReportMetric(ms(first[len(first)/4]), "first-p25-ms")
	b.ReportMetric(ms(later[len(later)/4]), "later-p25-ms")
}

func TestReadMetrics(t *testing.T) {
	got := readMetrics(`goos: linux
BenchmarkRange/same-2     	      10	 803325962 ns/op	       406.7 join-ms	       232.9 leave-ms
BenchmarkReserveRange-2   	      10	 281972362 ns/op	        36.75 held-MB	        62.88 release-ms
BenchmarkHundred          	       1	 1 ns/op	         5.154 first-ms	        -1.5 odd
PASS
ok  	linkspan/bench	566.040s
`)
	for name, want := range map[string]float64{
		"BenchmarkRange/same join-ms": 406.7, "BenchmarkRange/same leave-ms": 232.9,
		"BenchmarkReserveRange held-MB": 36.75, "BenchmarkReserveRange release-ms": 62.88,
		"BenchmarkHundred first-ms": 5.154, "BenchmarkHundred odd": -1.5,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if len(got) != 9 {
		t.Errorf("%v", got)
	}
}
