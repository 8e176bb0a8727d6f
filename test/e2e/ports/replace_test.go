package ports

import (
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
	d.Docker("run", "-d", "--name", "client", "netprobe")
	first := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "one")
	type sender struct {
		from         place
		bind, to, is string // is: whom the server sees
		done         chan answers
	}
	senders := []*sender{
		{from: machine(d), bind: daemontest.MachineAddr + ":5555", to: daemontest.HostAddr, is: daemontest.MachineAddr + ":5555"},
		{from: machine(d), bind: "[" + daemontest.MachineAddr6 + "]:5555", to: daemontest.HostAddr6, is: gateway + ":"},
		{from: host(d), bind: "127.0.0.1:5557", to: "127.0.0.1", is: gateway + ":"},
		{from: host(d), bind: "[::1]:5557", to: "::1", is: gateway + ":"},
		{from: inside(t, d, "client"), bind: "0.0.0.0:5555", to: daemontest.HostAddr, is: gateway + ":"},
	}
	for _, s := range senders {
		s.done = stream(t, s.from, target("udp", s.to, 9000), "-timeout", "900ms", "-bind", s.bind, "-n", "8", "-interval", "1s")
	}
	time.Sleep(1500 * time.Millisecond)
	d.Docker("rm", "-f", "one")
	after, err := stay.List()
	if err != nil || len(after) < len(before) {
		t.Errorf("flows of another port went too: %v, then %v, %v", before, after, err)
	}
	// What is sent now finds nobody, and conntrack remembers that as well.
	time.Sleep(1200 * time.Millisecond)
	serve(t, d, "two", "-p", "9000:9000/udp")
	second := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "two")
	for _, s := range senders {
		lines := <-s.done
		saw := strings.Join(lines, "\n")
		last := lines[len(lines)-1]
		if !strings.Contains(lines[0], "host="+first) || !strings.Contains(last, "host="+second) || !strings.Contains(last, "src="+s.is) || lines.lost() == 0 || lines.lost() > 4 {
			t.Errorf("from %s to %s, first %s, then %s:\n%s", s.from.name, s.to, first, second, saw)
		}
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

// answers are what a client got to each of its messages.
type answers []string

func (a answers) lost() (n int) {
	for _, l := range a {
		if !strings.HasPrefix(l, "src=") {
			n++
		}
	}
	return n
}

// stream dials in the background; the channel gives what was answered.
func stream(t *testing.T, from place, target string, flags ...string) chan answers {
	t.Helper()
	cmd := from.run(append(append([]string{daemontest.Netprobe(t), "dial"}, flags...), target)...)
	out := make(chan answers, 1)
	go func() {
		b, _ := cmd.Output()
		out <- strings.Split(strings.TrimSpace(string(b)), "\n")
	}()
	return out
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

// TestHeldConnections: connections that are open when their container is removed
// end soon and with a word, from everywhere; and the same port is free at once for the
// next container, though the keeper's side of forwarded ones was closed by the host.
func TestHeldConnections(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("run", "-d", "--name", "client", "netprobe")
	froms := []struct {
		from place
		to   string
	}{
		{machine(d), daemontest.HostAddr}, {machine(d), daemontest.HostAddr6}, {host(d), daemontest.HostAddr},
		{host(d), "127.0.0.1"}, {host(d), "::1"}, {inside(t, d, "client"), daemontest.HostAddr},
	}
	for round := range 2 {
		serve(t, d, "server", "-p", "9000:9000")
		var held []chan answers
		for _, f := range froms {
			held = append(held, stream(t, f.from, target("tcp", f.to, 9000), "-timeout", "3s", "-n", "20", "-interval", "200ms"))
		}
		time.Sleep(600 * time.Millisecond)
		d.Docker("rm", "-f", "server")
		start := time.Now()
		serve(t, d, "server", "-p", "9000:9000")
		for i, f := range froms {
			if lines := <-held[i]; len(lines) < 2 || len(lines) > 10 {
				t.Errorf("round %d, from %s to %s: %d answers: %q", round, f.from.name, f.to, len(lines), lines)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("round %d, from %s to %s: the connection ended only after %v", round, f.from.name, f.to, took)
			}
			if a := dial(t, f.from, target("tcp", f.to, 9000)); a.Verdict != "answered" {
				t.Errorf("round %d, from %s to %s, the next container: %+v", round, f.from.name, f.to, a)
			}
		}
		d.Docker("rm", "-f", "server")
	}
}
