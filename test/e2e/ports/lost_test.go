package ports

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/daemontest"
)

// TestLost: a program that took a published port while neither daemon nor keeper was
// there keeps it as long as it wants, is told of once, and loses nothing that leads to
// the container; then the port is reserved again, without anyone's doing.
func TestLost(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	d.Docker("pull", "-q", "netprobe")
	serve(t, d, "server", "-p", "9000:9000", "-p", "9002:9000/udp")
	d.Kill9()
	d.KillKeeper()
	d.Until(5*time.Second, "the keeper's sockets are gone", func() bool { return bind(d, "tcp6", "[::]:9000") == nil })
	stranger := d.Host.Listen("tcp6", "[::1]:9000")
	d.Run()
	taken := func(network, addr string) bool { return errors.Is(bind(d, network, addr), syscall.EADDRINUSE) }
	d.Until(10*time.Second, "what can be had is reserved", func() bool {
		return taken("tcp4", "0.0.0.0:9000") && taken("udp4", "0.0.0.0:9002") && taken("udp6", "[::]:9002")
	})
	if a := dial(t, machine(d), target("tcp", daemontest.HostAddr, 9000)); a.Verdict != "answered" {
		t.Errorf("while it is lost: %+v", a)
	}
	d.Docker("network", "create", "back")
	d.Docker("network", "connect", "back", "server")
	d.Docker("network", "disconnect", "back", "server")
	time.Sleep(2500 * time.Millisecond) // it is tried again, in vain
	_ = stranger.Close()
	d.Until(10*time.Second, "the port is reserved again, and forwards", func() bool {
		return taken("tcp6", "[::]:9000") && dial(t, host(d), "tcp/[::1]:9000").Verdict == "answered"
	})
	told := 0
	for line := range strings.Lines(d.Log()) {
		if strings.Contains(line, "lost to another program") {
			told++
			if !strings.Contains(line, "container=server") || !strings.Contains(line, "9000") {
				t.Errorf("told: %s", line)
			}
		}
	}
	if told != 1 {
		t.Errorf("told %d times:\n%s", told, d.Log())
	}
}
