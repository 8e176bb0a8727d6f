package linux_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
	"linkspan/probe"
)

// wire joins a second machine to the host: 10.0.0.1 here, 10.0.0.2 there.
func (h *host) wire() (far string) {
	h.t.Helper()
	far = h.ns + "far"
	if err := netns.Create(far); err != nil {
		h.t.Fatal(err)
	}
	h.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "far")
	h.run("ip", "link", "set", "far", "netns", far)
	h.run("ip", "addr", "add", "10.0.0.1/24", "dev", "wire")
	h.run("ip", "link", "set", "wire", "up")
	h.in(far, "ip", "addr", "add", "10.0.0.2/24", "dev", "far")
	h.in(far, "ip", "link", "set", "far", "up")
	h.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	return far
}

// echo answers every datagram with the name, in the namespace.
func (h *host) echo(ns, name string, port int) {
	h.t.Helper()
	c := h.udp(ns, fmt.Sprintf(":%d", port))
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo([]byte(name), from)
		}
	}()
}

func (h *host) udp(ns, addr string) net.PacketConn {
	h.t.Helper()
	var c net.PacketConn
	if err := netns.Do(ns, func() (err error) { c, err = net.ListenPacket("udp4", addr); return err }); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a datagram and returns the answer's text, "" when none comes. It
// asks again, on the same flow, when an answer is expected: the first packets on a
// new wire may be lost to ARP.
func ask(c net.PacketConn, to string, expect string) (got string) {
	for try := 0; got == "" && (try == 0 || expect != "" && try < 300); try++ {
		got = askOnce(c, to)
	}
	return got
}

func askOnce(c net.PacketConn, to string) string {
	a, _ := net.ResolveUDPAddr("udp4", to)
	c.WriteTo([]byte("who"), a)
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	b := make([]byte, 100)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

func (h *host) settle() {
	h.t.Helper()
	if err := h.k.Settle(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// TestStaleFlows: a UDP sender that never stops reaches the new container after
// the port moved, by each way a port can move; other flows of the same numbers are
// left alone.
func TestStaleFlows(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.Conntrack)
	h := newHost(t)
	far := h.wire()
	a, b := h.container("a", 2), h.container("b", 3)
	h.apply(diff.Create(append(append(bridgeNet(), a...), b...)))
	h.echo(h.pin("a"), "a", 53)
	h.echo(h.pin("b"), "b", 53)
	h.echo(far, "far", 5353)
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerPort, ID: "p"}}
	port := func(ip string) dataplane.Element {
		return dataplane.PublishElement(m, table, "udp", netip.Addr{}, 5353, netip.MustParseAddrPort(ip+":53"))
	}
	exact := func(ip string) dataplane.Element {
		return dataplane.PublishElement(m, table, "udp", netip.MustParseAddr("10.0.0.1"), 5353, netip.MustParseAddrPort(ip+":53"))
	}
	sender := h.udp(far, "10.0.0.2:4000")
	// A container's own flow to the same port of another machine.
	own := h.udp(h.pin("b"), "172.17.0.3:4001")
	if got := ask(own, "10.0.0.2:5353", "far"); got != "far" {
		t.Fatalf("container to the far machine: %q", got)
	}
	who := func(when, want string) {
		t.Helper()
		h.settle()
		if got := ask(sender, "10.0.0.1:5353", want); got != want {
			t.Errorf("%s: answered by %q, want %q\n%s", when, got, want, h.flows())
		}
	}
	who("before it is published", "")
	h.apply(op(dataplane.Create, port("172.17.0.2")))
	who("published over a stale entry", "a")
	h.apply(op(dataplane.Change, port("172.17.0.3")))
	who("changed", "b")
	h.apply(op(dataplane.Delete, port("172.17.0.3")))
	who("deleted", "")
	h.apply(op(dataplane.Create, port("172.17.0.2")))
	who("published again", "a")
	h.apply(op(dataplane.Delete, port("172.17.0.2")))
	h.apply(op(dataplane.Create, port("172.17.0.3")))
	who("moved", "b")
	h.apply(op(dataplane.Delete, port("172.17.0.3")))
	h.apply(op(dataplane.Create, exact("172.17.0.2")))
	who("moved to one address", "a")
	// Gone and back before the background came to it: the flow lives on.
	before := h.flows()
	h.apply(op(dataplane.Delete, exact("172.17.0.2")))
	h.apply(op(dataplane.Create, exact("172.17.0.2")))
	h.settle()
	if after := h.flows(); !strings.Contains(after, "src=172.17.0.2") {
		t.Errorf("a flow of a port that came back was cut:\n%s\nbefore:\n%s", after, before)
	}
	if !strings.Contains(h.flows(), "src=172.17.0.3 dst=10.0.0.2 sport=4001 dport=5353") {
		t.Errorf("the container's own flow was cut:\n%s", h.flows())
	}
	// A new process that finds the element unwanted cuts its flows too.
	p := diff.Compute(dataplane.NewState(append(append(bridgeNet(), a...), b...)...), h.observe(h.pin("a"), h.pin("b")))
	h.apply(notSysctl(p.Ops))
	who("swept", "")
}

// TestStaleRanges: what TestStaleFlows says holds for a port inside a range; single
// ports that become a range of the same container keep their flows.
func TestStaleRanges(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.Conntrack)
	h := newHost(t)
	far := h.wire()
	a, b := h.container("a", 2), h.container("b", 3)
	h.apply(diff.Create(append(append(bridgeNet(), a...), b...)))
	h.echo(h.pin("a"), "a", 5353)
	h.echo(h.pin("b"), "b", 5353)
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerPort, ID: "p"}}
	span := func(first uint16, ip string) dataplane.Element {
		return dataplane.PublishRangeElement(m, table, "udp", first, first+99, netip.MustParseAddr(ip))
	}
	one := func(ip string) dataplane.Element {
		return dataplane.PublishElement(m, table, "udp", netip.Addr{}, 5353, netip.MustParseAddrPort(ip+":5353"))
	}
	sender := h.udp(far, "10.0.0.2:4000")
	who := func(when, want string) {
		t.Helper()
		h.settle()
		if got := ask(sender, "10.0.0.1:5353", want); got != want {
			t.Errorf("%s: answered by %q, want %q\n%s", when, got, want, h.flows())
		}
	}
	lives := func(when, addr string) {
		t.Helper()
		h.settle()
		if flows := h.flows(); !strings.Contains(flows, "src="+addr) {
			t.Errorf("%s: the flow was cut:\n%s", when, flows)
		}
	}
	who("before it is published", "")
	h.apply(op(dataplane.Create, span(5300, "172.17.0.2")))
	who("published over a stale entry", "a")
	h.apply(op(dataplane.Change, span(5300, "172.17.0.3")))
	who("changed", "b")
	h.apply(op(dataplane.Delete, span(5300, "172.17.0.3")))
	who("deleted", "")
	h.apply(op(dataplane.Create, span(5300, "172.17.0.2")))
	who("published again", "a")
	h.apply(op(dataplane.Delete, span(5300, "172.17.0.2")))
	h.apply(op(dataplane.Create, span(5353, "172.17.0.3")))
	who("moved to another range", "b")
	h.apply(op(dataplane.Delete, span(5353, "172.17.0.3")))
	h.apply(op(dataplane.Create, one("172.17.0.3")))
	lives("now a single port", "172.17.0.3")
	h.apply(op(dataplane.Create, span(5300, "172.17.0.3")))
	h.apply(op(dataplane.Delete, one("172.17.0.3")))
	lives("a range again", "172.17.0.3")
	who("a range again", "b")
	h.apply(op(dataplane.Delete, span(5300, "172.17.0.3")))
	h.apply(op(dataplane.Create, span(5400, "172.17.0.3")))
	who("not in the range", "")
}

// flows lists the host's conntrack entries.
func (h *host) flows() string {
	h.t.Helper()
	return h.run("cat", "/proc/net/nf_conntrack")
}
