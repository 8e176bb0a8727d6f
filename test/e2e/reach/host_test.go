package reach

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestFlat: the story of -b br0. The daemon first lives with docker0, which
// the user deletes; then it uses a bridge that the user made and joined to a LAN, and
// containers sit flat on it.
func TestFlat(t *testing.T) {
	w := daemontest.NewWorld(t)
	w.Host.Sysctl("net.ipv4.ip_forward", "1") // the LAN is routed, as its owner wants it
	d := daemontest.Start(t, daemontest.Options{World: w})
	serve(t, d, "old")
	d.Docker("rm", "-f", "old")
	d.Stop()
	d.Host.Run("ip", "link", "set", "docker0", "down")
	d.Host.Run("ip", "link", "del", "docker0")
	if err := d.TryRun("-b=br0"); err == nil || !strings.Contains(d.Log(), "ip link add br0 type bridge") {
		t.Errorf("without br0: %v, and the log does not say how to make it", err)
	}

	d.Host.Run("ip", "link", "add", "br0", "type", "bridge")
	d.Host.Addr("br0", netip.MustParsePrefix("10.211.55.1/24"))
	pc := d.Lab.Host("pc")
	wire := d.Lab.Wire(d.Host, pc)
	d.Host.Run("ip", "link", "set", wire.DevA, "master", "br0")
	pc.Addr(wire.DevB, netip.MustParsePrefix("10.211.55.9/24"))
	pc.Route("default", netip.MustParseAddr("10.211.55.1"))
	d.Machine.Run("ip", "route", "add", "10.211.55.0/24", "via", daemontest.HostAddr)
	listen(t, pc)
	listen(t, d.Machine)
	before := d.Host.Run("ip", "-o", "-d", "link", "show", "br0") + d.Host.Run("ip", "-o", "addr", "show", "br0")

	d.Run("-b=br0", "--fixed-cidr=10.211.55.128/25")
	a := serve(t, d, "alpha", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:9090:90")
	b := serve(t, d, "beta")
	ip := address(d, "alpha", "bridge")
	if p := netip.MustParsePrefix("10.211.55.128/25"); !p.Contains(netip.MustParseAddr(ip)) {
		t.Errorf("a has %s", ip)
	}
	them := lone(pc)
	flat := []way{{them, ip, 90, "10.211.55.9"}, {a, "10.211.55.9", 90, ip}, {b, ip, 90, address(d, "beta", "bridge")}, {host(d), ip, 90, open},
		{them, "10.211.55.1", 8080, open}, {a, "10.211.55.1", 8080, open}, {b, "10.211.55.1", 8080, open},
		{machine(d), daemontest.HostAddr, 8080, daemontest.MachineAddr}, {host(d), daemontest.HostAddr, 8080, open}}
	ways(t, "flat", append(flat,
		way{a, daemontest.MachineAddr, 80, daemontest.HostAddr}, // our container is masqueraded
		way{them, daemontest.MachineAddr, 80, "10.211.55.9"},    // others are not
		way{machine(d), "10.211.55.9", 80, open},                // nor closed
		way{machine(d), ip, 80, closed})...)                     // our containers are
	d.Until(lab.Patience, "what is published on the host's loopback is reached", func() bool { return ask(t, host(d), "tcp/127.0.0.1:9090") != "" })
	d.Kill9()
	ways(t, "without a daemon", flat...)
	d.Run("-b=br0", "--fixed-cidr=10.211.55.128/25")
	ways(t, "after it", flat...)
	d.RemoveAll()
	d.Stop()
	after := d.Host.Run("ip", "-o", "-d", "link", "show", "br0") + d.Host.Run("ip", "-o", "addr", "show", "br0")
	if settings(before) != settings(after) {
		t.Errorf("the user's bridge was changed:\n%s\nto\n%s", before, after)
	}
	d.Host.Run("ip", "link", "del", "br0")
	d.Host.Run("ip", "link", "del", wire.DevA)
	d.Machine.Run("ip", "route", "del", "10.211.55.0/24")
	d.Run()
}

// settings are the words of ip's output that do not move with time.
func settings(out string) string {
	var keep []string
	for w := range strings.FieldsSeq(out) {
		if w == "tentative" || strings.Contains(w, ".") && !strings.Contains(w, "/") || strings.HasSuffix(w, "sec") { // timers
			continue
		}
		keep = append(keep, w)
	}
	return strings.Join(keep, " ")
}

// TestBorrowed: a network on a bridge that a person made is borrowed as well: its
// containers sit on the wire behind it, and the bridge outlives the network.
func TestBorrowed(t *testing.T) {
	d := daemontest.Shared(t)
	d.Host.Run("ip", "link", "add", "br7", "type", "bridge")
	t.Cleanup(func() { d.Host.Run("ip", "link", "del", "br7") })
	d.Host.Addr("br7", netip.MustParsePrefix("10.97.0.1/24"))
	pc := d.Lab.Host("pc7")
	wire := d.Lab.Wire(d.Host, pc)
	t.Cleanup(func() { d.Host.Run("ip", "link", "del", wire.DevA) })
	d.Host.Run("ip", "link", "set", wire.DevA, "master", "br7")
	pc.Addr(wire.DevB, netip.MustParsePrefix("10.97.0.9/24"))
	listen(t, pc)
	d.Docker("network", "create", "lan", "--subnet", "10.97.0.0/24", "--gateway", "10.97.0.1", "--ip-range", "10.97.0.128/25", "-o", "com.docker.network.bridge.name=br7")
	in, out := serve(t, d, "in", "--network", "lan", "-p", "8080:80", "-p", "8080:80/udp"), serve(t, d, "out")
	ip := address(d, "in", "lan")
	ways(t, "borrowed", way{lone(pc), ip, 90, "10.97.0.9"}, way{in, "10.97.0.9", 90, ip}, way{lone(pc), "10.97.0.1", 8080, open},
		way{out, ip, 80, closed}, way{out, daemontest.HostAddr, 8080, open}, way{in, daemontest.HostAddr, 8080, open})
	localnet := func() string {
		return strings.TrimSpace(d.Host.Run("sysctl", "-n", "net.ipv4.conf.br7.route_localnet"))
	}
	if got := localnet(); got != "1" {
		t.Errorf("route_localnet is %s while the bridge is borrowed", got)
	}
	d.RemoveAll()
	// Without our guard, the wire would reach the host's loopback.
	d.Until(lab.Patience, "route_localnet is off after it", func() bool { return localnet() == "0" })
	if out, err := d.Host.Try("ip", "-o", "addr", "show", "br7"); err != nil || !strings.Contains(out, "10.97.0.1/24") {
		t.Errorf("the person's bridge: %v\n%s", err, out)
	}
}

// TestLinks: with --icc=false on the default bridge a link opens what the target
// exposes, follows the target's restarts, and nothing else is open.
func TestLinks(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--icc=false"}})
	lab.LeakCheck(t, d.Lasting()...)
	t.Cleanup(d.RemoveAll)
	serve(t, d, "db", "--expose", "80/tcp", "--expose", "80/udp")
	web := serve(t, d, "web", "--link", "db")
	other := serve(t, d, "other")
	check := func(when string) {
		t.Helper()
		db := address(d, "db", "bridge")
		ways(t, when, way{web, db, 80, address(d, "web", "bridge")}, way{web, db, 90, closed}, way{other, db, 80, closed},
			way{inside(t, d, "db"), address(d, "web", "bridge"), 80, closed}, way{host(d), db, 90, open})
	}
	check("linked")
	d.Docker("stop", "-t", "0", "db")
	serve(t, d, "thief") // takes the address that db had, if it is free
	d.Docker("start", "db")
	d.Until(10*time.Second, "db listens again", func() bool { return strings.Count(d.TryDocker("logs", "db").Stdout, "listening ") >= 8 })
	check("after the target's restart")
	ways(t, "the thief", way{web, address(d, "thief", "bridge"), 80, closed})
	d.Restart()
	check("after the daemon's restart")
}

// TestDirectRouting: --allow-direct-routing opens published ports by the containers'
// own addresses, and --bridge-accept-fwmark what carries the mark.
func TestDirectRouting(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--allow-direct-routing", "--bridge-accept-fwmark", "0x30/0xf0"}})
	lab.LeakCheck(t, d.Lasting()...)
	t.Cleanup(d.RemoveAll)
	serve(t, d, "alpha", "-p", "8080:80", "-p", "8080:80/udp")
	neighbour(t, d, "172.17.0.0/16")
	ip := address(d, "alpha", "bridge")
	ways(t, "allowed", way{machine(d), ip, 80, open}, way{machine(d), ip, 90, closed})
	d.Host.Run("nft", "add table inet user; add chain inet user pre { type filter hook prerouting priority -140; }; add rule inet user pre iifname wan0 th dport 90 meta mark set 0x31")
	t.Cleanup(func() { d.Host.Run("nft", "delete", "table", "inet", "user") })
	ways(t, "with the mark", way{machine(d), ip, 90, open})
}

// TestBip: the line.
func TestBip(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--bip", "10.10.10.10/24", "--dns", "10.10.10.53"}})
	lab.LeakCheck(t, d.Lasting()...)
	t.Cleanup(d.RemoveAll)
	serve(t, d, "alpha")
	if got := d.Docker("inspect", "-f", "{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPAddress}}", "alpha"); got != "10.10.10.10 10.10.10.1" {
		t.Errorf("gateway and address: %s", got)
	}
	b, err := os.ReadFile(d.Docker("inspect", "-f", "{{.ResolvConfPath}}", "alpha"))
	if err != nil || !strings.Contains(string(b), "nameserver 10.10.10.53\n") {
		t.Errorf("resolv.conf: %v\n%s", err, b)
	}
}

// TestBridgeNF: bridged packets do not pass the firewall's hooks while nobody but
// Linkspan may want that; they do when a bridge of somebody else's comes, and a
// container's own published port works either way.
func TestBridgeNF(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	t.Cleanup(d.RemoveAll)
	on := func() string {
		return strings.TrimSpace(d.Host.Run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables"))
	}
	d.Docker("network", "create", "shut", "-o", "com.docker.network.bridge.enable_icc=false")
	web, db := serve(t, d, "web", "-p", "8080:80", "-p", "8080:80/udp"), serve(t, d, "db")
	shut := serve(t, d, "shut1", "--network", "shut", "-p", "8081:80", "-p", "8081:80/udp")
	serve(t, d, "shut2", "--network", "shut")
	all := []way{{db, address(d, "web", "bridge"), 90, open}, {db, daemontest.HostAddr, 8080, open}, {web, daemontest.HostAddr, 8080, open},
		{shut, address(d, "shut2", "shut"), 80, closed}, {shut, daemontest.HostAddr, 8081, open}}
	for range 2 {
		d.Until(5*time.Second, "bridge-nf is off", func() bool { return on() == "0" })
		ways(t, "off", all...)
		d.Host.Run("ip", "link", "add", "virbr0", "type", "bridge")
		d.Until(5*time.Second, "bridge-nf is on", func() bool { return on() == "1" })
		ways(t, "on", all...)
		d.Host.Run("ip", "link", "del", "virbr0")
	}
}
