package daemontest

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
)

// Seen is how the host is: links, addresses, routes, rules, nft, sockets, and what is
// pinned below the daemon's folder; processes are left out.
func (d *Daemon) Seen() string {
	d.t.Helper()
	var out []string
	for _, x := range append(d.Host.Watches(), lab.Mounts(d.Dir)) {
		if strings.HasSuffix(x.Name, "processes") {
			continue
		}
		lines, err := x.List()
		if err != nil {
			d.t.Fatalf("%s: %v", x.Name, err)
		}
		for _, l := range lines {
			out = append(out, x.Name+": "+l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// Still is how the host is when what was done to it before is over: the kernel clears
// away a namespace of a container that ended, and its links, when it finds the time, and
// the daemon deletes links behind the request that doomed them.
func (d *Daemon) Still() string {
	d.t.Helper()
	last := d.Seen()
	for deadline := time.Now().Add(lab.Patience); time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
		now := d.Seen()
		if now == last && !doomed.MatchString(now) {
			break
		}
		last = now
	}
	return last
}

// doomed links have such names until they are deleted (dataplane/linux).
var doomed = regexp.MustCompile(`(?m) links: lsd[0-9]+ `)

// Settled waits until the host is as it was. On a slow machine one look takes long: it
// is the number of looks that counts too.
func (d *Daemon) Settled(what, before string) {
	d.t.Helper()
	var now string
	deadline := time.Now().Add(lab.Patience)
	for looks := 1; ; looks++ {
		if now = d.Seen(); now == before {
			return
		}
		time.Sleep(20 * time.Millisecond)
		if looks >= 10 && time.Now().After(deadline) {
			d.t.Errorf("%s:\n%s", what, lab.Differ(before, now))
			return
		}
	}
}

// Reach is netprobe's answer on an address of the host, asked from a machine; "" if
// there is none.
func Reach(from *lab.Host, addr string) string {
	c, err := from.Dial("tcp", addr, 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

// Reached waits until a published port of netprobe answers the machine.
func (d *Daemon) Reached(port int) {
	d.t.Helper()
	d.Until(lab.Patience, fmt.Sprintf("port %d answers", port), func() bool {
		return strings.HasPrefix(Reach(d.Machine, fmt.Sprintf("%s:%d", HostAddr, port)), "src="+MachineAddr)
	})
}

// Talk is a connection that is to live on.
type Talk struct {
	c  net.Conn
	in *bufio.Reader
	n  int
}

// Talk opens one from the machine to netprobe's published port.
func (d *Daemon) Talk(port int) *Talk {
	d.t.Helper()
	d.Reached(port)
	c, err := d.Machine.Dial("tcp", fmt.Sprintf("%s:%d", HostAddr, port), lab.Patience)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	k := &Talk{c: c, in: bufio.NewReader(c)}
	if _, err := k.in.ReadString('\n'); err != nil {
		d.t.Fatal(err)
	}
	return k
}

// On says something and hears it.
func (k *Talk) On(t testing.TB) {
	t.Helper()
	k.n++
	_ = k.c.SetDeadline(time.Now().Add(lab.Patience))
	want := fmt.Sprintf("message %d\n", k.n)
	if _, err := k.c.Write([]byte(want)); err != nil {
		t.Fatalf("the connection broke: %v", err)
	}
	if got, err := k.in.ReadString('\n'); err != nil || got != want {
		t.Fatalf("the connection said %q, %v; want %q", got, err, want)
	}
}
