package ports

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/internal/daemontest"
	"linkspan/internal/golden"
)

// cell is one square of the matrix and what must be seen there.
type cell struct {
	from string
	// listener is the host's address family on which the port is published: -p
	// 0.0.0.0:9004:9000 or -p [::]:9006:9000. The container has IPv4 only.
	listener string
	// target is the address that the client dials.
	target string
	// verdict is what it gets, source whom the server sees, and why.
	verdict, source, why string
}

// The columns of the matrix.
const (
	fromMachine = "another machine"
	fromHost    = "the host, by its address"
	fromHost4   = "the host, by 127.0.0.1"
	fromHost6   = "the host, by ::1"
	fromOther   = "another container on the bridge"
	fromItself  = "the container itself"
)

var cells = []cell{
	{fromMachine, "IPv4", daemontest.HostAddr, "answered", daemontest.MachineAddr, "kept"},
	{fromHost, "IPv4", daemontest.HostAddr, "answered", daemontest.HostAddr, "kept"},
	{fromHost4, "IPv4", "127.0.0.1", "answered", gateway, "the gateway's: nobody can answer to 127.0.0.1"},
	{fromHost6, "IPv4", "::1", "refused", "", "published on IPv4 only"},
	{fromOther, "IPv4", daemontest.HostAddr, "answered", gateway, "the gateway's: the answer must come back through the host"},
	{fromItself, "IPv4", daemontest.HostAddr, "answered", gateway, "the gateway's: the answer must come back through the host"},
	{fromMachine, "IPv6", daemontest.HostAddr6, "answered", gateway, "the gateway's: the container has no IPv6, the keeper forwards"},
	{fromHost, "IPv6", daemontest.HostAddr6, "answered", gateway, "the gateway's: the keeper forwards"},
	{fromHost4, "IPv6", "127.0.0.1", "refused", "", "published on IPv6 only"},
	{fromHost6, "IPv6", "::1", "answered", gateway, "the gateway's: the keeper forwards"},
	{fromOther, "IPv6", daemontest.HostAddr6, "unreachable", "", "it has no IPv6 address on this network"},
	{fromItself, "IPv6", daemontest.HostAddr6, "unreachable", "", "it has no IPv6 address on this network"},
}

// TestMatrix: from everywhere, for each protocol, each family of the host's
// listener, with bridge-nf on and off.
func TestMatrix(t *testing.T) {
	d := daemontest.Shared(t)
	got := map[string]cell{} // by everything but bridge-nf
	for _, nf := range []string{"1", "0"} {
		for _, k := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
			was := strings.TrimSpace(d.Host.Run("sysctl", "-n", k))
			t.Cleanup(func() { d.Host.Sysctl(k, was) })
			d.Host.Sysctl(k, nf)
		}
		// What is planned for a container depends on bridge-nf as it is at its start.
		serve(t, d, "four", "-p", "0.0.0.0:9004:9000", "-p", "0.0.0.0:9004:9000/udp")
		serve(t, d, "six", "-p", "[::]:9006:9000", "-p", "[::]:9006:9000/udp")
		d.Docker("run", "-d", "--name", "other", "netprobe")
		servers := map[string]string{"IPv4": "four", "IPv6": "six"}
		hostPort := map[string]int{"IPv4": 9004, "IPv6": 9006}
		for _, c := range cells {
			for _, proto := range []string{"tcp", "udp"} {
				name := fmt.Sprintf("bridge-nf %s/%s/%s listener/from %s", map[string]string{"1": "on", "0": "off"}[nf], proto, c.listener, c.from)
				t.Run(name, func(t *testing.T) {
					d := d.For(t)
					server := servers[c.listener]
					from := map[string]func() place{
						fromMachine: func() place { return machine(d) },
						fromOther:   func() place { return inside(t, d, "other") },
						fromItself:  func() place { return inside(t, d, server) },
					}[c.from]
					if from == nil {
						from = func() place { return host(d) }
					}
					a := dial(t, from(), target(proto, c.target, hostPort[c.listener]))
					want := d.Docker("inspect", "-f", "{{.Config.Hostname}}", server)
					if a.Verdict != c.verdict || a.Source != c.source || a.Verdict == "answered" && a.Server != want {
						t.Errorf("%+v, want %s by %s with source %q", a, c.verdict, want, c.source)
					}
					seen := c
					seen.verdict, seen.source = a.Verdict, a.Source
					key := proto + c.listener + c.from
					if before, ok := got[key]; ok && before != seen {
						t.Errorf("bridge-nf makes a difference: %v and %v", before, seen)
					}
					got[key] = seen
				})
			}
		}
		d.RemoveAll()
	}
	document(t, got)
}

func target(proto, addr string, port int) string {
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return fmt.Sprintf("%s/%s:%d", proto, addr, port)
}

const docHead = `# Published ports: from where, and whom the server sees

Made by ` + "`go test ./test/e2e/ports -run Matrix -update`" + ` from what a real daemon does; CI compares it. The
container is on the default bridge (172.17.0.0/16, gateway ` + gateway + `, no IPv6), the host has ` + daemontest.HostAddr + `
and ` + daemontest.HostAddr6 + `, the other machine ` + daemontest.MachineAddr + `. The port is published with
` + "`-p 0.0.0.0:9004:9000`" + ` (IPv4) or ` + "`-p '[::]:9006:9000'`" + ` (IPv6); ` + "`-p 9000:9000`" + ` is both. net.bridge.bridge-nf-call-iptables
on or off makes no difference.

`

// document writes or compares the table.
func document(t *testing.T, got map[string]cell) {
	t.Helper()
	var b strings.Builder
	b.WriteString(docHead)
	b.WriteString("| host listener | client | protocol | reached | source that the server sees |\n|---|---|---|---|---|\n")
	for _, c := range cells {
		var rows []string
		for _, proto := range []string{"tcp", "udp"} {
			g, ok := got[proto+c.listener+c.from]
			if !ok {
				t.Log("the table is compared when all cells were run")
				return
			}
			reached, source := "yes", g.source+", "+c.why
			if g.verdict != "answered" {
				reached, source = "no ("+g.verdict+")", c.why
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %%s | %s | %s |\n", c.listener, c.from, reached, source))
		}
		if rows[0] == rows[1] {
			fmt.Fprintf(&b, rows[0], "tcp, udp")
			continue
		}
		fmt.Fprintf(&b, rows[0], "tcp")
		fmt.Fprintf(&b, rows[1], "udp")
	}
	path := filepath.Join(daemontest.Root(), "docs", "published-ports.md")
	if golden.Update() {
		if t.Failed() {
			t.Fatal("not written: cells failed")
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the daemon does; look at the difference, then -update. It should be:\n%s", path, b.String())
	}
}
