package metrics

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// one metric of ours, as it is declared.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) *metric {
	return &metric{prometheus.NewDesc("linkspan_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) *metric {
	return &metric{prometheus.NewDesc("linkspan_"+name, help, labels, nil), prometheus.GaugeValue}
}

// The metrics. docs/operations.md has this list, and a test compares the two.
type list struct {
	build, source, scrape *metric

	containers                                                                       *metric
	receiveBytes, receivePackets, receiveErrors, receiveDrops                        *metric
	transmitBytes, transmitPackets, transmitErrors, transmitDrops                    *metric
	connections                                                                      *metric
	queries, tcpQueries, answers, views, names, cacheEntries, cacheBytes             *metric
	upstreamUp, upstreamRTT, upstreamAsked, upstreamAnswered, upstreamFailed, strays *metric
	objects, repairs, failures, backoffs, checks, checked, took                      *metric
	used, free                                                                       *metric
	conntrack, conntrackLimit                                                        *metric
	keeperUp, keeperStarted                                                          *metric
	drops                                                                            *metric

	meshStore, meshHosts, meshForgotten, meshQueue, meshExpiry, meshMember, meshBytes *metric
	meshRTT, meshLoss, meshMTU                                                        *metric
}

func declare() list {
	endpoint := []string{"container", "network", "interface"}
	return list{
		build:  gauge("build_info", "Which Linkspan this is; always 1.", "version", "instance", "goversion"),
		source: gauge("source_up", "Whether a part of the engine could be asked at this scrape (1) or not (0).", "source"),
		scrape: gauge("scrape_duration_seconds", "How long this scrape took to collect."),

		containers: gauge("containers", "Containers by state.", "state"),

		receiveBytes:    counter("endpoint_receive_bytes_total", "Bytes that reached a container from a network.", endpoint...),
		receivePackets:  counter("endpoint_receive_packets_total", "Packets that reached a container from a network.", endpoint...),
		receiveErrors:   counter("endpoint_receive_errors_total", "Packets to a container that were damaged.", endpoint...),
		receiveDrops:    counter("endpoint_receive_drops_total", "Packets to a container that its interface dropped.", endpoint...),
		transmitBytes:   counter("endpoint_transmit_bytes_total", "Bytes that a container sent to a network.", endpoint...),
		transmitPackets: counter("endpoint_transmit_packets_total", "Packets that a container sent to a network.", endpoint...),
		transmitErrors:  counter("endpoint_transmit_errors_total", "Packets of a container that were damaged.", endpoint...),
		transmitDrops:   counter("endpoint_transmit_drops_total", "Packets of a container that its interface dropped.", endpoint...),

		connections: counter("port_connections_total", "Connections that came by a published port.", "container", "address", "port", "protocol"),

		queries:      counter("dns_queries_total", "Questions that containers asked the resolvers, since the keeper began."),
		tcpQueries:   counter("dns_tcp_queries_total", "Questions of dns_queries_total that came over TCP."),
		answers:      counter("dns_answers_total", "Answers by where they came from, or why there was none.", "kind"),
		views:        gauge("dns_resolvers", "Sandboxes that have a resolver."),
		names:        gauge("dns_names", "Names that the resolvers know by themselves."),
		cacheEntries: gauge("dns_cache_entries", "Answers that are kept."),
		cacheBytes:   gauge("dns_cache_bytes", "Memory of the answers that are kept."),

		upstreamUp:       gauge("dns_upstream_up", "Whether a name server answers (1), or somebody who asks it finds that it does not (0).", "server"),
		upstreamRTT:      gauge("dns_upstream_rtt_seconds", "Smoothed time that a name server takes to answer.", "server"),
		upstreamAsked:    counter("dns_upstream_queries_total", "Questions that a name server was asked.", "server"),
		upstreamAnswered: counter("dns_upstream_answers_total", "Questions that a name server answered.", "server"),
		upstreamFailed:   counter("dns_upstream_failures_total", "Questions that a name server answered by an error, or not in time.", "server"),
		strays:           counter("dns_upstream_mismatches_total", "Answers of a name server that were none to what was asked.", "server"),

		objects:  gauge("reconcile_objects", "Kernel objects that are declared on this host."),
		repairs:  counter("repairs_total", "Kernel objects that were put right after somebody else had changed them, by their kind.", "object"),
		failures: counter("repair_failures_total", "Repairs that the kernel refused, by the object's kind.", "object"),
		backoffs: gauge("repair_backoffs", "Objects that another program undoes again and again, and which are therefore put right less often."),
		checks:   counter("reconcile_checks_total", "Comparisons of the whole kernel with all that is declared."),
		took:     gauge("reconcile_last_check_duration_seconds", "How long the last of these comparisons took."),
		checked:  gauge("reconcile_last_check_age_seconds", "Time since the kernel was last compared with all that is declared."),

		used: gauge("ipam_used_addresses", "Addresses of a network's subnet that containers have.", "network", "subnet"),
		free: gauge("ipam_free_addresses", "Addresses of a network's subnet that containers can get.", "network", "subnet"),

		conntrack:      gauge("conntrack_entries", "Connections that the host tracks."),
		conntrackLimit: gauge("conntrack_entries_limit", "Connections that the host can track; at the limit new ones are dropped."),

		keeperUp:      gauge("keeper_up", "Whether the keeper, which holds streams, ports and resolvers, answers."),
		keeperStarted: gauge("keeper_start_time_seconds", "When the keeper began, in seconds since 1970."),

		meshStore:     gauge("mesh_store_up", "Whether the hosts' common store (etcd) answered when it was asked last; absent outside of a mesh."),
		meshHosts:     gauge("mesh_hosts", "Other hosts of the mesh, by whether they give a sign of life.", "alive"),
		meshForgotten: gauge("mesh_forgotten", "Whether the other hosts have forgotten this one (1): its containers are cut off from the mesh's networks."),
		meshQueue:     gauge("mesh_queue", "Changes of this host that wait to be written for the others."),
		meshExpiry:    gauge("mesh_certificate_expiry_time_seconds", "When this host's certificate in the mesh ends, in seconds since 1970; it is renewed a month before."),
		meshMember:    gauge("mesh_etcd_member_up", "Whether the etcd of this host runs and has a leader; absent where the host runs none."),
		meshBytes:     gauge("mesh_etcd_bytes", "Size of the data of this host's etcd."),
		meshRTT:       gauge("mesh_path_rtt_seconds", "Median round trip of probes to another host, by the path.", "host", "path"),
		meshLoss:      gauge("mesh_path_loss_ratio", "Share of the probes to another host that were lost, there or back, by the path.", "host", "path"),
		meshMTU:       gauge("mesh_path_mtu_bytes", "Largest packet that passes to another host, by the path.", "host", "path"),

		drops: counter("drops_total", "Packets that Linkspan's own rules dropped, by the rule's name.", "rule"),
	}
}

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

func (s *scrape) mesh(m *Mesh) {
	if m == nil {
		return
	}
	is := map[bool]float64{true: 1}
	s.send(s.meshStore, is[m.StoreUp])
	s.send(s.meshHosts, float64(m.Alive), "yes")
	s.send(s.meshHosts, float64(m.Dead), "no")
	s.send(s.meshForgotten, is[m.Forgotten])
	s.send(s.meshQueue, float64(m.Queue))
	if !m.Expires.IsZero() {
		s.send(s.meshExpiry, float64(m.Expires.Unix()))
	}
	if m.Member {
		s.send(s.meshMember, is[m.MemberUp])
		s.send(s.meshBytes, float64(m.Bytes))
	}
	for _, p := range m.Paths {
		s.send(s.meshLoss, p.Loss, p.Host, p.Path)
		if p.RTT > 0 {
			s.send(s.meshRTT, p.RTT.Seconds(), p.Host, p.Path)
		}
		if p.MTU > 0 {
			s.send(s.meshMTU, float64(p.MTU), p.Host, p.Path)
		}
	}
}

func (s *scrape) containersBy(states map[string]int) {
	for state, n := range states {
		s.send(s.containers, float64(n), state)
	}
}

func (s *scrape) endpoints(all []Endpoint) {
	seen := map[[3]string]bool{}
	for _, e := range all {
		key := [3]string{e.Container, e.Network, e.Interface}
		if seen[key] {
			continue // the same labels twice would spoil the whole scrape
		}
		seen[key] = true
		for _, v := range []struct {
			m *metric
			n uint64
		}{
			{s.receiveBytes, e.Receive.Bytes}, {s.receivePackets, e.Receive.Packets}, {s.receiveErrors, e.Receive.Errors}, {s.receiveDrops, e.Receive.Drops},
			{s.transmitBytes, e.Transmit.Bytes}, {s.transmitPackets, e.Transmit.Packets}, {s.transmitErrors, e.Transmit.Errors}, {s.transmitDrops, e.Transmit.Drops},
		} {
			s.send(v.m, float64(v.n), key[0], key[1], key[2])
		}
	}
}

func (s *scrape) ports(all []Port) {
	seen := map[Port]bool{}
	for _, p := range all {
		key := p
		key.Connections = 0
		if !seen[key] {
			seen[key] = true
			s.send(s.connections, float64(p.Connections), p.Container, p.HostIP, p.Port, p.Protocol)
		}
	}
}

// most bounds the name servers that are told one by one: each container may name its
// own. The least asked of them are one, "other".
const most = 32

func (s *scrape) resolver(r Resolver) {
	s.send(s.queries, float64(r.Queries))
	s.send(s.tcpQueries, float64(r.TCP))
	for kind, n := range r.Answers {
		s.send(s.answers, float64(n), kind)
	}
	s.send(s.views, float64(r.Views))
	s.send(s.names, float64(r.Names))
	s.send(s.cacheEntries, float64(r.CacheEntries))
	s.send(s.cacheBytes, float64(r.CacheBytes))
	for _, u := range servers(r.Upstreams, most) {
		s.send(s.upstreamUp, map[bool]float64{false: 1}[u.Down], u.Server)
		if u.RTT > 0 {
			s.send(s.upstreamRTT, u.RTT.Seconds(), u.Server)
		}
		s.send(s.upstreamAsked, float64(u.Asked), u.Server)
		s.send(s.upstreamAnswered, float64(u.Answered), u.Server)
		s.send(s.upstreamFailed, float64(u.Failed), u.Server)
		s.send(s.strays, float64(u.Strays), u.Server)
	}
}

// servers adds up what is known of the same server.
func servers(all []Upstream, most int) []Upstream {
	byName := map[string]*Upstream{}
	var out []*Upstream
	add := func(name string, u Upstream) {
		sum := byName[name]
		if sum == nil {
			sum = &Upstream{Server: name}
			byName[name] = sum
			out = append(out, sum)
		}
		sum.Down = sum.Down || u.Down
		sum.RTT = max(sum.RTT, u.RTT)
		sum.Asked, sum.Answered, sum.Failed, sum.Strays = sum.Asked+u.Asked, sum.Answered+u.Answered, sum.Failed+u.Failed, sum.Strays+u.Strays
	}
	for _, u := range all {
		add(u.Server, u)
	}
	slices.SortStableFunc(out, func(a, b *Upstream) int {
		return cmp.Or(cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Server, b.Server))
	})
	if len(out) > most {
		rest := out[most-1:]
		out = slices.Clone(out[:most-1])
		for _, u := range rest {
			add("other", *u)
		}
	}
	var sums []Upstream
	for _, u := range out {
		sums = append(sums, *u)
	}
	return sums
}

func (s *scrape) repair(r Repairs) {
	s.send(s.objects, float64(r.Objects))
	for kind, n := range r.Repaired {
		s.send(s.repairs, float64(n), kind)
	}
	for kind, n := range r.Failures {
		s.send(s.failures, float64(n), kind)
	}
	s.send(s.checks, float64(r.Checks))
	s.send(s.backoffs, float64(r.Backoffs))
	if r.Checked >= 0 {
		s.send(s.checked, r.Checked.Seconds())
		s.send(s.took, r.Took.Seconds())
	}
}

func (s *scrape) pools(all []Pool) {
	for _, p := range all {
		s.send(s.used, float64(p.Used), p.Network, p.Subnet)
		s.send(s.free, float64(p.Free), p.Network, p.Subnet)
	}
}

func (s *scrape) dropped(rules map[string]uint64) {
	for rule, n := range rules {
		s.send(s.drops, float64(n), rule)
	}
}
