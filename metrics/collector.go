package metrics

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type collector struct {
	Sources
	list
}

func newCollector(s Sources) *collector { return &collector{s, declare()} }

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		out <- m.desc
	}
}

func (c *collector) all() []*metric {
	l := &c.list
	return []*metric{l.build, l.source, l.scrape, l.containers,
		l.receiveBytes, l.receivePackets, l.receiveErrors, l.receiveDrops, l.transmitBytes, l.transmitPackets, l.transmitErrors, l.transmitDrops,
		l.connections, l.queries, l.tcpQueries, l.answers, l.views, l.names, l.cacheEntries, l.cacheBytes,
		l.upstreamUp, l.upstreamRTT, l.upstreamAsked, l.upstreamAnswered, l.upstreamFailed, l.strays,
		l.objects, l.repairs, l.failures, l.backoffs, l.checks, l.checked, l.took, l.used, l.free, l.conntrack, l.conntrackLimit, l.keeperUp, l.keeperStarted,
		l.meshStore, l.meshHosts, l.meshForgotten, l.meshQueue, l.meshExpiry, l.meshMember, l.meshBytes, l.meshRTT, l.meshLoss, l.meshMTU, l.drops}
}

// scrape is one under way.
type scrape struct {
	*collector
	ctx context.Context
	out chan<- prometheus.Metric
}

func (s *scrape) send(m *metric, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	if p, err := prometheus.NewConstMetric(m.desc, m.kind, v, labels...); err == nil {
		s.out <- p
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	s := &scrape{c, ctx, out}
	s.send(c.build, 1, c.Version, c.Instance, runtime.Version())
	ask(s, "containers", c.Containers, s.containersBy)
	ask(s, "endpoints", c.Endpoints, s.endpoints)
	ask(s, "ports", c.Ports, s.ports)
	ask(s, "resolver", c.Resolver, s.resolver)
	ask(s, "reconciler", c.Repairs, s.repair)
	ask(s, "ipam", c.Pools, s.pools)
	ask(s, "mesh", c.Mesh, s.mesh)
	ask(s, "drops", c.Drops, s.dropped)
	if c.Conntrack != nil {
		used, most, err := c.Conntrack(ctx)
		if s.asked("conntrack", err) {
			s.send(c.conntrack, float64(used))
			s.send(c.conntrackLimit, float64(most))
		}
	}
	if c.Keeper != nil {
		started, err := c.Keeper(ctx)
		s.send(c.keeperUp, map[bool]float64{true: 1}[err == nil])
		if err == nil {
			s.send(c.keeperStarted, float64(started.UnixMilli())/1000)
		}
	}
	s.send(c.scrape, time.Since(begun).Seconds())
}

// asked tells whether a source answered.
func (s *scrape) asked(source string, err error) bool {
	if err != nil {
		s.Log.Debug("a part of the metrics is missing", "source", source, "error", err)
		s.send(s.source, 0, source)
		return false
	}
	s.send(s.source, 1, source)
	return true
}

func ask[T any](s *scrape, source string, from func(context.Context) (T, error), tell func(T)) {
	if from == nil {
		return
	}
	v, err := from(s.ctx)
	if s.asked(source, err) {
		tell(v)
	}
}

// most bounds the name servers that are told one by one: each container may name its
// own. The least asked of them are one, "other".
const most = 32
