package lab

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/probe"
)

// TestTopology: two machines behind a router and a third on a switch reach each
// other; a cut wire is felt.
func TestTopology(t *testing.T) {
	l := New(t)
	a, r, b, c := l.Host("a"), l.Host("r").Router(), l.Host("b"), l.Host("c")
	w := l.Join(a, r, "10.1.0.2/24", "10.1.0.1/24")
	sw := l.Switch("sw")
	sw.Plug(r, "10.2.0.1/24", "fd02::1/64")
	sw.Plug(b, "10.2.0.2/24", "fd02::2/64")
	sw.Plug(c, "10.2.0.3/24")
	a.Route("default", netip.MustParseAddr("10.1.0.1"))
	for _, h := range []*Host{b, c} {
		h.Route("default", netip.MustParseAddr("10.2.0.1"))
	}
	ping := func(h *Host, to string) error { _, err := h.Try("ping", "-c1", "-w60", to); return err }
	for _, to := range []string{"10.2.0.2", "10.2.0.3"} {
		if err := ping(a, to); err != nil {
			t.Error(err)
		}
	}
	if err := ping(b, "fd02::1"); err != nil {
		t.Error(err)
	}
	w.MTU(1400)
	if out := a.Run("ip", "link", "show", "wan0"); !strings.Contains(out, "mtu 1400") {
		t.Error(out)
	}
	w.Cut()
	if _, err := a.Try("ping", "-c1", "-w5", "10.1.0.1"); err == nil {
		t.Error("a cut wire carries packets")
	}
	w.Mend()
	// The question for the address that the last ping asked the cut wire is still open
	// (arp(7), mcast_solicit): packets queue behind it, and are told that the host is
	// unreachable when it fails. The one after that asks anew.
	err := ping(a, "10.1.0.1")
	if err != nil {
		err = ping(a, "10.1.0.1")
	}
	if err != nil {
		t.Error(err)
	}
}

// TestSockets: listeners and connections live in their host.
func TestSockets(t *testing.T) {
	l := New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Join(a, b, "10.1.0.1/24", "10.1.0.2/24")
	ln := b.Listen("tcp", "10.1.0.2:7000")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(c.RemoteAddr().(*net.TCPAddr).IP.String() + "\n"))
			c.Close()
		}
	}()
	c, err := a.Dial("tcp", "10.1.0.2:7000", Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if line, _ := bufio.NewReader(c).ReadString('\n'); line != "10.1.0.1\n" {
		t.Errorf("the server saw %q", line)
	}
	if _, err := a.Dial("tcp", "name.invalid:1:2", time.Second); err == nil {
		t.Error("dialled nonsense")
	}
	u := b.ListenPacket("udp", "10.1.0.2:7001")
	uc, err := a.Dial("udp", "10.1.0.2:7001", Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer uc.Close()
	uc.Write([]byte("x"))
	u.SetReadDeadline(time.Now().Add(Patience))
	if _, _, err := u.ReadFrom(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestProcess: started, seen on its host, waited for, stopped.
func TestProcess(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	p := a.Start([]string{"sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"})
	p.WaitFor("ready", 5*time.Second)
	if lines, err := a.processes(); err != nil || !strings.Contains(strings.Join(lines, "\n"), "echo ready") {
		t.Errorf("processes: %q %v", lines, err)
	}
	if err := p.Stop(); err == nil || err.Error() != "exit status 3" || !strings.Contains(p.Output(), "bye") {
		t.Errorf("stopped: %v %q", err, p.Output())
	}
	p.Signal(os.Interrupt) // to nobody
	q := a.Start([]string{"sleep", "60"})
	q.Kill()
	select {
	case <-q.Done():
	default:
		t.Error("killed and not done")
	}
}

// TestLeaks: every kind of leak is found and named, and nothing is when it is
// gone again.
func TestLeaks(t *testing.T) {
	probe.Require(t, probe.NFT, probe.NFTProgram)
	l := New(t)
	a := l.Host("a")
	dir := filepath.Join(t.TempDir(), "d")
	ws := append(a.watches(), Mounts(dir), Files(dir), Processes("sleep 61.5"))
	before, err := snapshot(ws)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, make, undo, told string }{
		{"link", "ip link add x type bridge", "ip link del x", "left behind, a links: x bridge mtu 1500 down group default"},
		{"link down", "ip link set lo down", "ip link set lo up", "gone, a links: lo  mtu 65536 up"},
		{"address", "ip link add x type bridge; ip addr add 10.0.0.1/24 dev x", "ip link del x", "a addresses: x 10.0.0.1/24"},
		{"route", "ip route add 10.0.0.0/8 dev lo table 99", "ip route flush table 99", "a routes: 10.0.0.0/8 dev lo table 99"},
		{"rule", "ip -6 rule add pref 7 lookup main", "ip -6 rule del pref 7", "a rules: -6 7: from all lookup main"},
		{"table", "nft add table inet x", "nft delete table inet x", "a nft: table inet x"},
		{"element", "nft 'add table inet x; add set inet x s { type mark; }; add element inet x s { 7 }'", "nft delete table inet x", "a nft: table inet x: elements = { 0x00000007 }"},
		{"file", "mkdir " + dir + "; touch " + dir + "/f", "rm -r " + dir, "left behind, files in " + dir + ": f"},
		{"mount", "mkdir " + dir + "; mount -t tmpfs none " + dir, "umount " + dir + "; rmdir " + dir, "mounts below " + dir + ": " + dir},
		{"process", "sleep 61.5 >/dev/null 2>&1 &", "kill $(pgrep -f '^sleep 61.5')", "processes with sleep 61.5: sleep 61.5"},
	} {
		a.Run("sh", "-c", c.make)
		now, err := snapshot(ws)
		if err != nil {
			t.Fatal(err)
		}
		if d := compare(before, now); !strings.Contains(d, c.told) {
			t.Errorf("%s: told %q, want %q in it", c.name, d, c.told)
		}
		a.Run("sh", "-c", c.undo)
		if d, _ := settle(ws, before); d != "" {
			t.Errorf("%s: still told: %s", c.name, d)
		}
	}
	ln := a.Listen("tcp", "127.0.0.1:7777")
	now, _ := snapshot(ws)
	if d := compare(before, now); !strings.Contains(d, "a sockets: tcp 127.0.0.1:7777") {
		t.Errorf("socket: %q", d)
	}
	ln.Close()
	if d, _ := settle(ws, before); d != "" {
		t.Errorf("still told: %s", d)
	}
}

// TestLeakCheckOrder: it compares after later cleanups, so that a test that
// cleans up passes; and two equal lines are not one.
func TestLeakCheckOrder(t *testing.T) {
	l := New(t)
	a := l.Host("a")
	l.LeakCheck(a.Flows(7000))
	a.Run("ip", "link", "add", "x", "type", "bridge")
	t.Cleanup(func() { a.Run("ip", "link", "del", "x") })
	if d := compare(map[string][]string{"w": {"x"}}, map[string][]string{"w": {"x", "x"}}); d != "left behind, w: x\n" {
		t.Errorf("doubles: %q", d)
	}
}

func TestFlowLine(t *testing.T) {
	got := flowLine("udp 17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 mark=0 use=1")
	if want := "udp src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1"; got != want {
		t.Errorf("%q", got)
	}
}
