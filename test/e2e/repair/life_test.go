package repair

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/netns"
)

// TestFlushWhileHung: the ruleset is flushed while no daemon can do anything about it.
// Connections through published ports go on; new ones work when the daemon is back.
func TestFlushWhileHung(t *testing.T) {
	w := newWorld(t)
	long := w.Talk(8080)
	long.On(t)
	w.Signal(syscall.SIGSTOP)
	w.Host.Run("nft", "flush", "ruleset")
	for range 20 {
		long.On(t)
		time.Sleep(10 * time.Millisecond)
	}
	w.Signal(syscall.SIGCONT)
	w.Settled("not as before", w.whole)
	w.Reached(8080)
	long.On(t)
}

// TestFlowsOfTheGap: what a container begins while the page is gone leaves with the
// host's address once it is back, though the same flow left without before.
func TestFlowsOfTheGap(t *testing.T) {
	w := newWorld(t)
	var in net.PacketConn
	if err := w.Machine.Do(func() (err error) { in, err = net.ListenPacket("udp4", daemontest.MachineAddr+":7007"); return err }); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	w.Signal(syscall.SIGSTOP)
	w.Host.Run("nft", "flush", "ruleset")
	var out net.Conn
	err := netns.Do(w.inside, func() (err error) { out, err = net.Dial("udp4", daemontest.MachineAddr+":7007"); return err })
	if err == nil {
		defer out.Close()
		_, err = out.Write([]byte("lost"))
	}
	w.Signal(syscall.SIGCONT)
	if err != nil {
		t.Fatal(err)
	}
	from := ""
	w.Until(patience, "the flow leaves with the host's address", func() bool {
		_, _ = out.Write([]byte("found"))
		_ = in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		b := make([]byte, 16)
		_, a, err := in.ReadFrom(b)
		if err == nil {
			from = a.String()
		}
		return strings.HasPrefix(from, daemontest.HostAddr+":")
	})
	w.Settled("not as before", w.whole)
}

