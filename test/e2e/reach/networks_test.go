package reach

import (
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestLampLnmp: the two networks. Neither reaches the other's containers,
// by any address but the host's with a published port; a neighbour who adds routes
// reaches neither unpublished nor loopback-published ports.
func TestLampLnmp(t *testing.T) {
	d := daemontest.Shared(t)
	network(t, d, "lamp", "-d", "bridge", "--ipv6")
	network(t, d, "lnmp", "-d", "bridge", "--ipv6")
	lampdb := serve(t, d, "lampmysql", "--network", "lamp", "-p", "3306:80", "-p", "3306:80/udp", "-p", "127.0.0.1:3316:90", "-p", "127.0.0.1:3316:90/udp")
	lnmpdb := serve(t, d, "lnmpmysql", "--network", "lnmp", "-p", "3307:80", "-p", "3307:80/udp")
	web := serve(t, d, "web", "--network", "lamp")
	for _, of := range []func(*daemontest.Daemon, string, string) string{address, address6} {
		lamp, lnmp, me := of(d, "lampmysql", "lamp"), of(d, "lnmpmysql", "lnmp"), of(d, "web", "lamp")
		hostAddr, machineAddr := daemontest.HostAddr, daemontest.MachineAddr
		if strings.Contains(lamp, ":") {
			hostAddr, machineAddr = daemontest.HostAddr6, daemontest.MachineAddr6
		}
		prefix := map[bool]string{true: "/128", false: "/32"}[strings.Contains(lamp, ":")]
		neighbour(t, d, lamp+prefix)
		neighbour(t, d, me+prefix)
		ways(t, "lamp and lnmp",
			way{web, lamp, 80, me}, way{web, lamp, 90, open}, way{lampdb, me, 90, open}, way{host(d), lamp, 90, open},
			way{web, lnmp, 80, closed}, way{web, lnmp, 90, closed}, way{lnmpdb, lamp, 80, closed}, way{lnmpdb, me, 90, closed},
			way{web, hostAddr, 3307, open}, way{lnmpdb, hostAddr, 3306, open}, way{lampdb, hostAddr, 3306, open},
			way{machine(d), hostAddr, 3306, machineAddr}, way{machine(d), hostAddr, 3307, open},
			way{machine(d), lamp, 80, closed}, way{machine(d), lamp, 90, closed}, way{machine(d), me, 80, closed},
			way{machine(d), hostAddr, 3316, closed}, way{lnmpdb, hostAddr, 3316, closed})
	}
	ways(t, "the host's loopback", way{host(d), "127.0.0.1", 3316, open})
	// Connected to both, web reaches both; the way out and its own ports stay.
	d.Docker("network", "connect", "lnmp", "web")
	ways(t, "connected", way{web, address(d, "lnmpmysql", "lnmp"), 80, address(d, "web", "lnmp")}, way{web, address(d, "lampmysql", "lamp"), 80, open},
		way{lnmpdb, address(d, "lampmysql", "lamp"), 80, closed})
	d.Docker("network", "disconnect", "lnmp", "web")
	ways(t, "disconnected", way{web, address(d, "lnmpmysql", "lnmp"), 80, closed}, way{web, address(d, "lampmysql", "lamp"), 80, open})
}

// TestInternal: containers of an internal network reach each other and the host at
// their gateway; nothing else, whatever routes they add; nobody reaches them.
func TestInternal(t *testing.T) {
	d := daemontest.Shared(t)
	network(t, d, "in", "--internal", "--subnet", "10.91.0.0/24")
	network(t, d, "out", "--subnet", "10.92.0.0/24")
	listen(t, d.Machine)
	listen(t, d.Host)
	a := serve(t, d, "alpha", "--network", "in")
	serve(t, d, "beta", "--network", "in")
	c := serve(t, d, "gamma", "--network", "out", "-p", "8080:80", "-p", "8080:80/udp")
	neighbour(t, d, "10.91.0.0/24")
	if out := a.must(t, "ip", "route"); strings.Contains(out, "default") {
		t.Errorf("a default route:\n%s", out)
	}
	a.must(t, "ip", "route", "add", "default", "via", "10.91.0.1")
	ways(t, "internal",
		way{a, address(d, "beta", "in"), 80, open}, way{host(d), address(d, "alpha", "in"), 80, open},
		way{a, daemontest.MachineAddr, 80, closed}, way{a, daemontest.HostAddr, 80, closed}, way{a, "10.92.0.1", 80, closed}, way{a, "10.91.0.1", 8080, closed},
		way{a, daemontest.HostAddr, 8080, closed}, way{a, address(d, "gamma", "out"), 80, closed},
		way{c, address(d, "alpha", "in"), 80, closed}, way{machine(d), address(d, "alpha", "in"), 80, closed},
		way{c, daemontest.MachineAddr, 80, open}, way{machine(d), daemontest.HostAddr, 8080, open})
	d.Until(lab.Patience, "the gateway is reached", func() bool { return ask(t, a, "tcp/10.91.0.1:80") != "" })
}

// TestClosed: containers of a network with enable_icc=false reach the outside and
// what is published, not each other.
func TestClosed(t *testing.T) {
	d := daemontest.Shared(t)
	listen(t, d.Machine)
	network(t, d, "shut", "-o", "com.docker.network.bridge.enable_icc=false", "--ipv6")
	a := serve(t, d, "alpha", "--network", "shut")
	b := serve(t, d, "beta", "--network", "shut", "-p", "8080:80", "-p", "8080:80/udp")
	for _, of := range []func(*daemontest.Daemon, string, string) string{address, address6} {
		to, hostAddr, machineAddr := of(d, "beta", "shut"), daemontest.HostAddr, daemontest.MachineAddr
		if strings.Contains(to, ":") {
			hostAddr, machineAddr = daemontest.HostAddr6, daemontest.MachineAddr6
		}
		ways(t, "icc=false", way{a, to, 80, closed}, way{a, to, 90, closed}, way{b, of(d, "alpha", "shut"), 80, closed}, way{host(d), to, 90, open},
			way{a, hostAddr, 8080, open}, way{b, hostAddr, 8080, open}, way{a, machineAddr, 80, hostAddr}, way{machine(d), hostAddr, 8080, open})
	}
}

// TestSourceAddress: 192.168.1.50 leaves as 60.191.82.107 although the host has .105
// and .106 too; another container on the network as .106, because it was told to.
func TestSourceAddress(t *testing.T) {
	d := daemontest.Shared(t)
	extra(t, d)
	listen(t, d.Machine)
	network(t, d, "mail", "--subnet", "192.168.1.0/24", "--ipv6", "--subnet", "fd31::/64",
		"-o", "com.docker.network.host_ipv4=60.191.82.107", "-o", "com.docker.network.host_ipv6=2001:db8::107")
	a := serve(t, d, "alpha", "--network", "mail", "--ip", "192.168.1.50")
	b := serve(t, d, "beta", "--network", "name=mail,driver-opt=com.docker.network.host_ipv4=60.191.82.106,driver-opt=com.docker.network.host_ipv6=2001:db8::106")
	c := serve(t, d, "gamma", "-p", "8080:80", "-p", "8080:80/udp")
	ways(t, "source address", way{a, "60.191.82.1", 80, "60.191.82.107"}, way{b, "60.191.82.1", 80, "60.191.82.106"}, way{c, "60.191.82.1", 80, "60.191.82.105"},
		way{a, "2001:db8::1", 80, "2001:db8::107"}, way{b, "2001:db8::1", 80, "2001:db8::106"},
		way{a, address(d, "beta", "mail"), 80, "192.168.1.50"}, way{machine(d), "60.191.82.107", 8080, open})
	d.Restart()
	ways(t, "after a restart", way{a, "60.191.82.1", 80, "60.191.82.107"}, way{b, "60.191.82.1", 80, "60.191.82.106"})
}

// TestModes: gateway modes as a neighbour with routes sees them.
func TestModes(t *testing.T) {
	d := daemontest.Shared(t)
	listen(t, d.Machine)
	for _, c := range []struct {
		mode                            string
		published, unpublished, hostway string
		seen                            func(own string) string
	}{
		{"nat", closed, closed, open, func(string) string { return daemontest.HostAddr }},
		{"nat-unprotected", open, open, open, func(string) string { return daemontest.HostAddr }},
		{"routed", open, closed, closed, func(own string) string { return own }},
	} {
		t.Run(c.mode, func(t *testing.T) {
			d := d.For(t)
			t.Cleanup(d.RemoveAll)
			network(t, d, "n", "--subnet", "10.93.0.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4="+c.mode)
			a := serve(t, d, "alpha", "--network", "n", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:9090:90", "-p", "127.0.0.1:9090:90/udp")
			other := serve(t, d, "other")
			neighbour(t, d, "10.93.0.0/24")
			ip := address(d, "alpha", "n")
			ways(t, c.mode, way{machine(d), ip, 80, c.published}, way{machine(d), ip, 90, c.unpublished}, way{other, ip, 80, c.published},
				way{machine(d), daemontest.HostAddr, 8080, c.hostway}, way{a, daemontest.MachineAddr, 80, c.seen(ip)}, way{host(d), ip, 90, open})
		})
	}
	t.Run("isolated", func(t *testing.T) {
		d := d.For(t)
		t.Cleanup(d.RemoveAll)
		d.Refused([]string{"gateway mode 'isolated' can only be used for an internal network"},
			"network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "x")
		network(t, d, "iso", "--internal", "--subnet", "10.94.0.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated",
			"-o", "com.docker.network.bridge.name=brIso")
		a := serve(t, d, "alpha", "--network", "iso")
		serve(t, d, "beta", "--network", "iso")
		if out := d.Host.Run("ip", "-4", "-o", "addr", "show", "dev", "brIso"); strings.Contains(out, "inet") {
			t.Errorf("the host has an address on it:\n%s", out)
		}
		ways(t, "isolated", way{a, address(d, "beta", "iso"), 80, open}, way{host(d), address(d, "alpha", "iso"), 80, closed})
	})
}

// TestTrusted: one interface of the host is trusted with the containers' own
// addresses.
func TestTrusted(t *testing.T) {
	d := daemontest.Shared(t)
	network(t, d, "n", "--subnet", "10.95.0.0/24", "-o", "com.docker.network.bridge.trusted_host_interfaces=wan0:wg0")
	serve(t, d, "alpha", "--network", "n", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:9090:90")
	other := serve(t, d, "other")
	neighbour(t, d, "10.95.0.0/24")
	ip := address(d, "alpha", "n")
	ways(t, "trusted", way{machine(d), ip, 80, open}, way{machine(d), ip, 90, closed}, way{other, ip, 80, closed})
}

// TestRefused: options that no network and no endpoint can have.
func TestRefused(t *testing.T) {
	d := daemontest.Shared(t)
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"has no option", "did you mean com.docker.network.bridge.enable_icc?"}, []string{"-o", "com.docker.network.bridge.enable_ic=true"}},
		{[]string{"neither true nor false"}, []string{"-o", "com.docker.network.bridge.enable_icc=perhaps"}},
		{[]string{"unknown gateway mode"}, []string{"-o", "com.docker.network.bridge.gateway_mode_ipv4=open"}},
		{[]string{"no IPv4 address"}, []string{"-o", "com.docker.network.host_ipv4=example.com"}},
		{[]string{"RFC 8200"}, []string{"--ipv6", "-o", "com.docker.network.driver.mtu=1000"}},
		{[]string{"device name"}, []string{"-o", "com.docker.network.bridge.name=a/b"}},
		{[]string{"parted by colons"}, []string{"-o", "com.docker.network.bridge.trusted_host_interfaces=eth0,eth1"}},
	} {
		d.Refused(c.words, append(append([]string{"network", "create"}, c.args...), "refused")...)
	}
	network(t, d, "n")
	for _, c := range []struct{ words, opt string }{
		{"did you mean com.docker.network.endpoint.sysctls?", "com.docker.network.endpoint.sysctl=x"},
		{"IFNAME", "com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.log_martians=1"},
		{"no IPv4 address", "com.docker.network.host_ipv4=x"},
		{"between 0 and 3", "com.docker.network.advertise_addr_nmsgs=7"},
	} {
		d.Refused([]string{c.words}, "create", "--network", "name=n,driver-opt="+c.opt, "netprobe")
	}
}

// TestEndpointOptions: an interface's name and parameters, and the network's prefix.
func TestEndpointOptions(t *testing.T) {
	d := daemontest.Shared(t)
	network(t, d, "n", "-o", "com.docker.network.container_iface_prefix=lan")
	network(t, d, "m")
	a := serve(t, d, "alpha", "--network", "n",
		"--network", "name=m,driver-opt=com.docker.network.endpoint.ifname=wan.7,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1")
	if out := a.must(t, "ip", "-o", "link"); !strings.Contains(out, ": lan0@") || !strings.Contains(out, ": wan.7@") {
		t.Errorf("interfaces:\n%s", out)
	}
	if out := a.must(t, "cat", "/proc/sys/net/ipv4/conf/wan.7/log_martians"); strings.TrimSpace(out) != "1" {
		t.Errorf("log_martians is %s", out)
	}
}
