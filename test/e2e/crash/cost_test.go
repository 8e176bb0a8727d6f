package crash

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
)

// held is a connection that goes through the keeper, or does not, when it dies.
type held struct {
	name string
	dial func() (net.Conn, error)
	// through: the keeper carries it, and its death ends it.
	through bool
	conn    net.Conn
	in      *bufio.Reader
}

func (h *held) open(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(lab.Patience); ; time.Sleep(5 * time.Millisecond) {
		if h.conn, err = h.dial(); err == nil {
			h.in = bufio.NewReader(h.conn)
			_ = h.conn.SetDeadline(time.Now().Add(patience))
			if _, err = h.in.ReadString('\n'); err == nil {
				return
			}
			h.conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", h.name, err)
		}
	}
}

// on says whether it still carries what is said.
func (h *held) on() error {
	_ = h.conn.SetDeadline(time.Now().Add(2 * patience))
	if _, err := h.conn.Write([]byte("on\n")); err != nil {
		return err
	}
	got, err := h.in.ReadString('\n')
	if err == nil && got != "on\n" {
		err = fmt.Errorf("heard %q", got)
	}
	return err
}

// attached attaches to a container's output, and tells when the stream ends. docker
// attach would wait for the container's end then.
func (v *victim) attached(name string) <-chan time.Time {
	v.t.Helper()
	c, err := net.Dial("unix", v.Socket)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /v1.41/containers/%s/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", name)
	head, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(head, " 101 ") {
		v.t.Fatalf("attach: %q, %v", head, err)
	}
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, c)
		ended <- time.Now()
	}()
	return ended
}

// TestKeeperCost measures what docs/operations.md says of a keeper's death, and holds
// the bounds of it: what breaks, what does not, and that all of it is there again.
func TestKeeperCost(t *testing.T) {
	t.Parallel()
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	v.home()
	v.Docker("run", "-d", "--name", "printer", "busybox", "sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); done")
	outside := func(host string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return v.Machine.Dial("tcp", net.JoinHostPort(host, "7100"), patience) }
	}
	inside := func(host string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return v.Host.Dial("tcp", net.JoinHostPort(host, "7100"), patience) }
	}
	all := []*held{
		{name: "published, IPv4", dial: outside("192.168.99.31")},
		{name: "127.0.0.1", dial: inside("127.0.0.1")},
		{name: "published, IPv6 to IPv4", dial: outside("fd99::31"), through: true},
		{name: "::1", dial: inside("::1"), through: true},
	}
	ns := v.where("athome")
	took := map[string][]time.Duration{}
	rounds := 3
	if os.Getenv(soakEnv) != "" {
		rounds = 30
	}
	for range rounds {
		for _, h := range all {
			h.open(t)
		}
		ended := v.attached("printer")
		time.Sleep(300 * time.Millisecond)
		v.KillKeeper()
		died := time.Now()
		// A question that met nobody is not answered later; the next one shall be.
		ask := asking(ns, "beside", "172.30.0.11", 100*time.Millisecond)
		for ask(0) != nil {
			if time.Since(died) > lab.Patience {
				t.Fatal("names are not answered")
			}
		}
		took["until names are answered"] = append(took["until names are answered"], time.Since(died))
		for _, h := range all {
			err := h.on()
			if (err != nil) != h.through {
				t.Errorf("%s: %v", h.name, err)
			}
			h.conn.Close()
			if h.through {
				h.open(t)
				took["until "+h.name+" connects"] = append(took["until "+h.name+" connects"], time.Since(died))
				h.conn.Close()
			}
		}
		select {
		case at := <-ended:
			took["until an attached client's stream ends"] = append(took["until an attached client's stream ends"], at.Sub(died))
		case <-time.After(lab.Patience):
			t.Error("an attached client is not told that its stream ended")
		}
	}
	time.Sleep(300 * time.Millisecond)
	v.Docker("kill", "printer")
	v.Until(20*time.Second, "it ended", func() bool { return v.Docker("inspect", "-f", "{{.State.Running}}", "printer") == "false" })
	logs := v.DockerCommand("logs", "printer")
	out, err := logs.Output()
	if err != nil {
		t.Fatal(err)
	}
	lost, again, broken, next := 0, 0, 0, 0
	for l := range strings.Lines(string(out)) {
		n, err := strconv.Atoi(strings.TrimSpace(l))
		switch {
		case err != nil:
			broken++
			continue
		case n > next:
			lost += n - next
		case n < next:
			again++
		}
		next = n + 1
	}
	for what, d := range took {
		slices.Sort(d)
		t.Logf("%s: %v, at most %v", what, d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond))
	}
	t.Logf("of %d lines in %d deaths, %d were lost, %d written twice, %d broken", next, rounds, lost, again, broken)
	// A pipe holds 64 KiB; more than what one read took cannot be lost in one death.
	if most := rounds * 64 << 10 / 2; lost+again+broken > most {
		t.Errorf("%d lines are lost, %d twice, %d broken", lost, again, broken)
	}
}
