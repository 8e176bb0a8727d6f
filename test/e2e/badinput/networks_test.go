package badinput

import (
	"slices"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
)

func create4(flags ...string) []string {
	return append(append([]string{"network", "create"}, flags...), "new")
}

func opt(key, value string) []string { return create4("-o", "com.docker.network."+key+"="+value) }

func subnet(flags ...string) []string {
	return create4(append([]string{"--subnet", "172.31.0.0/24"}, flags...)...)
}

func connect(flags ...string) []string {
	return append(append([]string{"network", "connect"}, flags...), "taken", "holder")
}

// TestNetworksRefused: every flag of network create, connect and disconnect, and of
// run on a network. The network "taken" is 172.30.0.0/24 and fd00:30::/64, with "sits" at
// 172.30.0.5, and "stopped" defined at .6; "holder" is beside it.
func TestNetworksRefused(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	d.Docker("network", "create", "--subnet", "172.30.0.0/24", "--ip-range", "172.30.0.0/28", "--ipv6", "--subnet", "fd00:30::/64", "-o", "com.docker.network.bridge.name=brtaken", "taken")
	d.Docker("network", "create", "--subnet", "172.30.1.0/24", "other")
	d.Docker("network", "create", "--config-only", "--subnet", "172.30.2.0/24", "template")
	d.Docker("network", "create", "chosen")
	d.Docker("network", "create", "--config-from", "template", "child")
	d.Docker("run", "-d", "--name", "holder", "--network", "other", "netprobe")
	d.Docker("run", "-d", "--name", "sits", "--network", "taken", "--ip", "172.30.0.5", "netprobe")
	d.Docker("create", "--name", "stopped", "--network", "taken", "--ip", "172.30.0.6", "netprobe")
	for _, c := range slices.Concat(createRefusals, endpointRefusals) {
		t.Run(c.name, func(t *testing.T) {
			e := open(t, d)
			e.clean()
			r, failed := e.cli(c.args...)
			leftovers(t, e, r)
			if r.Code == 0 && c.args[0] == "network" && c.args[1] == "create" {
				e.Docker("network", "rm", "new")
			}
			if r.Code != c.code {
				t.Errorf("exit code %d, want %d: %s%s", r.Code, c.code, r.Stdout, r.Stderr)
			}
			if c.status == 0 {
				if len(failed) > 0 {
					t.Errorf("the API was asked: %+v", failed)
				}
			} else if len(failed) == 0 {
				t.Errorf("no request failed: %s%s", r.Stdout, r.Stderr)
			} else if last := failed[len(failed)-1]; last.Status != c.status {
				t.Errorf("%s %s: status %d, want %d: %s", last.Method, last.Path, last.Status, c.status, last.Body)
			}
			for _, w := range c.words {
				if !strings.Contains(r.Stderr, w) {
					t.Errorf("said %q, want %q in it", r.Stderr, w)
				}
			}
		})
	}
}
