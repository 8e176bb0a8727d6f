package faults

import (
	"testing"

	"linkspan/internal/daemontest"
)

// unrepairedFaults are those of what is ours on the host. A daemon puts them right in a
// moment; here it is told not to, as if it had died just before.
func unrepairedFaults() []fault {
	const element = "nft delete element inet $TABLE "
	const again = "linkspan reconcile"
	return []fault{
		{name: "port out of its bridge", broken: "ip link set $veth_bob nomaster", undo: again, a: "ann", b: "bob:80",
			code: "wrong-master", says: []string{"$veth_bob", "brn"}},
		{name: "port in another bridge", broken: "ip link set $veth_bob master brm", undo: again, a: "outside", b: "$H:8080",
			code: "wrong-master", says: []string{"$veth_bob", "brm"}},
		{name: "port down", broken: "ip link set $veth_bob down", undo: again, a: "ann", b: "bob:80",
			code: "link-down", says: []string{"$veth_bob"}},
		{name: "port of who asks down", broken: "ip link set $veth_ann down", undo: again, a: "ann", b: "bob:80",
			code: "link-down", says: []string{"$veth_ann"}},
		{name: "ports isolated from each other", broken: "bridge link set dev $veth_ann isolated on; bridge link set dev $veth_bob isolated on", a: "ann", b: "bob:80",
			undo: "bridge link set dev $veth_ann isolated off; bridge link set dev $veth_bob isolated off", code: "port-blocked", says: []string{"isolated"}},
		// A state of the spanning tree, which the kernel takes from a person as well.
		{name: "port disabled", broken: "bridge link set dev $veth_bob state 0", undo: "bridge link set dev $veth_bob state 3", a: "ann", b: "bob:80",
			code: "port-blocked", says: []string{"$veth_bob"}},
		{name: "bridge down", broken: "ip link set brn down", undo: again + "; ip link set brn up", a: "ann", b: "bob:80", code: "link-down", says: []string{"brn"}},
		{name: "bridge without address", broken: "ip addr flush dev brn", undo: again, a: "ann", b: "$M:80",
			code: "gateway-unreachable|address-missing", says: []string{"10.71.0.1"}},
		{name: "interface deleted inside", setup: "run xav --network n", broken: "inside xav ip link del eth0", a: "ann", b: "xav:80",
			code: "link-missing", says: []string{"xav"}},
		{name: "interface deleted outside", setup: "run xav --network n -p 8096:80", broken: "ip link del $veth_xav", a: "outside", b: "$H:8096",
			code: "link-missing", says: []string{"xav"}},
		{name: "published port deleted", broken: element + "publish4_any '{ tcp . 8080 }'", undo: again, a: "outside", b: "$H:8080",
			code: "own-page-damaged", says: []string{"8080"}, cure: []string{"linkspan reconcile"}},
		{name: "masquerading deleted", broken: element + "masquerade4 '{ 10.71.0.0/24 }'", undo: again, a: "ann", b: "$M:80",
			code: "own-page-damaged", says: []string{"$ip_ann"}, cure: []string{"linkspan reconcile"}},
		{name: "table deleted", broken: "nft delete table inet $TABLE", undo: again, a: "outside", b: "$H:8080",
			code: "own-page-damaged", cure: []string{"linkspan reconcile"}},
		{name: "flushed by iptables-restore", broken: "nft flush chain inet $TABLE publish", undo: again, a: "outside", b: "$H:8080",
			code: "own-page-damaged", cure: []string{"linkspan reconcile"}},
		{name: "ip_forward turned off", broken: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", a: "ann", b: "$M:80",
			code: "forwarding-off", says: []string{"ip_forward"}},
		{name: "forwarding turned off on one interface", broken: "sysctl -qw net.ipv4.conf.wan0.forwarding=0", undo: "sysctl -qw net.ipv4.conf.wan0.forwarding=1", a: "ann", b: "$M:80",
			code: "forwarding-off", says: []string{"wan0"}},
		{name: "IPv6 forwarding turned off", broken: "sysctl -qw net.ipv6.conf.all.forwarding=0", undo: "sysctl -qw net.ipv6.conf.all.forwarding=1", a: "outside", b: "[$H6]:8095",
			code: "forwarding-off", says: []string{"forwarding"}},
		{name: "route_localnet turned off", broken: "sysctl -qw net.ipv4.conf.brn.route_localnet=0", undo: "sysctl -qw net.ipv4.conf.brn.route_localnet=1", a: "host", b: "127.0.0.1:8081",
			code: "sysctl-changed", says: []string{"route_localnet"}},
		{name: "bridge-nf and a firewall", undo: "sysctl -qw net.bridge.bridge-nf-call-iptables=0; nft delete table ip wall", a: "ann", b: "bob:80",
			broken: "sysctl -qw net.bridge.bridge-nf-call-iptables=1; " + wall("ip", "filter hook forward priority 5; policy drop", "tcp dport 22 accept"),
			code:   "host-firewall", says: []string{"wall"}},
		{name: "small port, large packets", setup: "inside bob ethtool -K eth0 tso off gso off", a: "ann", b: "bob:80", try: "bulk/$ip_bob:80",
			broken: "ip link set $veth_bob mtu 1300", undo: again + "; ip link set $veth_bob mtu 1500; inside bob ethtool -K eth0 tso on gso on",
			code: "mtu", says: []string{"$veth_bob", "1300"}},
	}
}

