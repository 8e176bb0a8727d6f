package crash

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCrashNetworks kills the daemon at every kind of point of what is asked of
// networks, and of containers on them. Beside it two networks live on, with a
// container each; make test takes the kinds of all stories once, make soak all points.
func TestCrashNetworks(t *testing.T) {
	t.Parallel()
	v := start(t)
	b := v.bystanders()
	v.Docker("network", "create", "--subnet", "172.30.0.0/24", "home")
	v.Docker("network", "create", "--subnet", "172.30.1.0/24", "--ipv6", "--subnet", "fd00:30:1::/64", "away")
	v.Docker("run", "-d", "--name", "athome", "--network", "home", "--ip", "172.30.0.10", "--network-alias", "friend", "netprobe")
	v.Docker("run", "-d", "--name", "abroad", "--network", "away", "--ip", "172.30.1.10", "--ip6", "fd00:30:1::10", "netprobe")
	b.watch("athome", "abroad")
	v.peers = map[string]string{"athome": v.where("athome"), "abroad": v.where("abroad")}
	for _, s := range networkStories() {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			v := v.in(t)
			if os.Getenv(soakEnv) == "" {
				v.seen = met
			}
			v.everywhere(s, b)
		})
	}
	b.counted()
}

// bridged checks a network's story: it is there wholly or not at all, and it can be
// made, or made again.
func bridged(name, device string, addrs []string, create []string) func(v *victim, bare string) {
	return func(v *victim, bare string) {
		v.t.Helper()
		there := func() bool {
			return slices.Contains(strings.Fields(v.Docker("network", "ls", "--format", "{{.Name}}")), name)
		}
		if !there() {
			v.settled("without the network", bare)
			if out, err := v.Host.Try("ip", "link", "show", device); err == nil {
				v.t.Errorf("no network %s, but its bridge:\n%s", name, out)
			}
			v.Docker(create...)
		}
		var n []struct {
			Name string
			IPAM struct {
				Config []struct{ Subnet, Gateway string }
			}
		}
		if err := json.Unmarshal([]byte(v.Docker("network", "inspect", name)), &n); err != nil || len(n) != 1 || n[0].Name != name {
			v.t.Errorf("network inspect: %v, %+v", err, n)
		}
		have := v.Host.Run("ip", "-o", "addr", "show", "dev", device)
		for _, a := range addrs {
			if !strings.Contains(have, " "+a+" ") {
				v.t.Errorf("the bridge has not %s:\n%s", a, have)
			}
		}
		v.asDeclared()
		v.Docker("network", "rm", name)
		v.settled("removed", bare)
	}
}