// TestReload is what firewalld and others do when they are reloaded, as far as nft sees
// it (firewalld itself is not installed here): their own tables go and come, all chains
// of iptables are flushed, or the whole ruleset.
func TestReload(t *testing.T) {
	w := newWorld(t)
	long := w.Talk(8080)
	own := "table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }; }"
	script := filepath.Join(t.TempDir(), "firewall.nft")
	if err := os.WriteFile(script, []byte("flush ruleset\n"+own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"nft add " + strings.Fields(own)[0] + " inet firewalld", "nft flush table inet firewalld", "nft delete table inet firewalld",
		"iptables -F", "iptables -t nat -F", "nft -f " + script} {
		w.Host.Run(strings.Fields(line)...)
		long.On(t)
		w.Reached(8080)
		w.Until(patience, "our table is back", func() bool { return strings.Contains(w.Seen(), w.table) })
	}
	w.Host.Run("nft", "delete", "table", "inet", "firewalld")
	for _, family := range []string{"ip", "ip6"} { // iptables-nft's own
		for _, table := range []string{"filter", "nat"} {
			_, _ = w.Host.Try("nft", "delete", "table", family, table)
		}
	}
	w.Settled("not as before", w.whole)
	w.Reached(8080)
}

// TestWholeWire: an interface that somebody deletes in a container on two networks
// comes back with all that was on it, and what is on the other one is not touched.
func TestWholeWire(t *testing.T) {
	w := newWorld(t)
	w.Docker("network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "shop")
	t.Cleanup(func() { w.Docker("rm", "-f", "web"); w.Docker("network", "rm", "shop") })
	w.Docker("network", "connect", "--ip", "10.77.0.9", "shop", "web")
	look := func() string {
		var out []string
		for _, c := range []string{"ip -br addr", "ip route", "ip -6 route", "sysctl net.ipv6.conf.eth0.disable_ipv6 net.ipv6.conf.eth1.disable_ipv6", "nft list ruleset"} {
			shown, err := w.Host.Try(words(w.named("INSIDE " + c))...)
			if err != nil {
				return err.Error() // the interface may be away
			}
			for l := range strings.Lines(shown) {
				// Link-local addresses of IPv6 come a moment after their interface.
				f := slices.DeleteFunc(strings.Fields(l), func(x string) bool { return strings.HasPrefix(x, "fe80:") })
				for i, x := range f { // the other end's number
					if at := strings.Index(x, "@"); at > 0 {
						f[i] = x[:at]
					}
				}
				if len(f) > 0 && !strings.HasPrefix(l, "fe80:") {
					out = append(out, strings.Join(f, " ")+"\n")
				}
			}
		}
		slices.Sort(out) // an interface that was made anew is the last of all
		return strings.Join(out, "")
	}
	before := look()
	for _, line := range []string{"INSIDE ip link del eth1", "INSIDE ip link del eth0", "INSIDE ip link set eth1 down name gone0", "ip link del docker0"} {
		w.Host.Run(words(w.named(line))...)
		if strings.Contains(line, "gone0") { // theirs: only told
			w.Host.Run(words(w.named("INSIDE ip link del gone0"))...)
		}
		now := ""
		w.Until(patience, "web's interfaces are whole after "+line, func() bool { now = look(); return now == before })
		if now != before {
			t.Errorf("%s:\n%s", line, lab.Differ(before, now))
		}
		w.Reached(8080)
	}
}

// TestFight: a program that deletes our bridge whenever it sees it. The daemon does not
// spin, says so, and wins when the other gives up.
func TestFight(t *testing.T) {
	w := newWorld(t)
	logged, since, log := len(w.Log()), time.Now(), ""
	for fought := since; time.Since(fought) < 4*time.Second || !strings.Contains(log, "keeps undoing this") && time.Since(fought) < lab.Patience; {
		_, _ = w.Host.Try("ip", "link", "del", "docker0")
		time.Sleep(10 * time.Millisecond)
		log = w.Log()[logged:]
	}
	// Each waits longer than the one before.
	n, most := strings.Count(log, `object="link docker0"`), 30+int(time.Since(since).Seconds())
	if !strings.Contains(log, "keeps undoing this") || n > most {
		t.Errorf("%d repairs within %v:\n%s", n, time.Since(since), grep(log, "docker0"))
	}
	w.Until(patience, "an event says that it is left alone", func() bool {
		return slices.ContainsFunc(w.repairs(since), func(e event) bool { return e.Actor.Attributes["backoff"] != "" })
	})
	w.Until(patience, "the bridge is back", func() bool { return w.Seen() == w.whole })
	w.Reached(8080)
}

// TestGarbage: what a crash of the machine or a person leaves is listed with its reason,
// and goes.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	w.Until(patience, "there is no garbage", func() bool {
		out, code := w.linkspan("gc", "--dry-run")
		return code == 0 && strings.Contains(out, "there is no garbage")
	})
	dead := fmt.Sprintf("linkspan_probe_%d", 1<<22+7) // above pid_max
	w.Host.Run("nft", "add", "table", "inet", dead)
	living := dataplane.ProbeTable(os.Getpid(), 40000) // a question that is being asked
	w.Host.Run("nft", "add", "table", "inet", living)
	folder := filepath.Join(w.Data, "containers", strings.Repeat("ab", 32))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	pin := filepath.Join(w.Exec, "netns", "0123456789ab")
	for _, c := range [][]string{{"touch", pin}, {"unshare", "--net=" + pin, "true"}} {
		w.Host.Run(c...)
	}
	out, code := w.linkspan("gc", "--dry-run")
	for _, want := range []string{dead + ": who asked by it is gone", "nft delete table inet " + dead, "# folder " + strings.Repeat("ab", 32), "# netns " + pin, "umount " + pin, "3 to remove; nothing was changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("not listed: %q", want)
		}
	}
	if code != 2 || t.Failed() || strings.Contains(out, living) {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if out, code = w.linkspan("gc"); code != 0 || !strings.Contains(out, "3 removed, 0 could not be") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	w.Until(patience, "there is no garbage", func() bool { _, code := w.linkspan("gc", "--dry-run"); return code == 0 })
	w.Host.Run("nft", "delete", "table", "inet", living)
	w.Settled("not as before", w.whole)
}

