package daemon

import (
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

// TestNetworkFlags starts one data root with one set of flags after the other, as
// a person does who tries them out: the default network follows each time.
func TestNetworkFlags(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Docker("pull", "-q", "busybox")
	d.Host.Run("sh", "-c", "ip link add br0 type bridge && ip addr add 10.211.55.1/24 dev br0 && ip link set br0 up")
	t.Cleanup(func() { d.Host.Run("ip", "link", "del", "br0") })
	const show = "ip -o addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf; cat /proc/1/cmdline | tr '\\0' ' '"
	for _, c := range []struct {
		flags string
		// network is what `docker network inspect bridge` holds, inside what a container
		// sees, not is in neither.
		network, inside, not []string
	}{
		{"", []string{`"172.17.0.0/16"`, `"com.docker.network.bridge.name":"docker0"`, `"EnableIPv6":false`}, []string{"172.17.0.2/16", "default via 172.17.0.1"}, []string{"init"}},
		{"--bip=10.10.10.10/24 --dns=10.10.10.53 --dns-search=corp.example --dns-opt=ndots:3", []string{`"10.10.10.0/24"`, `"Gateway":"10.10.10.10"`},
			[]string{"default via 10.10.10.10", "nameserver 10.10.10.53", "search corp.example", "options ndots:3"}, []string{"172.17"}},
		{"--bip=10.10.10.10/24 --fixed-cidr=10.10.10.128/25 --default-gateway=10.10.10.1 --mtu=1400", []string{`"IPRange":"10.10.10.128/25"`, `"com.docker.network.driver.mtu":"1400"`},
			[]string{"10.10.10.12", "default via 10.10.10.1 "}, nil},
		// What is not said stays: docker0 has its address already, as with dockerd.
		{"--ipv6", []string{`"EnableIPv6":true`, `"Subnet":"fd`}, []string{"10.10.10.1/24", "inet6 fd"}, nil},
		{"--ipv6 --bip6=fd00:10::1/64 --fixed-cidr-v6=fd00:10::1:0/112", []string{`"fd00:10::/64"`, `"IPRange":"fd00:10::1:0/112"`, `"Gateway":"fd00:10::1"`}, []string{"fd00:10::1:"}, nil},
		{"--ipv6 --bip6=fd00:10::1/64 --default-gateway-v6=fd00:10::fe", []string{`"fd00:10::/64"`}, []string{"default via fd00:10::fe"}, nil},
		{"--icc=false --ip-masq=false --ip=127.0.0.1 --init", []string{`"com.docker.network.bridge.enable_icc":"false"`, `"com.docker.network.bridge.enable_ip_masquerade":"false"`,
			`"com.docker.network.bridge.host_binding_ipv4":"127.0.0.1"`}, []string{"init -- sh"}, nil},
		{"--bridge=br0", []string{`"10.211.55.0/24"`, `"com.docker.network.bridge.name":"br0"`}, []string{"10.211.55.", "default via 10.211.55.1"}, []string{"172.17"}},
		{"--bridge=br0 --fixed-cidr=10.211.55.64/26 --default-gateway=10.211.55.254", []string{`"IPRange":"10.211.55.64/26"`}, []string{"default via 10.211.55.254"}, nil},
		{"", []string{`"172.17.0.0/16"`, `"com.docker.network.bridge.name":"docker0"`}, []string{"172.17.0.2/16"}, []string{"br0"}},
	} {
		d.Restart(strings.Fields(c.flags)...)
		have := map[string]string{
			"the network":   d.Docker("network", "inspect", "bridge", "-f", "{{json .}}"),
			"the container": d.Docker("run", "--rm", "busybox", "sh", "-c", show),
		}
		for where, list := range map[string][]string{"the network": c.network, "the container": c.inside} {
			for _, want := range list {
				if !strings.Contains(have[where], want) {
					t.Errorf("%s: %s has no %q:\n%s", c.flags, where, want, have[where])
				}
			}
			for _, bad := range c.not {
				if strings.Contains(have[where], bad) {
					t.Errorf("%s: %s has %q:\n%s", c.flags, where, bad, have[where])
				}
			}
		}
	}

	d.Restart("--bridge=none")
	if out := d.Docker("network", "ls", "--format", "{{.Name}}"); strings.Contains(out, "bridge") {
		t.Errorf("without a default network: %s", out)
	}
	if out := d.Docker("run", "--rm", "busybox", "ip", "-o", "link"); strings.Contains(out, "eth0") || !strings.Contains(out, "lo:") {
		t.Errorf("without a default network: %s", out)
	}
	d.Refused([]string{"network bridge not found"}, "run", "--rm", "--network", "bridge", "busybox", "true")

	d.Restart("--default-address-pool=base=10.77.0.0/24,size=26", "--default-network-opt=bridge=com.docker.network.driver.mtu=1300", "--log-driver=local", "--log-opt=max-size=1m")
	for _, n := range []string{"one", "two", "three"} {
		d.Docker("network", "create", n)
	}
	if out := d.Docker("network", "inspect", "one", "-f", "{{json .}}"); !strings.Contains(out, `"10.77.0.`) || !strings.Contains(out, `"com.docker.network.driver.mtu":"1300"`) {
		t.Errorf("%s", out)
	}
	d.Docker("run", "-d", "--name", "logged", "busybox", "sleep", "60")
	if out := d.Docker("inspect", "logged", "-f", "{{json .HostConfig.LogConfig}}"); out != `{"Type":"local","Config":{"max-size":"1m"}}` {
		t.Errorf("%s", out)
	}
	if out := d.Docker("info", "-f", "{{.LoggingDriver}} {{json .DefaultAddressPools}}"); out != `local [{"Base":"10.77.0.0/24","Size":26}]` {
		t.Errorf("%s", out)
	}
	d.Docker("rm", "-f", "logged")
	d.Docker("network", "rm", "one", "two", "three")
}

// TestFlagsThatCannotBe: the daemon says what is wrong, and what to do, and ends.
func TestFlagsThatCannotBe(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{World: daemontest.NewBareWorld(t)})
	for flags, want := range map[string]string{
		"--bridge=nobr":                        "bridge nobr (--bridge) does not exist; make it first: ip link add nobr type bridge",
		"--bridge=lo":                          "no bridge",
		"--bip=" + daemontest.HostAddr + "/16": "overlap",
		"--default-network-opt=bridge=com.docker.network.driver.mtuu=1": "did you mean com.docker.network.driver.mtu?",
		"--log-opt=max-sizes=1m":   "did you mean max-size?",
		"--default-runtime=nosuch": "nosuch",
	} {
		d.Stop()
		before := len(d.Log())
		if err := d.TryRun(flags); err == nil {
			t.Errorf("%s: it runs", flags)
			continue
		}
		if said := d.Log()[before:]; !strings.Contains(said, want) {
			t.Errorf("%s: no %q in\n%s", flags, want, said)
		}
	}
	d.Run()
}
