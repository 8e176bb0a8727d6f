package linux_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
	"linkspan/probe"
)

// TestBridgeNFUsers: who may need the host-wide switches.
func TestBridgeNFUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHost(t, func(c *linux.Config) { c.SysctlDirs = []string{dir, filepath.Join(dir, "sysctl.conf")} })
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	users := func() string {
		t.Helper()
		u, err := h.k.BridgeNFUsers(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(u, ", ")
	}
	if got := users(); got != "" {
		t.Errorf("nobody but us: %s", got)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("10-off.conf", "# net.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-iptables = 0\n")
	if got := users(); got != "" {
		t.Errorf("a setting that is off, and a comment: %s", got)
	}
	write("99-k8s.conf", "net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-ip6tables\t= 1\n")
	if got := users(); got != filepath.Join(dir, "99-k8s.conf") {
		t.Errorf("a setting: %s", got)
	}
	os.Remove(filepath.Join(dir, "99-k8s.conf"))
	write("sysctl.conf", "-net/bridge/bridge-nf-call-iptables=1")
	if got := users(); !strings.Contains(got, "sysctl.conf") {
		t.Errorf("a setting with slashes: %s", got)
	}
	os.Remove(filepath.Join(dir, "sysctl.conf"))
	h.run("ip", "link", "add", "virbr0", "type", "bridge")
	h.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	if got := users(); got != "bridge virbr0" {
		t.Errorf("another bridge: %s", got)
	}
}

// TestBridgeNF: the switch is read as it is in the kernel's own namespace, whatever
// thread asks, and follows changes.
func TestBridgeNF(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.BridgeNetfilter)
	h := newHost(t)
	for _, on := range []bool{true, false, true} {
		h.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+map[bool]string{true: "1", false: "0"}[on])
		if got := h.k.BridgeNF(); got != on {
			t.Errorf("it is %v, seen %v", on, got)
		}
	}
}

// BenchmarkBridgeNF is what each look at the switch costs.
func BenchmarkBridgeNF(b *testing.B) {
	h := newHost(b)
	for b.Loop() {
		h.k.BridgeNF()
	}
}

// TestNFCall: on a bridge with the flag, packets between its ports pass the page
// although the host-wide switch is off; without it they do not.
func TestNFCall(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.BridgeNetfilter)
	h := newHost(t)
	objs := bridgeNet()
	for _, name := range []string{"a", "b"} {
		objs = append(objs, h.container(name, name[0]-'a'+2)...)
	}
	h.apply(diff.Create(objs))
	h.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	icc := dataplane.ICCElement(network, table, "docker0")
	h.apply(op(dataplane.Delete, icc))
	// An ARP request that is lost while a port comes up is repeated after a second. Once
	// it was answered, what does not come within a second was dropped.
	reached := func(within string) bool {
		return command(h.pin("a"), "ping", "-c1", "-w"+within, "172.17.0.3").Run() == nil
	}
	if !reached("60") {
		t.Fatal("without the flag, switched packets are judged")
	}
	for _, on := range []bool{true, false, true} {
		h.apply(op(dataplane.Change, dataplane.Bridge{Meta: network, Name: "docker0", MAC: "02:42:0a:0b:0c:0d", NFCall: on}))
		if reached(map[bool]string{true: "1", false: "60"}[on]) == on {
			t.Errorf("with the flag %v, reached: %v", on, !on)
		}
	}
	hole := dataplane.HoleElement(endpoint, table, netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("172.17.0.3"), "tcp", 53)
	h.apply(op(dataplane.Create, hole))
	echo(t, h.pin("b"), "b", "0.0.0.0:53")
	echo(t, h.pin("a"), "a", "0.0.0.0:53")
	if got := question(t, h.pin("a"), "tcp4", "172.17.0.3:53", "q"); got != "b q" {
		t.Errorf("through the hole: %q", got)
	}
	for what, got := range map[string]string{
		"the other way": questionWithin(t, time.Second, h.pin("b"), "tcp4", "172.17.0.2:53", "q"),
		"by UDP":        questionWithin(t, time.Second, h.pin("a"), "udp4", "172.17.0.3:53", "q"),
	} {
		if !strings.Contains(got, "timeout") {
			t.Errorf("%s: %q", what, got)
		}
	}
}
