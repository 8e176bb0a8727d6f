package crash

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/internal/lab"
)

// TestDown: what containers do while no daemon is there is not lost.
func TestDown(t *testing.T) {
	t.Parallel()
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	dir := t.TempDir()
	// Each waits for the file go, so that it acts while the daemon is down.
	when := func(do string) []string {
		return []string{"-v", dir + ":/x", "busybox", "sh", "-c", "while [ ! -e /x/go ]; do sleep 0.02; done; " + do}
	}
	run := func(name string, flags ...string) func(do string) {
		return func(do string) {
			v.Docker(append(append([]string{"run", "-d", "--name", name}, flags...), when(do)...)...)
		}
	}
	// 1 MB in lines of 64 bytes; a pipe holds 64 kB, so it would block unread.
	run("printer")(`i=0; while [ $i -lt 16384 ]; do printf '%063d\n' $i; i=$((i+1)); done; echo done > /x/printed; sleep 1000`)
	run("failed")("echo last words; exit 7")
	run("gone", "--rm")("exit 0")
	run("always", "--restart=always", "-p", "8081:9000")("[ -e /x/first ] && exec netprobe serve tcp/:9000; touch /x/first; exit 3")
	run("onfailure", "--restart=on-failure:5")("[ -e /x/second ] && sleep 1000; touch /x/second; exit 4")
	run("enough", "--restart=on-failure:5")("exit 0")
	run("unless", "--restart=unless-stopped")("sleep 1000")
	v.Docker("stop", "-t", "0", "unless")
	waiter := v.DockerCommand("wait", "failed")
	waiter.Stdout = nil
	if err := waiter.Start(); err != nil {
		t.Fatal(err)
	}
	v.Kill9()
	_ = waiter.Wait() // its connection broke; the next one learns the code
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v.Until(30*time.Second, "1 MB is printed without a daemon", func() bool {
		_, err := os.Stat(filepath.Join(dir, "printed"))
		return err == nil
	})
	for _, f := range []string{"first", "second"} {
		v.Until(10*time.Second, f+" life ended", func() bool { _, err := os.Stat(filepath.Join(dir, f)); return err == nil })
	}
	v.Run()
	want := sha256.New()
	for i := range 16384 {
		fmt.Fprintf(want, "%063d\n", i)
	}
	v.Until(5*time.Second, "all is in the log", func() bool { return strings.Count(v.Docker("logs", "--tail", "1", "printer"), "16383") == 1 })
	if out := v.Docker("logs", "printer") + "\n"; fmt.Sprintf("%x", sha256.Sum256([]byte(out))) != fmt.Sprintf("%x", want.Sum(nil)) {
		t.Errorf("the log has %d bytes, not the 1 MB that was printed", len(out))
	}
	if out := v.Docker("wait", "failed"); out != "7" {
		t.Errorf("the exit code is %s", out)
	}
	v.Until(lab.Patience, "its last words are in the log", func() bool { return v.Docker("logs", "failed") == "last words" })
	v.Until(lab.Patience, "it is told to have ended, without an address", func() bool {
		return v.Docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.NetworkSettings.IPAddress}}", "failed") == "exited 7 "
	})
	v.Until(5*time.Second, "--rm is removed", func() bool { return v.TryDocker("inspect", "gone").Code != 0 })
	v.Until(10*time.Second, "the restart policy brings it back", func() bool { return v.answers(8081) })
	v.Until(10*time.Second, "on-failure brings it back", func() bool {
		return v.Docker("inspect", "-f", "{{.State.Status}}", "onfailure") == "running"
	})
	for name, want := range map[string]string{"enough": "exited 0", "unless": "exited 137", "printer": "running 0"} {
		v.Until(lab.Patience, name+" is "+want, func() bool {
			return v.Docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name) == want
		})
	}
}

