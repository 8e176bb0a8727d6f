package flows

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/diagnose/flows"
	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestDrops: every rule that drops tells it under its name, with the right ends.
func TestDrops(t *testing.T) {
	d := daemontest.Shared(t)
	for _, n := range [][]string{{"green"}, {"vault", "--internal"}, {"apart", "-o", "com.docker.network.bridge.enable_icc=false"}} {
		d.Docker(append(append([]string{"network", "create"}, n[1:]...), n[0])...)
	}
	web := serve(t, d, "web", "-p", "8080:80")
	serve(t, d, "tree", "--network", "green")
	safe := serve(t, d, "safe", "--network", "vault")
	one := serve(t, d, "one", "--network", "apart")
	serve(t, d, "two", "--network", "apart")
	webAddr, treeAddr, twoAddr := address(d, "web", "bridge"), address(d, "tree", "green"), address(d, "two", "apart")

	d.Machine.Run("ip", "route", "add", "172.16.0.0/12", "via", daemontest.HostAddr)
	// A host that did not forward before does not for others: here from the wire to the wire.
	d.Machine.Run("ip", "route", "add", "10.99.0.0/16", "via", daemontest.HostAddr)
	d.Host.Run("ip", "route", "add", "10.99.0.0/16", "via", daemontest.MachineAddr)
	t.Cleanup(func() {
		d.Machine.Run("ip", "route", "del", "172.16.0.0/12")
		d.Machine.Run("ip", "route", "del", "10.99.0.0/16")
		d.Host.Run("ip", "route", "del", "10.99.0.0/16")
	})
	gateway := func(network string) string {
		return d.Docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network)
	}
	must(t, safe, "ip", "route", "add", "default", "via", gateway("vault"))
	must(t, web, "ip", "route", "add", "127.9.0.0/16", "via", gateway("bridge"))

	// --follow tells them as they come.
	follow := linkspan(t, d, "drops", "--follow", "--json")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	live := make(chan flows.Drop, 4096)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			var drop flows.Drop
			if json.Unmarshal(s.Bytes(), &drop) == nil {
				live <- drop
			}
		}
		io.Copy(io.Discard, out)
		close(live)
	}()

	cases := []struct {
		rule, ns, target string
		from, to, owner  string
		of               string // by whose name it is found
		kind             string // of the other end
	}{
		{"unpublished", d.Machine.NS, "tcp/" + webAddr + ":80", "", "web", "network bridge", "web", flows.KindOutside},
		{"isolated", web, "tcp/" + treeAddr + ":80", "web", "tree", "network green", "green", ""},
		{"icc-off", one, "tcp/" + twoAddr + ":80", "one", "two", "network apart", "two", ""},
		{"internal", safe, "tcp/" + daemontest.MachineAddr + ":80", "safe", "", "network vault", "safe", flows.KindOutside},
		{"internal-host", safe, "tcp/" + daemontest.HostAddr + ":80", "safe", "", "network vault", "vault", flows.KindHost},
		{"loopback", web, "udp/127.9.0.1:80", "web", "", "network bridge", "web", flows.KindHost},
		{"not-forwarded", d.Machine.NS, "udp/10.99.1.1:80", "", "", "host", "", flows.KindOutside},
	}
	// Those of a mesh need a second host: dataplane/linux tries them on the wire.
	mesh := []string{"not-a-peer", "plain-text"}
	if len(cases)+len(mesh) != len(dataplane.DropRules()) {
		t.Errorf("%d rules drop, %d are tried, %v elsewhere", len(dataplane.DropRules()), len(cases), mesh)
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			var got flows.Drop
			d.For(t).Until(15*time.Second, "the drop is told", func() bool {
				if dial(t, c.ns, c.target) {
					t.Fatalf("%s was reached", c.target)
				}
				args := []string{"drops", "--json", "--rule", c.rule}
				if c.of != "" {
					args = append(args, c.of)
				}
				r := d.Linkspan(args...)
				if all := jsonLines[flows.Drop](t, r.Stdout); len(all) > 0 {
					got = all[len(all)-1]
				}
				if (got.Rule != "") != (r.Code == 2) {
					t.Errorf("exit code %d", r.Code)
				}
				return got.Rule != ""
			})
			proto, _, _ := strings.Cut(c.target, "/")
			if got.Rule != c.rule || got.From.Container != c.from || got.To.Container != c.to || got.Owner != c.owner || got.Proto != proto || got.To.Port != 80 || got.Why == "" {
				t.Errorf("told was %+v", got)
			}
			other := got.To
			if c.to != "" {
				other = got.From
			}
			if c.kind != "" && other.Kind != c.kind {
				t.Errorf("the other end is %+v, want %s", other, c.kind)
			}
			if time.Since(got.Time).Abs() > 10*time.Minute {
				t.Errorf("it was at %v", got.Time)
			}
			// Who follows may have begun after the first.
			for deadline, again := time.After(lab.Patience), time.NewTicker(time.Second); ; {
				select {
				case l, ok := <-live:
					if ok && l.Rule != c.rule {
						continue
					}
					if !ok {
						t.Error("what followed ended")
					}
				case <-again.C:
					dial(t, c.ns, c.target)
					continue
				case <-deadline:
					t.Error("it was not followed")
				}
				again.Stop()
				break
			}
		})
	}
	_ = follow.Process.Kill()
	_ = follow.Wait()

	// People's tools read the other group, beside the daemon.
	if r := d.Linkspan("drops", "--since", "1h"); r.Code != 2 || !strings.Contains(r.Stdout, "isolated: the two are on different networks") {
		t.Errorf("%+v", r)
	}
	if r := d.Linkspan("drops", "wab"); r.Code != 1 || !strings.Contains(r.Stderr, "did you mean web") {
		t.Errorf("%+v", r)
	}
	if r := d.Linkspan("drops", "--since", "yesterday"); r.Code != 1 || !strings.Contains(r.Stderr, "10m") {
		t.Errorf("%+v", r)
	}
	if r := d.Linkspan("drops", "--rule", "unpublished", "tree"); r.Code != 0 || !strings.Contains(r.Stdout, "no rule of Linkspan has dropped such a packet") {
		t.Errorf("%+v", r)
	}

	// The page is flushed, and put back: what is dropped afterwards is told as before.
	d.Host.Run("nft", "flush", "ruleset")
	d.Linkspan("reconcile")
	before := time.Now().UTC().Format(time.RFC3339Nano)
	d.Until(15*time.Second, "drops of the new page are told", func() bool {
		dial(t, d.Machine.NS, "tcp/"+webAddr+":80")
		return d.Linkspan("drops", "--json", "--rule", "unpublished", "--since", before).Code == 2
	})
}
