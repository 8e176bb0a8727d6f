package linux_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
	"linkspan/probe"
)

// box is a sandbox with nothing but loopback and, when asked for, the redirect.
func (h *host) box(name string, more ...dataplane.Object) string {
	h.t.Helper()
	h.apply(diff.Create(append([]dataplane.Object{dataplane.Namespace{Meta: endpoint, Path: h.pin(name)}}, more...)))
	return h.pin(name)
}

// echo serves UDP and TCP at addr in a namespace: it answers name and what it was
// asked.
func echo(t *testing.T, ns, name, addr string) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	err := netns.Do(ns, func() (err error) {
		if udp, err = net.ListenPacket("udp4", addr); err == nil {
			tcp, err = net.Listen("tcp4", addr)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(append([]byte(name+" "), b[:n]...), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				c.Write(append([]byte(name+" "), b...))
			}()
		}
	}()
}

// question sends what and returns the answer; the socket is connected, so that an answer
// from another port is none.
func question(t *testing.T, ns, proto, addr, what string) string {
	t.Helper()
	return questionWithin(t, patience, ns, proto, addr, what)
}

func questionWithin(t *testing.T, within time.Duration, ns, proto, addr, what string) string {
	t.Helper()
	var c net.Conn
	if err := netns.Do(ns, func() (err error) { c, err = net.DialTimeout(proto, addr, within); return err }); err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(c, what); err != nil {
		return err.Error()
	}
	if tc, ok := c.(*net.TCPConn); ok {
		tc.CloseWrite()
		b, err := io.ReadAll(c)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

// TestRedirect: questions to port 53 of the resolver's address reach the resolver,
// by UDP and TCP, small and large; a server on 0.0.0.0:53 in the same sandbox is
// not disturbed; and nothing is tracked.
func TestRedirect(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := dataplane.Redirect{Meta: endpoint}
	r.NS = h.pin("web")
	ns := h.box("web", r)
	echo(t, ns, "resolver", netip.AddrPortFrom(dataplane.ResolverAddr, dataplane.ResolverBound).String())
	echo(t, ns, "server", "0.0.0.0:53")

	large := strings.Repeat("x", 40000)
	for _, c := range []struct{ to, who string }{{"127.0.0.11:53", "resolver"}, {"127.0.0.1:53", "server"}} {
		for _, proto := range []string{"udp4", "tcp4"} {
			for _, what := range []string{"q", large} {
				got := question(t, ns, proto, c.to, what)
				if want := c.who + " " + what; got != want {
					t.Errorf("%s %s, %d bytes: %.60q (%d bytes)", proto, c.to, len(what), got, len(got))
				}
			}
		}
	}
	// The kernel's connection tracking has no hook in this namespace: it saw nothing.
	if out := h.in(ns, "sh", "-c", "cat /proc/sys/net/netfilter/nf_conntrack_count"); strings.TrimSpace(out) != "0" {
		t.Errorf("connections are tracked: %s", out)
	}
	if out := h.in(ns, "nft", "list", "ruleset"); !strings.Contains(out, `udp dport 53 udp dport set 11053 comment "linkspan resolver 1"`) ||
		!strings.Contains(out, "tcp sport 11053 tcp sport set 53") || strings.Contains(out, "nat") {
		t.Errorf("rules:\n%s", out)
	}
}

// TestRedirectShown: what a person is told to type makes the same table.
func TestRedirectShown(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := dataplane.Redirect{Meta: endpoint, NS: h.pin("ours")}
	ours, theirs := h.box("ours", r), h.box("theirs")
	r.NS = theirs
	create, remove := r.Commands()
	if out, err := exec.Command("sh", "-c", create[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, create[0])
	}
	made := strings.ReplaceAll(h.in(ours, "nft", "list", "ruleset"), ` comment "linkspan resolver 1"`, "")
	if typed := h.in(theirs, "nft", "list", "ruleset"); typed != made {
		t.Errorf("typed:\n%s\nmade:\n%s", typed, made)
	}
	if out, err := exec.Command("sh", "-c", remove[0]).CombinedOutput(); err != nil || h.in(theirs, "nft", "list", "ruleset") != "" {
		t.Errorf("%s: %v %s", remove[0], err, out)
	}
}

// TestRedirectTracked: where the container's own rules track connections and drop
// what belongs to none, the resolver still answers.
func TestRedirectTracked(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.Conntrack)
	h := newHost(t)
	ns := h.box("web", dataplane.Redirect{Meta: endpoint, NS: h.pin("web")})
	echo(t, ns, "resolver", "127.0.0.11:11053")
	cmd := command(ns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table ip mine {
	chain out { type filter hook output priority 0; policy drop; ct state established accept; udp dport 53 accept; tcp dport 53 accept; }
	chain in { type filter hook input priority 0; policy drop; ct state established,new accept; }
}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, proto := range []string{"udp4", "tcp4"} {
		if got := question(t, ns, proto, "127.0.0.11:53", "q"); got != "resolver q" {
			t.Errorf("%s: %q", proto, got)
		}
	}
}

// TestRedirectLife: it comes and goes in a sandbox that lives, is seen as it is, and
// what someone changed is noticed and put right when that is asked for.
func TestRedirectLife(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ns := h.box("web")
	r := dataplane.Redirect{Meta: endpoint, NS: ns}
	there := func() bool {
		t.Helper()
		keys, err := h.k.ObserveKeys(t.Context(), []dataplane.Object{r})
		if err != nil {
			t.Fatal(err)
		}
		_, byKey := keys.Get(r.Key())
		if _, all := h.observe(ns).Get(r.Key()); all != byKey {
			t.Fatalf("Observe says %v, ObserveKeys %v", all, byKey)
		}
		return byKey
	}
	if there() {
		t.Fatal("seen before it was made")
	}
	h.apply(op(dataplane.Create, r))
	h.apply(op(dataplane.Create, r)) // as wanted
	if !there() {
		t.Fatal("not seen")
	}
	for _, meddle := range []string{"add rule ip linkspan_resolver ask accept", "flush chain ip linkspan_resolver answer",
		"delete table ip linkspan_resolver", "flush ruleset"} {
		h.in(ns, "nft", meddle)
		if there() {
			t.Errorf("%s: not noticed", meddle)
		}
		want := dataplane.NewState(dataplane.Namespace{Path: ns}, r)
		if p := diff.Compute(want, h.observe(ns)); len(p.Ops) != 0 || len(p.Drift) != 1 {
			t.Errorf("%s: a container's own change is told, not undone: %v, %v", meddle, p.Ops, p.Drift)
		}
		h.apply(diff.Compute(want, h.observe(ns), ns).Ops)
		if !there() {
			t.Errorf("%s: not put right", meddle)
		}
	}
	h.apply(op(dataplane.Delete, r))
	h.apply(op(dataplane.Delete, r))
	if there() {
		t.Error("still there")
	}
	if out := h.in(ns, "nft", "list", "ruleset"); out != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

// TestRedirectCost measures the making; the target is 0.3 ms.
func TestRedirectCost(t *testing.T) {
	h := newHost(t)
	var took []time.Duration
	for i := range 40 {
		ns := h.box(fmt.Sprint("c", i))
		start := time.Now()
		h.apply(op(dataplane.Create, dataplane.Redirect{Meta: endpoint, NS: ns}))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("median %s, slowest %s", took[len(took)/2], took[len(took)-1])
	if took[0] > 3*time.Millisecond { // the fastest, and ten times, for a loaded machine
		t.Errorf("a redirect takes %s", took[0])
	}
}
