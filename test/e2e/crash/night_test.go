package crash

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/netns"
)

// stream is something that goes on all night between two containers, every period;
// each time must be answered within patience.
type stream struct {
	name     string
	period   time.Duration
	once     func(n int) error
	times    atomic.Int64
	longest  atomic.Int64
	failures []string
}

func (s *stream) run(ctx context.Context) {
	tick := time.NewTicker(s.period)
	defer tick.Stop()
	for n := 0; ; n++ {
		before := time.Now()
		if err := s.once(n); err != nil {
			s.failures = append(s.failures, fmt.Sprintf("%s, after %v: %v", before.Format("05.000"), time.Since(before).Round(time.Millisecond), err))
		}
		s.times.Add(1)
		if took := int64(time.Since(before)); took > s.longest.Load() {
			s.longest.Store(took)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dialIn connects from inside a container.
func (v *victim) dialIn(ns, network, addr string) net.Conn {
	v.t.Helper()
	var c net.Conn
	err := netns.Do(ns, func() (err error) {
		c, err = net.DialTimeout(network, addr, lab.Patience)
		return err
	})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

// patience is how long anything may take before it counts as lost: long, since two cores
// run much else. A question for a name has less: it must not outlast the resolver's own
// second try, after 5 s (resolv.conf(5)), which would hide what was lost.
const (
	patience = 20 * time.Second
	answered = 4500 * time.Millisecond
)

// datagrams have an answer each, with what was sent or with who sent it.
func datagrams(c net.Conn) func(n int) error {
	return func(n int) error {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(c, "packet %d", n); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1500))
		return err
	}
}

// conversation goes on over one connection to netprobe; each line must come back.
func (v *victim) conversation(c net.Conn) func(n int) error {
	v.t.Helper()
	in := bufio.NewReader(c)
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	if _, err := in.ReadString('\n'); err != nil {
		v.t.Fatal(err)
	}
	return func(n int) error {
		_ = c.SetDeadline(time.Now().Add(2 * patience))
		say := fmt.Sprintf("line %d\n", n)
		if _, err := c.Write([]byte(say)); err != nil {
			return err
		}
		got, err := in.ReadString('\n')
		if err == nil && got != say {
			err = fmt.Errorf("said %q, heard %q", say, got)
		}
		return err
	}
}

// outside serves an echo on the other machine, and has a container talk to it: through
// masquerading, so that the machine sees the host.
func (v *victim) outside(ns string) func(n int) error {
	v.t.Helper()
	l := v.Machine.Listen("tcp", daemontest.MachineAddr+":0")
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, c.RemoteAddr())
		_, _ = io.Copy(c, c)
	}()
	c := v.dialIn(ns, "tcp", l.Addr().String())
	_ = c.SetDeadline(time.Now().Add(lab.Patience))
	hello := make([]byte, len(daemontest.HostAddr)) // one read short of the line
	if _, err := io.ReadFull(c, hello); err != nil || string(hello) != daemontest.HostAddr {
		v.t.Fatalf("the other machine sees %q, %v", hello, err)
	}
	return v.conversation(c)
}

// asking looks a name up; Go's resolver waits longer than patience before it asks
// again, which would hide what was lost.
func asking(ns, name, want string, patience time.Duration) func(n int) error {
	return func(int) error {
		r := resolver(ns)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		addrs, err := r.LookupNetIP(ctx, "ip4", name+".")
		if err == nil && (len(addrs) != 1 || addrs[0].Unmap().String() != want) {
			err = fmt.Errorf("%s is %v, not %s", name, addrs, want)
		}
		return err
	}
}

