package ports

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// TestReplaced: a UDP sender that speaks once a second from the same port goes on
// with the container that took its predecessor's place, though conntrack would
// lead its packets to the old one for ever; and flows of other ports stay.
func TestReplaced(t *testing.T) {
	d := daemontest.Shared(t)
	serve(t, d, "one", "-p", "9000:9000/udp")
	serve(t, d, "bystander", "-p", "9010:9000/udp", "-p", "9010:9000")
	if a := dial(t, machine(d), target("udp", daemontest.HostAddr, 9010), "-bind", daemontest.MachineAddr+":5556"); a.Verdict != "answered" {
		t.Fatalf("%+v", a)
	}
	stay := d.Host.Flows(9010)
	before, err := stay.List()
	if err != nil || len(before) == 0 {
		t.Fatalf("no flows of the other port: %v, %v", before, err)
	}
	sender := d.Machine.Start([]string{netprobe(t), "dial", "-timeout", "900ms", "-bind", daemontest.MachineAddr + ":5555",
		"-n", "7", "-interval", "1s", target("udp", daemontest.HostAddr, 9000)}, func(*exec.Cmd) {})
	first := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "one")
	sender.WaitFor("host="+first, 5*time.Second)
	d.Docker("rm", "-f", "one")
	after, err := stay.List()
	if err != nil || len(after) < len(before) {
		t.Errorf("flows of another port went too: %v, then %v, %v", before, after, err)
	}
	serve(t, d, "two", "-p", "9000:9000/udp")
	second := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "two")
	sender.WaitFor("host="+second, 8*time.Second)
	<-sender.Done()
	lines := strings.Split(strings.TrimSpace(sender.Output()), "\n")
	lost := 0
	for _, l := range lines {
		if !strings.HasPrefix(l, "src=") {
			lost++
		}
	}
	if last := lines[len(lines)-1]; lost > 3 || !strings.Contains(last, "src="+daemontest.MachineAddr+":5555") || !strings.Contains(last, "host="+second) {
		t.Errorf("the sender saw:\n%s", strings.Join(lines, "\n"))
	}
	d.Docker("rm", "-f", "two", "bystander")
	var left []string
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left, err = d.Host.Flows(9000, 9010).List()
		// The keeper's own connections to containers are not flows of a host port.
		left = slices.DeleteFunc(left, func(l string) bool { return !strings.Contains(l, "src="+daemontest.MachineAddr+" ") })
		if err == nil && len(left) == 0 {
			return
		}
	}
	t.Errorf("flows of removed ports stay: %v\n%s", err, strings.Join(left, "\n"))
}

// TestOpenConnection: a TCP connection to a container that is removed ends, and
// the port's next container gets new ones.
func TestOpenConnection(t *testing.T) {
	d := daemontest.Shared(t)
	for range 3 {
		serve(t, d, "one", "-p", "9000:9000")
		name := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "one")
		// The same source port each time, as a client behind a small NAT has it.
		for _, addr := range []string{daemontest.HostAddr, daemontest.HostAddr6} {
			if a := dial(t, machine(d), target("tcp", addr, 9000)); a.Server != name {
				t.Errorf("%s: %+v, want %s", addr, a, name)
			}
		}
		d.Docker("rm", "-f", "one")
		if a := dial(t, machine(d), target("tcp", daemontest.HostAddr, 9000)); a.Verdict != "refused" {
			t.Errorf("after its removal: %+v", a)
		}
	}
}

// TestBridgeNFFlips: somebody turns bridge-nf on under a running container; a
// reconciliation gives its wire the hairpin that its own published port then needs.
func TestBridgeNFFlips(t *testing.T) {
	d := daemontest.Shared(t)
	const key = "net.bridge.bridge-nf-call-iptables"
	was := strings.TrimSpace(d.Host.Run("sysctl", "-n", key))
	t.Cleanup(func() { d.Host.Sysctl(key, was) })
	d.Host.Sysctl(key, "0")
	serve(t, d, "server", "-p", "9000:9000", "-p", "9000:9000/udp")
	at := inside(t, d, "server")
	for _, nf := range []string{"1", "0", "1"} {
		d.Host.Sysctl(key, nf)
		if r := d.Linkspan("reconcile"); r.Code != 0 {
			t.Fatalf("reconcile: %+v", r)
		}
		for _, proto := range []string{"tcp", "udp"} {
			if a := dial(t, at, target(proto, daemontest.HostAddr, 9000)); a.Verdict != "answered" || a.Source != gateway {
				t.Errorf("bridge-nf %s, %s: %+v", nf, proto, a)
			}
		}
	}
}
