package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/live"
	"linkspan/dataplane/reading"
	"linkspan/diagnose/flows"
	"linkspan/metrics"
)

// sources are whom a scrape asks.
func (e *engine) sources() metrics.Sources {
	return metrics.Sources{
		Version: e.Version, Instance: e.instance, Log: e.log,
		Containers: e.containersByState,
		Endpoints:  e.traffic,
		Resolver:   e.resolverCounts,
		Pools: func(context.Context) (out []metrics.Pool, _ error) {
			for _, p := range e.network.PoolUse() {
				out = append(out, metrics.Pool{Network: p.Network, Subnet: p.Subnet.String(), Used: p.Used, Free: p.Free})
			}
			return out, nil
		},
		Conntrack: conntrack,
		Repairs:   e.repairs,
		Drops:     e.dropsByRule,
		Mesh:      e.meshMetrics,
		Ports:     e.portCounts(),
		Keeper: func(ctx context.Context) (time.Time, error) {
			i, err := e.keeper.Info(ctx)
			return i.Started, err
		},
	}
}

func (e *engine) containersByState(context.Context) (map[string]int, error) {
	states := map[string]int{"created": 0, "running": 0, "paused": 0, "restarting": 0, "exited": 0, "dead": 0}
	for _, c := range e.containers.List() {
		states[string(c.State.Phase)]++
	}
	return states, nil
}

// traffic reads the counters of the host's ends, in one question to the kernel
// however many there are: what leaves them has reached the container.
func (e *engine) traffic(ctx context.Context) ([]metrics.Endpoint, error) {
	links, err := live.New(e.log).Interfaces(ctx, "")
	if err != nil {
		return nil, err
	}
	return traffic(e.network.Sandboxes(), links), nil
}

func traffic(sandboxes []*cnm.Sandbox, links []reading.Interface) []metrics.Endpoint {
	at := make(map[string]reading.Counters, len(links))
	for _, l := range links {
		at[l.Name] = l.Stats
	}
	var out []metrics.Endpoint
	for _, s := range sandboxes {
		for _, ep := range s.Endpoints {
			n, ok := at[ep.HostIf]
			if !ok || ep.HostIf == "" {
				continue
			}
			out = append(out, metrics.Endpoint{Container: s.OwnerName, Network: ep.NetworkName, Interface: ep.IfName,
				Receive:  metrics.Traffic{Bytes: n.TxBytes, Packets: n.TxPackets, Errors: n.TxErrors, Drops: n.TxDropped},
				Transmit: metrics.Traffic{Bytes: n.RxBytes, Packets: n.RxPackets, Errors: n.RxErrors, Drops: n.RxDropped}})
		}
	}
	return out
}

func (e *engine) repairs(context.Context) (metrics.Repairs, error) {
	s := e.network.RepairStats()
	r := metrics.Repairs{Objects: s.Objects, Repaired: s.Repairs, Failures: s.Failures, Backoffs: s.BackingOff, Checks: s.Checks, Checked: -1, Took: s.LastTook}
	if !s.LastCheck.IsZero() {
		r.Checked = time.Since(s.LastCheck)
	}
	return r, nil
}

func (e *engine) dropsByRule(ctx context.Context) (map[string]uint64, error) {
	chains, err := live.New(e.log).Counters(ctx, "", "inet", e.table())
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, r := range dataplane.DropRules() {
		out[r.Name] = chains[r.Chain()]
	}
	return out, nil
}

// portCounts counts connections to published ports from the first scrape on: each new
// one costs a message of the kernel's, which nobody pays who does not look.
func (e *engine) portCounts() func(context.Context) ([]metrics.Port, error) {
	c := flows.NewCounter(e.hearing.tap, e.log)
	var first sync.Once
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	e.later(func() error {
		first.Do(func() { close(done) }) // it was never begun
		stop()
		<-done
		return nil
	})
	return func(context.Context) ([]metrics.Port, error) {
		first.Do(func() {
			go func() {
				defer close(done)
				c.Run(ctx)
			}()
		})
		counts, _ := c.Counts()
		return connections(e.network.Sandboxes(), counts), nil
	}
}

// connections joins what was counted with who publishes. A range is one port, and so
// are the host's addresses that one is published on.
func connections(sandboxes []*cnm.Sandbox, counts map[flows.PortFlow]uint64) (out []metrics.Port) {
	type place struct {
		proto string
		addr  netip.Addr
	}
	byPlace := map[place][]flows.PortFlow{}
	for f := range counts {
		at := place{f.Proto, f.To.Addr().Unmap()}
		byPlace[at] = append(byPlace[at], f)
	}
	for _, s := range sandboxes {
		for _, p := range s.Ports {
			m := metrics.Port{Container: s.OwnerName, HostIP: "any", Port: strconv.Itoa(int(p.HostPort)), Protocol: p.Proto}
			if p.HostPortEnd > p.HostPort {
				m.Port = fmt.Sprintf("%d-%d", p.HostPort, p.HostPortEnd)
			}
			if p.HostIP.IsValid() {
				m.HostIP = p.HostIP.String()
			}
			for _, ep := range s.Endpoints {
				for _, a := range ep.Addrs {
					for _, f := range byPlace[place{p.Proto, a.Addr()}] {
						if p.HostPort <= f.Port && f.Port <= p.HostPortEnd && f.To.Port()-p.Port == f.Port-p.HostPort {
							m.Connections += counts[f]
						}
					}
				}
			}
			out = append(out, m)
		}
	}
	return out
}

func (e *engine) resolverCounts(ctx context.Context) (r metrics.Resolver, err error) {
	m, err := e.keeper.Resolvers(ctx)
	if err != nil {
		return r, err
	}
	r = metrics.Resolver{Queries: m.Queries, TCP: m.TCP, Views: m.Views, Zones: m.Zones, Names: m.Names, CacheEntries: m.CacheEntries, CacheBytes: m.CacheBytes,
		Answers: map[string]uint64{"local": m.Local, "cached": m.Cached, "stale": m.Stale, "forwarded": m.Forwarded, "joined": m.Joined,
			"failed": m.Failed, "refused": m.Refused, "dropped": m.Dropped, "limited": m.Turned}}
	for _, u := range m.Upstreams {
		r.Upstreams = append(r.Upstreams, metrics.Upstream{Server: u.Server.String(), Down: u.Down, RTT: u.RTT,
			Asked: u.Asked, Answered: u.Answered, Failed: u.Failed, Strays: u.Mismatched})
	}
	return r, nil
}

// conntrack reads how full the table is.
func conntrack(context.Context) (used, most uint64, err error) {
	read := func(name string) (n uint64) {
		b, rerr := os.ReadFile("/proc/sys/net/netfilter/" + name)
		if rerr == nil {
			n, rerr = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		}
		if rerr != nil && err == nil {
			err = fmt.Errorf("connection tracking: %w", rerr)
		}
		return n
	}
	return read("nf_conntrack_count"), read("nf_conntrack_max"), err
}
