package ports

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/netns"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// bind tries to take an address on the host, as a server would.
func bind(d *daemontest.Daemon, network, addr string) error {
	return netns.Do(d.Host.NS, func() error {
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, addr)
			if err == nil {
				err = c.Close()
			}
			return err
		}
		l, err := net.Listen(network, addr) // with SO_REUSEADDR, as servers do
		if err == nil {
			err = l.Close()
		}
		return err
	})
}

// TestReserved: a published port is a socket that is really bound: no other
// process of the host gets it while the container runs, everyone afterwards.
func TestReserved(t *testing.T) {
	d := daemontest.Shared(t)
	serve(t, d, "server", "-p", "9000:9000", "-p", "9000:9000/udp", "-p", "127.0.0.1:9001:9000", "-p", "8000-8002:9000-9002")
	held := []struct{ network, addr string }{
		{"tcp4", "0.0.0.0:9000"}, {"tcp4", "127.0.0.1:9000"}, {"tcp4", daemontest.HostAddr + ":9000"}, {"tcp6", "[::]:9000"}, {"tcp6", "[::1]:9000"},
		{"udp4", "0.0.0.0:9000"}, {"udp4", "127.0.0.1:9000"}, {"udp6", "[::]:9000"}, {"tcp4", "127.0.0.1:9001"}, {"tcp4", "0.0.0.0:9001"},
		{"tcp4", "0.0.0.0:8000"}, {"tcp4", "0.0.0.0:8001"}, {"tcp4", "0.0.0.0:8002"}, {"tcp6", "[::]:8002"},
	}
	free := []struct{ network, addr string }{
		{"tcp4", daemontest.HostAddr + ":9001"}, {"udp4", "127.0.0.1:9001"}, {"tcp6", "[::1]:9001"}, {"tcp4", "0.0.0.0:8003"}, {"udp4", "0.0.0.0:8000"},
	}
	check := func(when string) {
		t.Helper()
		for _, a := range held {
			if err := bind(d, a.network, a.addr); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%s: %s %s: %v, want address in use", when, a.network, a.addr, err)
			}
		}
		for _, a := range free {
			if err := bind(d, a.network, a.addr); err != nil {
				t.Errorf("%s: %s %s: %v", when, a.network, a.addr, err)
			}
		}
	}
	check("while it runs")
	// The keeper holds them, so they are held while the daemon is down.
	d.Kill9()
	check("without the daemon")
	if a := dial(t, machine(d), target("tcp", daemontest.HostAddr, 9000)); a.Verdict != "answered" {
		t.Errorf("without the daemon: %+v", a)
	}
	d.Run()
	check("with the next daemon")
	d.Docker("restart", "-t", "0", "server")
	listening(t, d, "server")
	check("restarted")
	d.Docker("stop", "-t", "0", "server")
	for _, a := range held {
		if err := bind(d, a.network, a.addr); err != nil {
			t.Errorf("stopped: %s %s: %v", a.network, a.addr, err)
		}
	}
	d.Docker("start", "server")
	check("started again")
	d.Docker("rm", "-f", "server")
	for _, a := range held {
		if err := bind(d, a.network, a.addr); err != nil {
			t.Errorf("removed: %s %s: %v", a.network, a.addr, err)
		}
	}
}

// TestNoProxy: a hundred published ports are no process more than none.
func TestNoProxy(t *testing.T) {
	d := daemontest.Shared(t)
	keeper := d.KeeperPID()
	commands := func() map[string]int {
		count := map[string]int{}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range dirs {
			b, err := os.ReadFile(filepath.Join(p, "cmdline"))
			args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
			net, nerr := os.Readlink(filepath.Join(p, "ns/net"))
			hostNet, _ := netns.Inode(d.Host.NS)
			if err != nil || nerr != nil || args[0] == "" || net != fmt.Sprintf("net:[%d]", hostNet) && !strings.Contains(string(b), d.Dir) {
				continue
			}
			if name := filepath.Base(args[0]); name != "docker" && name != "runc" {
				count[name]++
			}
		}
		return count
	}
	d.Docker("run", "-d", "--name", "plain", "netprobe")
	// What starts a container, and looks at it, is there for a moment.
	var before, after map[string]int
	d.Until(lab.Patience, "the processes of one container", func() bool {
		before = commands()
		time.Sleep(300 * time.Millisecond)
		return maps.Equal(before, commands())
	})
	serve(t, d, "server", "-p", "9100-9199:9100-9199", "-p", "9100-9199:9100-9199/udp", "-p", "9000:9000", "-p", "[::1]:9001:9000")
	if a := dial(t, host(d), "tcp/[::1]:9001"); a.Verdict != "answered" {
		t.Errorf("%+v", a)
	}
	want := maps.Clone(before)
	for name := range want {
		if strings.HasPrefix(name, "containerd-shim") {
			want[name]++ // the container's own
		}
	}
	for deadline := time.Now().Add(lab.Patience); ; time.Sleep(100 * time.Millisecond) {
		if after = commands(); maps.Equal(after, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("processes %v, want %v", after, want)
			break
		}
	}
	if now := d.KeeperPID(); now != keeper || keeper == 0 {
		t.Errorf("the keeper was %d and is %d", keeper, now)
	}
}

// TestKeeperKilled: the keeper's death costs connections that it forwards, and
// nothing else: published ports go on in the kernel, and another keeper soon holds
// and forwards them again.
func TestKeeperKilled(t *testing.T) {
	d := daemontest.Shared(t)
	serve(t, d, "server", "-p", "9000:9000", "-p", "9000:9000/udp")
	held := stream(t, machine(d), target("tcp", daemontest.HostAddr, 9000), "-timeout", "60s", "-n", "15", "-interval", "100ms")
	old := d.KillKeeper()
	if a := dial(t, machine(d), target("tcp", daemontest.HostAddr, 9000)); a.Verdict != "answered" {
		t.Errorf("right after: %+v", a)
	}
	d.Until(5*time.Second, "another keeper forwards", func() bool {
		return dial(t, host(d), "tcp/[::1]:9000").Verdict == "answered" && dial(t, host(d), "udp/[::1]:9000").Verdict == "answered"
	})
	if now := d.KeeperPID(); now == 0 || now == old {
		t.Errorf("the keeper was %d and is %d", old, now)
	}
	for _, a := range []struct{ network, addr string }{{"tcp4", "0.0.0.0:9000"}, {"udp4", "0.0.0.0:9000"}, {"tcp6", "[::]:9000"}} {
		d.Until(lab.Patience, a.network+" "+a.addr+" is reserved again", func() bool { return errors.Is(bind(d, a.network, a.addr), syscall.EADDRINUSE) })
	}
	if lines := held.all(t); len(lines) != 15 {
		t.Errorf("a connection that the kernel translates: %q", lines)
	}
	if out := d.Docker("logs", "server"); strings.Count(out, "listening ") != 2 {
		t.Errorf("logs: %q", out)
	}
}
