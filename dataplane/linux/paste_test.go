package linux_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// TestPaste: the lines that `linkspan reconcile --dry-run` prints do what they say when
// a person pastes them: what is missing or different is as wanted afterwards. (Links
// that a person makes lack our mark, so here only what hangs on ours is made anew.)
func TestPaste(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.paste(append(bridgeNet(), h.container("web", 2)...),
		"nft delete table inet "+table,
		"nft flush chain inet "+table+" publish",
		"nft delete chain inet "+table+" output",
		"nft flush map inet "+table+" publish4_any",
		"nft add element inet "+table+` egress { "eth9" }`,
		"ip addr del 172.17.0.1/16 dev docker0",
		"ip addr del fd00:17::1/64 dev docker0",
		"ip addr add 10.3.0.1/24 dev docker0",
		"ip route del 172.17.0.0/16 dev docker0",
		"ip -6 route del fd00:17::/64 dev docker0",
		"ip link set docker0 mtu 1300",
		"ip link set docker0 address 02:00:00:00:00:01",
		"ip link set docker0 type bridge nf_call_iptables 1",
		"ip link set vethweb nomaster",
		"ip link set vethweb mtu 1300",
		"bridge link set dev vethweb isolated on hairpin on",
		"sysctl -qw net.ipv4.conf.docker0.route_localnet=0",
		"ip link set docker0 down",
	)
}

// TestPasteTunnel: the same of what spans hosts.
func TestPasteTunnel(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.paste(append(spanning(), h.container("web", 2)[0]),
		"bridge fdb del 02:42:0a:58:40:02 dev vx-x",
		"bridge fdb replace 02:42:0a:58:40:02 dev vx-x dst 10.99.0.9",
		"bridge fdb del 02:42:0a:58:40:02 dev vx-x master",
		"bridge fdb del 00:00:00:00:00:00 dev vx-x dst 10.99.0.3",
		"bridge fdb append 00:00:00:00:00:00 dev vx-x dst 10.99.0.9",
		"ip neigh del 10.88.64.2 dev br-x",
		"ip link set vx-x mtu 1300",
		"ip link set vx-x nomaster",
		"ip link set vx-x type vxlan id 4980737 learning",
		"bridge link set dev vx-x neigh_suppress off",
		"bridge link set dev vx-x flood on learning on",
		"ip link set vx-x down",
	)
}

// paste damages what is wanted, and has the lines that a plan prints run by a shell.
func (h *host) paste(whole []dataplane.Object, damages ...string) {
	t := h.t
	t.Helper()
	want := dataplane.NewState(whole...)
	seen := func() *dataplane.State {
		have := h.observe(h.pin("web"))
		sys, err := h.k.ObserveKeys(t.Context(), whole)
		if err != nil {
			t.Fatal(err)
		}
		have.Add(sys.All()...)
		return have
	}
	script := filepath.Join(t.TempDir(), "lines")
	for _, damage := range damages {
		h.apply(diff.Compute(want, seen(), h.pin("web")).Ops)
		if ops := diff.Compute(want, seen(), h.pin("web")).Ops; len(ops) > 0 {
			h.apply(ops)
		}
		h.run(strings.Fields(damage)...)
		ops := diff.Compute(want, seen()).Ops
		if len(ops) == 0 {
			t.Errorf("%s: nothing differs", damage)
			continue
		}
		var lines []string
		for _, op := range ops {
			create, remove := op.Object.Commands()
			switch op.Verb {
			case dataplane.Create:
				lines = append(lines, create...)
			case dataplane.Change:
				lines = append(lines, dataplane.Changes(op.Object)...)
			default:
				lines = append(lines, remove...)
			}
		}
		text := "set -e\n" + strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.run("sh", script)
		for _, op := range diff.Compute(want, seen()).Ops {
			// The page is as its text says; that we did not load it is what differs.
			if p, page := op.Object.(dataplane.Page); page && strings.Contains(text, "table inet "+p.Table) {
				continue
			}
			t.Errorf("%s: after\n%s\nthere is still to do: %s %s", damage, text, op.Verb, op.Object.Key())
		}
	}
}