// processes of the daemon's folder whose command line says a word.
func (v *victim) processes(word string) (pids []int) {
	lines, err := lab.Processes(v.Dir).List()
	if err != nil {
		v.t.Fatal(err)
	}
	for _, l := range lines {
		cmd, rest, ok := strings.Cut(l, " (pid ")
		pid, err := strconv.Atoi(strings.TrimSuffix(rest, ")"))
		if ok && err == nil && pid != v.PID() && strings.Contains(cmd, word) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func kill(pids ...int) {
	for _, p := range pids {
		if p > 0 { // 0 would be the test itself, and all of its group
			_ = unix.Kill(p, unix.SIGKILL)
		}
	}
}

// buried waits until processes that were killed are gone, with their sockets and mounts.
func (v *victim) buried(pids ...int) {
	v.t.Helper()
	for _, p := range pids {
		v.Until(lab.Patience, fmt.Sprintf("process %d is gone", p), func() bool {
			return lab.Buried(p)
		})
	}
}

// TestKeeperDies: a new one holds what the old one held; the containers and their
// translated connections do not notice. With the daemon it is the same.
func TestKeeperDies(t *testing.T) {
	t.Parallel()
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	b := v.bystanders()
	for _, alone := range []bool{true, false} {
		old := v.KeeperPID()
		if old == 0 {
			t.Fatal("no keeper")
		}
		if !alone {
			v.Kill9()
		}
		kill(old)
		if !alone {
			v.Run()
		}
		v.Until(10*time.Second, "there is another keeper", func() bool { p := v.KeeperPID(); return p != 0 && p != old })
		b.unharmed(v)
		v.Until(5*time.Second, "the ports are reserved again", func() bool {
			r := v.TryDocker("run", "-d", "--name", "thief", "-p", "7000:1", "busybox", "true")
			v.Docker("rm", "-f", "thief")
			return r.Code != 0 && strings.Contains(r.Stderr, "server")
		})
		// A process cannot take the port either.
		v.Until(lab.Patience, "a process that wants the port is told that it is in use", func() bool {
			return errors.Is(v.Host.Do(func() error {
				l, err := net.Listen("tcp4", "0.0.0.0:7000")
				if err == nil {
					l.Close()
				}
				return err
			}), unix.EADDRINUSE)
		})
		before := v.Docker("logs", "--tail", "1", "counter")
		v.Until(5*time.Second, "the log goes on", func() bool { return v.Docker("logs", "--tail", "1", "counter") != before })
	}
}

// reboot takes away what a reboot does: mounts, what is below /run, and what is in
// the kernel.
func (v *victim) reboot(ids []string) {
	v.t.Helper()
	mounts, err := lab.Mounts(v.Dir).List()
	if err != nil {
		v.t.Fatal(err)
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			v.t.Fatalf("unmount %s: %v", m, err)
		}
	}
	lost := []string{v.Exec}
	for _, id := range ids { // runc's own notes lie below /run, whatever containerd's state folder is
		notes, _ := filepath.Glob("/run/containerd/runc/*/" + id)
		lost = append(lost, notes...)
	}
	for _, dir := range lost {
		if err := os.RemoveAll(dir); err != nil {
			v.t.Fatal(err)
		}
	}
	v.Host.Run("nft", "flush", "ruleset")
	for _, l := range strings.Fields(v.Host.Run("sh", "-c", "ls /sys/class/net 2>/dev/null; ip -o link show type bridge | cut -d: -f2")) {
		if l == "docker0" || strings.HasPrefix(l, "br-") {
			_, _ = v.Host.Try("ip", "link", "del", l)
		}
	}
	v.Host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0")
}

// TestEverythingDies: a host that crashed: no process of ours is left. What is
// declared to run comes back, everything else is at rest, and nothing leaks.
func TestEverythingDies(t *testing.T) {
	t.Parallel()
	for name, reboot := range map[string]bool{"processes": false, "reboot": true} {
		t.Run(name, func(t *testing.T) { everythingDies(t, reboot) })
	}
}

func everythingDies(t *testing.T, reboot bool) {
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	v.Docker("network", "create", "--subnet", "172.30.0.0/24", "home")
	v.Docker("network", "create", "--subnet", "172.30.1.0/24", "--ipv6", "--subnet", "fd00:30:1::/64", "away")
	always := func(name string, args ...string) {
		v.Docker(append([]string{"run", "-d", "--name", name, "--restart=always"}, args...)...)
	}
	always("always", "-p", "8081:9000", "netprobe")
	always("dependent", "--net=container:always", "busybox", "netprobe", "serve", "tcp/:9100")
	always("placed", "--network", "name=home,ip=172.30.0.50,alias=vic", "--network", "name=away,alias=vic", "-p", "8083:9000", "netprobe")
	always("chosen", "--network", "home", "-p", "9000", "netprobe") // address and port are ours to choose
	always("blocked", "--network", "home", "-p", "8085:9000", "netprobe")
	v.Docker("run", "-d", "--name", "once", "-p", "8082:9000", "netprobe")
	v.Docker("run", "-d", "--rm", "--name", "fleeting", "netprobe")
	v.Until(10*time.Second, "all answer", func() bool {
		return v.answers(8081) && v.answers(8082) && v.answers(8083) && v.answers(8085)
	})
	const places = "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}} {{$e.GlobalIPv6Address}} {{$e.MacAddress}} {{end}}{{json .NetworkSettings.Ports}}"
	same := []string{"always", "placed", "chosen", "blocked"}
	placed := map[string]string{}
	for _, c := range same {
		placed[c] = v.Docker("inspect", "-f", places, c)
	}
	var pids []int
	ids := strings.Fields(v.Docker("ps", "-q", "--no-trunc"))
	for _, c := range ids {
		p, err := strconv.Atoi(v.Docker("inspect", "-f", "{{.State.Pid}}", c))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, p)
	}
	v.Kill9()
	pids = append(pids, v.processes("containerd")...) // the shims too
	pids = append(pids, v.KeeperPID())
	kill(pids...)
	v.buried(pids...)
	if reboot {
		v.reboot(ids)
	}
	// Somebody else was faster at the port of one.
	thief := v.Host.Listen("tcp4", "0.0.0.0:8085")
	v.Run()
	v.Until(20*time.Second, "what is declared to run answers again", func() bool { return v.answers(8081) && v.answers(8083) })
	v.Until(20*time.Second, "the dependent is back beside it", func() bool {
		return v.Docker("inspect", "-f", "{{.State.Running}}", "dependent") == "true" &&
			strings.Contains(v.TryDocker("exec", "dependent", "netprobe", "dial", "tcp/127.0.0.1:9000").Stdout, "src=")
	})
	v.Until(lab.Patience, "once is at rest", func() bool {
		return v.Docker("inspect", "-f", "{{.State.Status}} {{.NetworkSettings.IPAddress}}", "once") == "exited "
	})
	if v.answers(8082) {
		t.Error("the port of a container at rest answers")
	}
	v.Until(5*time.Second, "--rm is removed", func() bool { return v.TryDocker("inspect", "fleeting").Code != 0 })

	// A port that somebody else has meanwhile is told, leads to its container all the
	// same, and is reserved again when it is free.
	v.Until(20*time.Second, "the one whose port was lost is back", func() bool { return v.answers(8085) })
	v.Until(lab.Patience, "the lost port is told", func() bool {
		return strings.Contains(v.Log(), "a host port was lost to another program") && strings.Contains(v.Log(), "container=blocked")
	})
	thief.Close()
	v.Until(60*time.Second, "it is reserved again", func() bool {
		return v.Host.Do(func() error {
			l, err := net.Listen("tcp4", "0.0.0.0:8085")
			if err == nil {
				l.Close()
			}
			return err
		}) != nil
	})
	for _, c := range same {
		v.Until(lab.Patience, c+" is where it was: "+placed[c], func() bool { return v.Docker("inspect", "-f", places, c) == placed[c] })
	}
	for name, want := range map[string][]string{"placed": {"172.30.0.50"}, "vic": {"172.30.0.50"}, "always": nil} {
		v.Until(lab.Patience, fmt.Sprintf("chosen asks for %s and gets %v", name, want), func() bool {
			got, err := lookup(v.where("chosen"), name)
			return err == nil && slices.Equal(got, want)
		})
	}
	v.asDeclared()
	v.Docker("start", "once")
	v.Until(10*time.Second, "it starts again", func() bool { return v.answers(8082) })
}
