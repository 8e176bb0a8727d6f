package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/linux"
	"linkspan/dns"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/events"
	"linkspan/internal/lab"
	"linkspan/keeper"
	"linkspan/netns"
	"linkspan/network"
	"linkspan/probe"
	"linkspan/publish"
	"linkspan/store/bolt"
)

// TestMain is also the keeper that the benchmark starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keeper.Run(os.Args[2:], "bench"))
	}
	if dir := os.Getenv(membersEnv); dir != "" {
		if err := runMembers(dir); err != nil {
			println("error:", err.Error())
		}
		return
	}
	os.Exit(m.Run())
}

// newController wires the rooms below the containers as the daemon does: the real
// store on disk, the real kernel, a keeper process.
func newController(b *testing.B) (*network.Controller, *linux.Kernel) {
	probe.Require(b, probe.Root, probe.NetNS, probe.Veth, probe.Bridge)
	h := lab.New(b).Host("attach")
	dir, ctx, log := b.TempDir(), context.Background(), slog.New(slog.DiscardHandler)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	id := make([]byte, 3)
	rand.Read(id)
	id[0] |= 1
	name := hex.EncodeToString(id)
	instance, err := linux.Instance(name)
	must(err)
	db, err := bolt.Open(filepath.Join(dir, "state.db"), bolt.Options{Log: log})
	must(err)
	b.Cleanup(func() { db.Close() })
	pins := filepath.Join(dir, "netns")
	b.Cleanup(func() {
		if err := netns.Dismantle(pins); err != nil {
			b.Error(err)
		}
	})
	var c *network.Controller
	var k *linux.Kernel
	var kp *keeper.Client
	must(h.Do(func() (err error) {
		k, err = linux.New(linux.Config{Instance: instance, Table: "linkspan_" + name, PinDir: pins, Log: log})
		return err
	}))
	b.Cleanup(func() { k.Close() })
	exe, err := os.Executable()
	must(err)
	must(h.Do(func() (err error) {
		kp, _, err = keeper.Ensure(ctx, keeper.EnsureConfig{Socket: filepath.Join(dir, "k", "s"), Dir: filepath.Join(dir, "k"), Exe: exe, Name: name, Version: "bench"})
		return err
	}))
	b.Cleanup(func() { kp.Shutdown(ctx) })
	c, err = network.New(ctx, network.Config{Store: db, Kernel: k, Drivers: driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}),
		Ports: kp, Events: events.New(), Table: "linkspan_" + name, PinDir: pins, HostPath: filepath.Join(dir, "hostns"), Log: log,
		Env:        func() driver.Env { return driver.Env{Table: "linkspan_" + name, BridgeNF: k.BridgeNF()} },
		HostRoutes: k.HostRoutes, HostLink: k.HostLink, LinkStats: k.LinkStats,
		Resolver: func(path string) (*dns.Sockets, error) {
			udp, tcp, ns, err := netns.ResolverSockets(path, dns.Addr, dns.Port)
			return &dns.Sockets{UDP: udp, TCP: tcp, Namespace: ns}, err
		}})
	must(err)
	_, err = c.Start(ctx)
	must(err)
	return c, k
}

func request(ports int) network.Request {
	id := make([]byte, 32)
	rand.Read(id)
	r := network.Request{ContainerID: hex.EncodeToString(id), ContainerName: "bench", Endpoints: []network.EndpointWish{{Network: "bridge"}},
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}}
	if ports > 0 { // as the engine asks for what docker's -p 20000-20099:10000-10099 becomes
		n := uint16(ports - 1)
		r.Publish = []publish.Request{{Proto: "tcp", HostPort: 20000, HostPortEnd: 20000 + n, Port: 10000, PortEnd: 10000 + n}}
	}
	return r
}

// report adds what the table shows: the mean that Go prints also counts waits for
// the kernel's tearing down of earlier namespaces.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)/10].Microseconds()), "µs-p10") // what it takes on an idle machine
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkAttach is a container's way into the network: address, commit, sandbox,
// wire, and where asked for the reserved port.
func BenchmarkAttach(b *testing.B) {
	for _, m := range []struct {
		name  string
		ports int
	}{{"plain", 0}, {"port", 1}, {"ports100", 100}, {"ports1000", 1000}} {
		b.Run(m.name, func(b *testing.B) {
			c, k := newController(b)
			took := join(b, c, k, m.ports, func(j, l time.Duration) time.Duration { return j })
			report(b, took)
		})
	}
}

// BenchmarkDetach is the way out, as far as a request waits for it.
func BenchmarkDetach(b *testing.B) {
	c, k := newController(b)
	report(b, join(b, c, k, 1, func(j, l time.Duration) time.Duration { return l }))
}

func join(b *testing.B, c *network.Controller, k *linux.Kernel, ports int, which func(join, leave time.Duration) time.Duration) (took []time.Duration) {
	ctx := b.Context()
	for b.Loop() {
		r := request(ports)
		start := time.Now()
		var s *cnm.Sandbox
		s, err := c.Join(ctx, r)
		joined := time.Now()
		if err == nil && (len(s.Ports) != min(ports, 1) || !s.Endpoints[0].Addr4().IsValid()) {
			b.Fatalf("joined as %+v", s)
		}
		if err == nil {
			err = c.Leave(ctx, r.ContainerID, false)
		}
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, which(joined.Sub(start), time.Since(joined)))
		b.StopTimer()
		if err := k.Settle(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	return took
}
