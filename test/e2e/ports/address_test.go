package ports

import (
	"strings"
	"sync"
	"testing"

	"linkspan/internal/daemontest"
)

// TestOnePortManyAddresses: one number on several addresses of the host is several
// ports, each with its own container; the one on every address needs all of them.
func TestOnePortManyAddresses(t *testing.T) {
	d := daemontest.Shared(t)
	at := map[string]string{"lo4": "127.0.0.1", "lo6": "[::1]", "wire4": daemontest.HostAddr, "wire6": "[" + daemontest.HostAddr6 + "]"}
	for _, name := range sorted(at) {
		serve(t, d, name, "-p", at[name]+":9000:9000", "-p", at[name]+":9000:9000/udp")
	}
	d.Refused([]string{"port is already allocated", "publishes it; stop it or choose another port"}, "run", "--rm", "-p", "9000:9000", "netprobe")
	for _, name := range sorted(at) {
		id := d.Docker("inspect", "-f", "{{.Config.Hostname}}", name)
		for _, proto := range []string{"tcp", "udp"} {
			tg := proto + "/" + at[name] + ":9000"
			if a := dial(t, host(d), tg); a.Server != id {
				t.Errorf("%s from the host: %+v, want %s (%s)", tg, a, name, id)
			}
			if strings.HasPrefix(name, "wire") {
				if a := dial(t, machine(d), tg); a.Server != id {
					t.Errorf("%s from the wire: %+v, want %s (%s)", tg, a, name, id)
				}
			}
		}
	}
	// A removed one takes nobody else's away, nor a connection or flow of theirs.
	held := stream(t, machine(d), target("tcp", daemontest.HostAddr, 9000), "-timeout", "60s", "-n", "12", "-interval", "100ms")
	ours := func() (n int) {
		lines, err := d.Host.Flows(9000).List()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if strings.HasPrefix(l, "udp") && strings.Contains(l, "src="+daemontest.MachineAddr+" dst="+daemontest.HostAddr) {
				n++
			}
		}
		return n
	}
	flows := ours()
	d.Docker("rm", "-f", "lo4", "wire6")
	if lines := held.all(t); len(lines) != 12 {
		t.Errorf("a connection to another container: %q", lines)
	}
	if now := ours(); flows == 0 || now != flows {
		t.Errorf("%d UDP flows of another container, then %d", flows, now)
	}
	for _, name := range []string{"lo6", "wire4"} {
		if a := dial(t, host(d), "udp/"+at[name]+":9000"); a.Verdict != "answered" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for _, name := range []string{"lo4", "wire6"} {
		if a := dial(t, host(d), "tcp/"+at[name]+":9000"); a.Verdict != "refused" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// TestRace: of many containers that want one port at the same time one gets it,
// and those that take any get different ones.
func TestRace(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("pull", "-q", "netprobe")
	const n = 8
	results := make([]daemontest.Result, 2*n)
	var group sync.WaitGroup
	for i := range results {
		port := "9000:9000"
		if i >= n {
			port = "8500-8520:9000"
		}
		group.Go(func() { results[i] = d.TryDocker("run", "-d", "-p", port, "netprobe") })
	}
	group.Wait()
	won := 0
	chosen := map[string]bool{}
	for i, r := range results {
		switch {
		case i >= n && r.Code == 0:
			port := d.Docker("port", strings.TrimSpace(r.Stdout), "9000/tcp")
			if chosen[port] {
				t.Errorf("given twice: %s", port)
			}
			chosen[port] = true
		case i >= n:
			t.Errorf("one of a range: %s", r.Stderr)
		case r.Code == 0:
			won++
		case !strings.Contains(r.Stderr, "Bind for") || !strings.Contains(r.Stderr, "port is already allocated"):
			t.Errorf("the loser was told: %s", r.Stderr)
		}
	}
	if won != 1 {
		t.Errorf("%d containers have the port", won)
	}
	if a := dial(t, machine(d), target("tcp", daemontest.HostAddr, 9000)); a.Verdict != "answered" {
		t.Errorf("%+v", a)
	}
}

// TestDefaultAddress: --ip says where -p without an address publishes.
func TestDefaultAddress(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{Args: []string{"--ip", "127.0.0.1"}})
	d.Docker("pull", "-q", "netprobe")
	d.LeakCheck()
	serve(t, d, "server", "-p", "9000:9000", "-p", daemontest.HostAddr+":9001:9000")
	if got := strings.Join(bindings(t, d, "server"), "; "); got != "9000/tcp 127.0.0.1:9000 "+daemontest.HostAddr+":9001" && got != "9000/tcp "+daemontest.HostAddr+":9001 127.0.0.1:9000" {
		t.Errorf("Ports are %q", got)
	}
	for tg, want := range map[string]string{"tcp/" + daemontest.HostAddr + ":9000": "refused", "tcp/" + daemontest.HostAddr + ":9001": "answered"} {
		if a := dial(t, machine(d), tg); a.Verdict != want {
			t.Errorf("%s: %+v, want %s", tg, a, want)
		}
	}
	if a := dial(t, host(d), "tcp/127.0.0.1:9000"); a.Verdict != "answered" {
		t.Errorf("%+v", a)
	}
	d.RemoveAll()
}
