package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose/flows"
	"linkspan/metrics"
)

// TestTraffic: what the host's end sends is what the container receives; who has no
// end on this host has no counters.
func TestTraffic(t *testing.T) {
	got := traffic([]*cnm.Sandbox{
		{OwnerName: "web", Endpoints: []cnm.Endpoint{{NetworkName: "shop", IfName: "eth0", HostIf: "veth1"}, {NetworkName: "gone", IfName: "eth1", HostIf: "veth2"}}},
		{OwnerName: "mon", Host: true, Endpoints: []cnm.Endpoint{{NetworkName: "host"}}},
	}, []reading.Interface{
		{Name: "veth1", Stats: reading.Counters{RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8}},
		{Name: "", Stats: reading.Counters{RxBytes: 9}},
	})
	want := []metrics.Endpoint{{Container: "web", Network: "shop", Interface: "eth0", Receive: metrics.Traffic{Bytes: 5, Packets: 6, Errors: 7, Drops: 8}, Transmit: metrics.Traffic{Bytes: 1, Packets: 2, Errors: 3, Drops: 4}}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestConnections: each goes to the port that was dialled, by either family, and a
// range is one port.
func TestConnections(t *testing.T) {
	at := netip.MustParseAddrPort
	sandboxes := []*cnm.Sandbox{
		{OwnerName: "web", Endpoints: []cnm.Endpoint{{Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.2/16"), netip.MustParsePrefix("fd00::2/64")}}},
			Ports: []cnm.PublishedPort{{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80}, {Proto: "tcp", HostPort: 8081, HostPortEnd: 8081, Port: 80},
				{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, HostPortEnd: 53, Port: 53}}},
		{OwnerName: "ftp", Endpoints: []cnm.Endpoint{{Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.3/16")}}},
			Ports: []cnm.PublishedPort{{Proto: "tcp", HostPort: 20000, HostPortEnd: 20009, Port: 30000}}},
	}
	got := connections(sandboxes, map[flows.PortFlow]uint64{
		{Proto: "tcp", Port: 8080, To: at("172.18.0.2:80")}: 3, {Proto: "tcp", Port: 8080, To: at("[fd00::2]:80")}: 2, {Proto: "tcp", Port: 8081, To: at("172.18.0.2:80")}: 1,
		{Proto: "tcp", Port: 20001, To: at("172.18.0.3:30001")}: 4, {Proto: "tcp", Port: 20009, To: at("172.18.0.3:30009")}: 1,
		{Proto: "tcp", Port: 20001, To: at("172.18.0.3:30002")}: 100, // of a publication that was before
		{Proto: "tcp", Port: 8080, To: at("172.18.0.9:80")}:     100, // of a container that is gone
	})
	want := []metrics.Port{{Container: "web", HostIP: "any", Port: "8080", Protocol: "tcp", Connections: 5}, {Container: "web", HostIP: "any", Port: "8081", Protocol: "tcp", Connections: 1},
		{Container: "web", HostIP: "127.0.0.1", Port: "53", Protocol: "udp"}, {Container: "ftp", HostIP: "any", Port: "20000-20009", Protocol: "tcp", Connections: 5}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
