package ports

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/internal/testlog"
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
		heard        *heard
	}
	senders := []*sender{
		{from: machine(d), bind: daemontest.MachineAddr + ":5555", to: daemontest.HostAddr, is: daemontest.MachineAddr + ":5555"},
		{from: machine(d), bind: "[" + daemontest.MachineAddr6 + "]:5555", to: daemontest.HostAddr6, is: gateway + ":"},
		{from: host(d), bind: "127.0.0.1:5557", to: "127.0.0.1", is: gateway + ":"},
		{from: host(d), bind: "[::1]:5557", to: "::1", is: gateway + ":"},
		{from: inside(t, d, "client"), bind: "0.0.0.0:5555", to: daemontest.HostAddr, is: gateway + ":"},
	}
	for _, s := range senders {
		s.heard = stream(t, s.from, target("udp", s.to, 9000), "-timeout", "300ms", "-bind", s.bind, "-n", "1000", "-interval", "200ms")
	}
	// all waits until each has heard as many answers as it takes.
	all := func(what string, enough func(answers) bool) {
		t.Helper()
		for _, s := range senders {
			d.Until(lab.Patience, fmt.Sprintf("from %s to %s: %s", s.from.name, s.to, what), func() bool { return enough(s.heard.lines()) })
		}
	}
	all("answered by the first", func(a answers) bool { return slices.ContainsFunc(a, from(first)) })
	d.Docker("rm", "-f", "one")
	after, err := stay.List()
	if err != nil || len(after) < len(before) {
		t.Errorf("flows of another port went too: %v, then %v, %v", before, after, err)
	}
	// What is sent now finds nobody, and conntrack remembers that as well.
	all("lost", func(a answers) bool { return a.lost() > 0 && !strings.HasPrefix(a[len(a)-1], "src=") })
	serve(t, d, "two", "-p", "9000:9000/udp")
	second := d.Docker("inspect", "-f", "{{.Config.Hostname}}", "two")
	all("answered by the second", func(a answers) bool { return slices.ContainsFunc(a, from(second)) })
	for _, s := range senders {
		s.heard.end()
		lines := s.heard.lines()
		if at := slices.IndexFunc(lines, from(second)); !strings.Contains(lines[at], "src="+s.is) || slices.ContainsFunc(lines[at:], from(first)) {
			t.Errorf("from %s to %s, first %s, then %s:\n%s", s.from.name, s.to, first, second, strings.Join(lines, "\n"))
		}
	}
	d.Docker("rm", "-f", "two", "bystander")
	var left []string
	for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left, err = d.Host.Flows(9000, 9010).List()
		// The keeper's own connections to containers are not flows of a host port.
		left = slices.DeleteFunc(left, func(l string) bool { return !strings.Contains(l, "src="+daemontest.MachineAddr+" ") })
		if err == nil && len(left) == 0 {
			return
		}
	}
	t.Errorf("flows of removed ports stay: %v\n%s", err, strings.Join(left, "\n"))
}

// from says whether an answer is a server's.
func from(server string) func(answer string) bool {
	return func(answer string) bool { return strings.HasSuffix(answer, "host="+server) }
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

// heard is what a client in the background was answered so far.
type heard struct {
	testlog.Log
	cmd  *exec.Cmd
	done chan struct{}
}

func (h *heard) lines() answers {
	whole := h.String() // the last may be half there
	return strings.Split(whole[:strings.LastIndexByte(whole, '\n')+1], "\n")[:strings.Count(whole, "\n")]
}

// end ends it.
func (h *heard) end() {
	_ = h.cmd.Process.Kill()
	<-h.done
}

// all waits until it has ended by itself, and returns what it was answered.
func (h *heard) all(t *testing.T) answers {
	t.Helper()
	select {
	case <-h.done:
	case <-time.After(2 * lab.Patience):
		t.Errorf("%v does not end", h.cmd.Args)
		h.end()
	}
	return h.lines()
}

// stream dials in the background, until the test ends.
func stream(t *testing.T, from place, target string, flags ...string) *heard {
	t.Helper()
	h := &heard{cmd: from.run(append(append([]string{daemontest.Netprobe(t), "dial"}, flags...), target)...), done: make(chan struct{})}
	h.cmd.Stdout = h
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = h.cmd.Wait(); close(h.done) }()
	t.Cleanup(h.end)
	return h
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
// end with a word, from everywhere; and the same port is free at once for the
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
	const many = 10_000 // more than are answered in anybody's patience
	for round := range 2 {
		serve(t, d, "server", "-p", "9000:9000")
		var held []*heard
		for _, f := range froms {
			held = append(held, stream(t, f.from, target("tcp", f.to, 9000), "-timeout", "60s", "-n", fmt.Sprint(many), "-interval", "50ms"))
		}
		for i, f := range froms {
			d.Until(lab.Patience, fmt.Sprintf("from %s to %s answers come", f.from.name, f.to), func() bool { return len(held[i].lines()) > 2 })
		}
		d.Docker("rm", "-f", "server")
		serve(t, d, "server", "-p", "9000:9000")
		for i, f := range froms {
			if lines := held[i].all(t); len(lines) >= many {
				t.Errorf("round %d, from %s to %s: the connection did not end", round, f.from.name, f.to)
			}
			if a := dial(t, f.from, target("tcp", f.to, 9000)); a.Verdict != "answered" {
				t.Errorf("round %d, from %s to %s, the next container: %+v", round, f.from.name, f.to, a)
			}
		}
		d.Docker("rm", "-f", "server")
	}
}