// streams start between the containers athome and beside, on the network home.
func (v *victim) streams(ctx context.Context, period time.Duration) (all []*stream, wait func()) {
	v.t.Helper()
	ns := v.where("athome")
	all = []*stream{
		{name: "UDP", once: datagrams(v.dialIn(ns, "udp", "172.30.0.11:9000"))},
		{name: "UDP by its published port", period: time.Second, once: datagrams(v.fromMachine("udp", 7100))},
		{name: "UDP by its published port, ten times as fast", period: 100 * time.Millisecond, once: datagrams(v.fromMachine("udp", 7100))},
		{name: "TCP", once: v.conversation(v.dialIn(ns, "tcp", "172.30.0.11:9000"))},
		{name: "a steady stream through a published port", period: 10 * time.Millisecond, once: v.conversation(v.fromMachine("tcp", 7100))},
		{name: "TCP to another machine", once: v.outside(ns)},
		{name: "DNS", once: asking(ns, "beside", "172.30.0.11", answered)},
		{name: "DNS of an alias, once a second", period: time.Second, once: asking(ns, "friend", "172.30.0.11", answered)},
		{name: "a new connection", once: func(int) error { return dial(ns, "172.30.0.11:9000") }},
		{name: "a new connection to a published port", once: func(int) error {
			c, err := v.Machine.Dial("tcp", "192.168.99.31:7100", patience)
			if err == nil {
				err = c.Close()
			}
			return err
		}},
	}
	var wg sync.WaitGroup
	for _, s := range all {
		s.period = cmp.Or(s.period, period)
		wg.Go(func() { s.run(ctx) })
	}
	return all, wg.Wait
}

func (v *victim) fromMachine(network string, port int) net.Conn {
	v.t.Helper()
	c, err := v.Machine.Dial(network, fmt.Sprintf("192.168.99.31:%d", port), lab.Patience)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

func (v *victim) home() {
	v.t.Helper()
	v.Docker("network", "create", "--subnet", "172.30.0.0/24", "home")
	v.Docker("network", "create", "--subnet", "172.30.1.0/24", "away")
	v.Docker("run", "-d", "--name", "athome", "--network", "home", "--ip", "172.30.0.10", "netprobe")
	v.Docker("run", "-d", "--name", "beside", "--network", "home", "--ip", "172.30.0.11", "--network-alias", "friend", "-p", "7100:9000", "-p", "7100:9000/udp",
		"netprobe", "serve", "tcp/:9000", "udp/:9000")
	v.Until(10*time.Second, "it listens", func() bool { return strings.Count(v.TryDocker("logs", "beside").Stdout, "listening ") == 2 })
}

// whole: what a container is declared on is what its sandbox has.
func (v *victim) whole(name string) {
	v.t.Helper()
	declared := strings.Fields(v.Docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", name))
	out, err := exec.Command("nsenter", "--net="+v.where(name), "ip", "-o", "-4", "addr", "show", "scope", "global").CombinedOutput()
	if err != nil {
		v.t.Fatalf("%v: %s", err, out)
	}
	var have []string
	for l := range strings.Lines(string(out)) {
		if m := inetLine.FindStringSubmatch(l); m != nil {
			have = append(have, m[2])
		}
	}
	slices.Sort(declared)
	slices.Sort(have)
	if !slices.Equal(declared, have) {
		v.t.Errorf("%s is declared to have %v, and has %v", name, declared, have)
	}
}

// TestKeeperDiesAsked: the keeper dies while containers ask for names and connect to
// published ports. All of it is answered again; what the keeper has no
// part in does not notice.
func TestKeeperDiesAsked(t *testing.T) {
	t.Parallel()
	v := start(t)
	lab.LeakCheck(t, v.Watches()...)
	t.Cleanup(v.RemoveAll)
	v.home()
	for range 3 {
		ctx, stop := context.WithCancel(t.Context())
		all, wait := v.streams(ctx, 50*time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		old := v.KillKeeper()
		died := time.Now()
		// A question that met nobody is not answered later; the next one shall be.
		const short = 200 * time.Millisecond
		ns := v.where("athome")
		for {
			err := errors.Join(asking(ns, "beside", "172.30.0.11", short)(0), asking(ns, "friend", "172.30.0.11", short)(0), dial(ns, "172.30.0.11:9000"))
			if err == nil && v.KeeperPID() != old {
				break
			}
			if time.Since(died) > lab.Patience {
				t.Fatalf("names are not answered: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("names were answered again after %v", time.Since(died).Round(time.Millisecond))
		time.Sleep(500 * time.Millisecond)
		stop()
		wait()
		for _, s := range all {
			if len(s.failures) > 0 && !strings.HasPrefix(s.name, "DNS") {
				t.Errorf("%s failed %d of %d times:\n%s", s.name, len(s.failures), s.times.Load(), strings.Join(s.failures, "\n"))
			}
		}
		// Loopback's forwarder is the keeper's own.
		v.Until(time.Second, "the port on loopback answers", func() bool {
			return v.Host.Do(func() error {
				c, err := net.DialTimeout("tcp", "127.0.0.1:7100", time.Second)
				if err == nil {
					err = c.Close()
				}
				return err
			}) == nil
		})
	}
}