// TestForcedRemoval: a network goes whoever is on it; they live on without it.
func TestForcedRemoval(t *testing.T) {
	w := newWorld(t)
	w.Docker("network", "create", "shop")
	w.Docker("network", "connect", "shop", "web")
	w.Docker("run", "-d", "--name", "only", "--network", "shop", "netprobe")
	w.Docker("create", "--name", "later", "--network", "shop", "netprobe")
	w.Refused([]string{"has active endpoints"}, "network", "rm", "-f", "shop") // as Docker's own
	if out, code := w.linkspan("network", "rm", "--force", "shop", "nobodys"); code != 0 || !strings.Contains(out, "shop") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if out := w.Docker("network", "ls", "-q", "-f", "name=shop"); out != "" {
		t.Errorf("still there: %s", out)
	}
	if out := w.Docker("inspect", "-f", "{{.State.Running}}", "web", "only"); strings.Count(out, "true") != 2 {
		t.Errorf("somebody was ended: %s", out)
	}
	w.Reached(8080)
	if out, code := w.linkspan("network", "rm", "--force", "bridge"); code == 0 {
		t.Errorf("a predefined network went: %s", out)
	}
	w.Docker("rm", "-f", "only", "later")
	w.Until(patience, "there is no garbage", func() bool { _, code := w.linkspan("gc", "--dry-run"); return code == 0 })
	w.Settled("not as before", w.whole)
}

// TestNoPhantoms goes the ways on which Docker comes to endpoints, ports and addresses
// that nobody has: kill -9 in the middle, a dead container, a deleted namespace.
func TestNoPhantoms(t *testing.T) {
	w := &world{Daemon: daemontest.Start(t, daemontest.Options{}), t: t}
	w.Docker("network", "create", "--subnet", "10.78.0.0/29", "--gateway", "10.78.0.1", "tiny") // five addresses
	run := func() {
		w.Docker("run", "-d", "--name", "web", "--network", "tiny", "--ip", "10.78.0.2", "-p", "8080:9000", "netprobe")
	}
	for name, way := range map[string]func(){
		"the daemon is killed in the middle of a start": func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				w.TryDocker("run", "-d", "--name", "web", "--network", "tiny", "--ip", "10.78.0.2", "-p", "8080:9000", "netprobe")
			}()
			time.Sleep(60 * time.Millisecond)
			w.Kill9()
			<-done
			w.Run()
		},
		"the container is killed while no daemon lives": func() {
			run()
			pid := w.Docker("inspect", "-f", "{{.State.Pid}}", "web")
			w.Kill9()
			w.Host.Run("kill", "-9", strings.TrimSpace(pid))
			w.Run()
		},
		"its namespace is unpinned": func() {
			run()
			list, err := filepath.Glob(filepath.Join(w.Exec, "netns", "*"))
			if err != nil || len(list) == 0 {
				t.Fatal(err, list)
			}
			w.Host.Run("umount", "-l", list[0])
			_ = os.Remove(list[0])
			w.Docker("kill", "web")
		},
		"the machine is switched off": func() {
			run()
			pid := w.Docker("inspect", "-f", "{{.State.Pid}}", "web")
			w.Kill9()
			w.Host.Run("kill", "-9", strings.TrimSpace(pid))
			w.Host.Run("nft", "flush", "ruleset")
			_, _ = w.Host.Try("ip", "link", "del", "docker0")
			w.Run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Daemon: w.For(t), t: t}
			way()
			w.TryDocker("rm", "-f", "web")
			w.Until(patience, "there is no garbage", func() bool { _, code := w.linkspan("gc", "--dry-run"); return code == 0 })
			run() // the same address, the same port, the same name
			w.Reached(8080)
			w.Docker("rm", "-f", "web")
			w.Docker("network", "rm", "tiny") // nobody is on it
			w.Docker("network", "create", "--subnet", "10.78.0.0/29", "--gateway", "10.78.0.1", "tiny")
		})
	}
	w.Docker("network", "rm", "tiny")
}