func networkStories() []story {
	away := []string{"--ip", "172.30.1.50", "--ip6", "fd00:30:1::50", "--alias", "vic"}
	one := []string{"run", "-d", "--name", "victim", "--network", "home", "--ip", "172.30.0.50", "--network-alias", "vic", "--link", "athome:db", "-p", "8080:9000", "netprobe"}
	two := []string{"run", "-d", "--name", "victim", "--network", "name=home,ip=172.30.0.50,alias=vic", "--network", "name=away,ip=172.30.1.50,ip6=fd00:30:1::50,alias=vic",
		"--link", "athome:db", "-p", "8080:9000", "netprobe"}
	connect := slices.Concat([]string{"network", "connect"}, away, []string{"away", "victim"})
	served := func(v *victim) {
		v.t.Helper()
		v.Until(10*time.Second, "the published port answers", func() bool { return v.answers(8080) })
	}
	lives := func(again []string) func(v *victim, bare string) {
		return func(v *victim, bare string) {
			v.t.Helper()
			switch st := state(v); st {
			case "running":
			case "", "created", "exited":
				v.settled(st, bare)
				v.unknown("victim", "vic")
				if st == "" {
					v.Docker(again...)
				} else {
					v.Docker("start", "victim")
				}
			default:
				v.t.Errorf("the container is %q", st)
			}
			served(v)
			v.sound("victim")
		}
	}
	// Its addresses, on both networks, are free when it is gone; and its names are.
	freed := func(v *victim) {
		v.t.Helper()
		v.unknown("victim", "vic", "other")
		v.Docker("create", "--name", "again", "--network", "name=home,ip=172.30.0.50", "--network", "name=away,ip=172.30.1.50,ip6=fd00:30:1::50", "busybox")
		v.Docker("rm", "again")
	}
	removed := func(name string) func(v *victim) {
		return func(v *victim) {
			if v.TryDocker("network", "inspect", name).Code == 0 {
				v.Docker("network", "rm", name)
			}
		}
	}
	v4 := []string{"network", "create", "--subnet", "172.30.9.0/24", "-o", "com.docker.network.bridge.name=brvictim", "vnet"}
	dual := []string{"network", "create", "--subnet", "172.30.9.0/24", "--ipv6", "--subnet", "fd00:30:9::/64", "-o", "com.docker.network.bridge.name=brvictim", "vnet"}
	many := []string{"network", "create", "--subnet", "172.30.9.0/24", "--ipv6", "--subnet", "fd00:30:9::/64", "--gateway", "172.30.9.9", "-o", "com.docker.network.bridge.name=brvictim",
		"-o", "com.docker.network.bridge.enable_icc=false", "-o", "com.docker.network.bridge.gateway_mode_ipv6=routed", "-o", "com.docker.network.driver.mtu=1400",
		"-o", "com.docker.network.host_ipv4=192.168.99.31", "-o", "com.docker.network.bridge.trusted_host_interfaces=wan0", "vnet"}
	networks := func(what string, create []string, addrs ...string) []story {
		whole := bridged("vnet", "brvictim", addrs, create)
		return []story{
			{name: "create " + what, do: func(v *victim) { v.TryDocker(create...) }, whole: whole, after: removed("vnet")},
			{name: "remove " + what, before: func(v *victim) { v.Docker(create...) }, do: func(v *victim) { v.TryDocker("network", "rm", "vnet") }, whole: whole, after: removed("vnet")},
		}
	}
	all := slices.Concat(
		networks("v4", v4, "172.30.9.1/24"),
		networks("dual", dual, "172.30.9.1/24", "fd00:30:9::1/64"),
		networks("options", many, "172.30.9.9/24", "fd00:30:9::1/64"))
	all[0].need, all[1].need = both("store.networks"), both("store.networks")
	all[2].fresh = true // forwarding, and its guard
	return append(all,
		story{name: "run on two", do: func(v *victim) { v.TryDocker(two...) }, whole: lives(two), after: freed,
			need: both("network.join", "keeper.reserve")},
		story{name: "connect", before: func(v *victim) { v.Docker(one...); served(v) }, do: func(v *victim) { v.TryDocker(connect...) }, whole: lives(two), after: freed,
			need: both("network.update", "container.commit.connected")},
		story{name: "disconnect", before: func(v *victim) { v.Docker(two...); served(v) }, do: func(v *victim) { v.TryDocker("network", "disconnect", "away", "victim") },
			whole: lives(two), after: freed, need: both("network.update", "container.commit.disconnected")},
		story{name: "disconnect the mode's", before: func(v *victim) { v.Docker(two...); served(v) }, do: func(v *victim) { v.TryDocker("network", "disconnect", "home", "victim") },
			whole: lives(two), after: freed},
		story{name: "remove from two", before: func(v *victim) { v.Docker(two...); served(v) }, do: func(v *victim) { v.TryDocker("rm", "-f", "victim") },
			whole: lives(two), after: freed, need: both("network.leave", "keeper.release")},
		story{name: "rename", before: func(v *victim) { v.Docker(two...); served(v) }, do: func(v *victim) { v.TryDocker("rename", "victim", "other") },
			whole: func(v *victim, bare string) {
				v.t.Helper()
				is, not := "victim", "other"
				if state(v) == "" {
					is, not = not, is
				}
				served(v)
				v.sound(is)
				v.unknown(not)
			},
			after: func(v *victim) {
				if v.TryDocker("inspect", "other").Code == 0 {
					v.Docker("rm", "-f", "other")
				}
				freed(v)
			}},
	)
}
