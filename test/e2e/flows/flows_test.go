package flows

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"linkspan/diagnose/flows"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestFlows: connections are shown by name, with the port and the translation.
func TestFlows(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("network", "create", "blue")
	serve(t, d, "shop", "-p", "8080:80")
	serve(t, d, "left", "--network", "blue")
	right := serve(t, d, "right", "--network", "blue")
	var conns []net.Conn
	hold := func(ns, addr string) {
		var c net.Conn
		dialIn(t, ns, addr, &c)
		conns = append(conns, c)
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	ln := d.Machine.Listen("tcp", daemontest.MachineAddr+":7070")
	t.Cleanup(func() { ln.Close() })

	follow := linkspan(t, d, "flows", "--follow", "--json", "shop")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follow.Process.Kill(); _ = follow.Wait() })
	live := make(chan flows.Flow, 4096)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			var f flows.Flow
			if json.Unmarshal(s.Bytes(), &f) == nil {
				live <- f
			}
		}
	}()

	hold(d.Machine.NS, daemontest.HostAddr+":8080")
	hold(right, daemontest.MachineAddr+":7070")
	hold(right, address(d, "left", "blue")+":80")
	find := func(all []flows.Flow, from, to string) (flows.Flow, bool) {
		for _, f := range all {
			name := func(e flows.End) string {
				if e.Container != "" {
					return e.Container
				}
				return e.Addr.String()
			}
			if name(f.From) == from && name(f.To) == to && f.Proto == "tcp" && f.State == "ESTABLISHED" {
				return f, true
			}
		}
		return flows.Flow{}, false
	}
	ask := func(args ...string) flows.Table {
		r := d.Linkspan(append([]string{"flows", "--json"}, args...)...)
		var table flows.Table
		if err := json.Unmarshal([]byte(r.Stdout), &table); err != nil || r.Code != 0 {
			t.Fatalf("%v: %+v", err, r)
		}
		return table
	}
	for _, c := range []struct {
		of, from, to string
		right        func(flows.Flow) bool
	}{
		{"shop", daemontest.MachineAddr, "shop", func(f flows.Flow) bool {
			return f.Dialled.String() == daemontest.HostAddr+":8080" && f.Published && f.To.Port == 80 && f.To.Network == "bridge" && f.Verdict == "accepted"
		}},
		{"right", "right", daemontest.MachineAddr, func(f flows.Flow) bool {
			return f.As.Addr().String() == daemontest.HostAddr && !f.Dialled.IsValid() && f.To.Port == 7070
		}},
		// Within one network: the host does not see it, the containers do.
		{"blue", "right", "left", func(f flows.Flow) bool {
			return !f.As.IsValid() && !f.Dialled.IsValid() && f.Seen != "host"
		}},
	} {
		var f flows.Flow
		// The last packet of a connection's beginning may be behind who began it.
		d.Until(lab.Patience, fmt.Sprintf("the flow of %s from %s to %s is shown", c.of, c.from, c.to), func() (ok bool) {
			f, ok = find(ask(c.of).Flows, c.from, c.to)
			return ok
		})
		if !c.right(f) {
			t.Errorf("%s: %+v", c.of, f)
		}
		if n := len(filter(ask(c.of).Flows, func(g flows.Flow) bool { return g.From == f.From && g.To == f.To })); n != 1 {
			t.Errorf("%s: %d times", c.of, n)
		}
	}
	if _, ok := find(ask("shop").Flows, "right", "left"); ok {
		t.Error("another's flow")
	}
	if r := d.Linkspan("flows"); r.Code != 0 || !strings.Contains(r.Stdout, "published "+daemontest.HostAddr+":8080") || !strings.Contains(r.Stdout, "nf_conntrack_acct=1") {
		t.Errorf("%+v", r)
	}
	if r := d.Linkspan("flows", "shpo"); r.Code != 1 || !strings.Contains(r.Stderr, "did you mean shop") {
		t.Errorf("%+v", r)
	}
	d.Until(15*time.Second, "a new flow is followed", func() bool {
		hold(d.Machine.NS, daemontest.HostAddr+":8080") // the first may have come before it listened
		for {
			select {
			case f := <-live:
				if f.Event == "new" && f.To.Container == "shop" && f.Published {
					return true
				}
			case <-time.After(200 * time.Millisecond):
				return false
			}
		}
	})

	// With the kernel counting, bytes are shown.
	d.Host.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	t.Cleanup(func() { d.Host.Sysctl("net.netfilter.nf_conntrack_acct", "0") })
	hold(d.Machine.NS, daemontest.HostAddr+":8080")
	d.Until(lab.Patience, "packets and bytes are shown", func() bool {
		return len(filter(ask("shop").Flows, func(f flows.Flow) bool { return f.Counted && f.Sent.Packets > 0 && f.Back.Bytes > 0 })) > 0
	})
	d.Docker("stop", "-t", "1", "left")
	if r := d.Linkspan("flows", "left"); r.Code != 1 || !strings.Contains(r.Stderr, "linkspan start left") {
		t.Errorf("%+v", r)
	}
}

func filter(all []flows.Flow, keep func(flows.Flow) bool) (out []flows.Flow) {
	for _, f := range all {
		if keep(f) {
			out = append(out, f)
		}
	}
	return out
}
