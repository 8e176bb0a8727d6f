package daemon

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/live"
	"linkspan/dataplane/reading"
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