// TestUnrepaired makes them on a daemon that only looks.
func TestUnrepaired(t *testing.T) {
	d := daemontest.Shared(t)
	d.Restart("--repair=false")
	t.Cleanup(func() { d.RemoveAll(); d.Restart() })
	newStage(t, d).all(t, unrepairedFaults())
}

// flagFaults are those of how the daemon was started: --ip-forward=false, --icc=false.
func flagFaults() []fault {
	return []fault{
		{name: "ip_forward off", broken: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", a: "eve", b: "$M:80",
			code: "forwarding-off", says: []string{"ip_forward"}, cure: []string{"net.ipv4.ip_forward"}},
		{name: "ip_forward off, published", broken: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", a: "outside", b: "$H:8097",
			code: "forwarding-off", says: []string{"ip_forward"}, cure: []string{"net.ipv4.ip_forward"}},
		{name: "icc off", a: "eve", b: "fay:90", try: "tcp/$ip_fay:90", tryCured: "tcp/fay:90", code: "icc-off", says: []string{"bridge"}},
		{name: "icc off, another port linked", setup: "run xav --link fay:db", a: "xav", b: "fay:90", try: "tcp/$ip_fay:90", tryCured: "tcp/fay.xav-fay:90", code: "icc-off", says: []string{"90"}},
		{name: "linked the other way", setup: "run xav --expose 80 --link fay:db", a: "fay", b: "xav:80", try: "tcp/$ip_xav:80", tryCured: "tcp/xav:80", code: "icc-off", says: []string{"xav"}},
	}
}

// TestFlags makes them on a daemon that was started so.
func TestFlags(t *testing.T) {
	d := daemontest.Shared(t)
	s := bareStage(t, d)
	d.Host.Sysctl("net.ipv4.ip_forward", "1")
	d.Restart("--ip-forward=false", "--icc=false", "--repair=false")
	t.Cleanup(func() { d.RemoveAll(); d.Restart() })
	s.run(t, "docker run -d --name eve netprobe serve tcp/:80; docker run -d --name fay --expose 80 -p 8097:80 "+server+"; serves eve; serves fay")
	s.owns(t)
	s.all(t, flagFaults())
	t.Run("healthy", func(t *testing.T) {
		s.pairs(t, []pair{
			{name: "linked", setup: "run xav --link fay:db", a: "xav", b: "db:80"},
			{name: "linked, by address", setup: "run xav --link fay:db", a: "xav", b: "$ip_fay:80"},
			{name: "the host", a: "host", b: "fay:90", try: "tcp/$ip_fay:90"},
		})
	})
}
