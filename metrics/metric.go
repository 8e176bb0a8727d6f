package metrics

import (
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
