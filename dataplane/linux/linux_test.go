package linux_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
	"linkspan/internal/testmain"
	"linkspan/netns"
	"linkspan/probe"
)

func TestMain(m *testing.M) {
	// They wait for the kernel more than they compute, which takes links and namespaces away
	// one after the other. What measures runs alone.
	testmain.AtOnce(6)
	os.Exit(m.Run())
}

// host is a kernel in a network namespace of the test's own.
type host struct {
	t    testing.TB
	ns   string // pin of the host's namespace
	pins string // folder of the sandboxes' pins
	cfg  linux.Config
	k    *linux.Kernel
}

// table is the name used throughout: each test has its own namespace.
const table = "lsptest"

func newHost(t testing.TB, adjust ...func(*linux.Config)) *host {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.Veth, probe.Bridge, probe.NFT, probe.NFTProgram)
	dir := t.TempDir()
	h := &host{t: t, ns: filepath.Join(dir, "hosts", "host"), pins: filepath.Join(dir, "pins")}
	t.Cleanup(func() {
		for _, d := range []string{"hosts", "pins"} {
			if err := netns.Dismantle(filepath.Join(dir, d)); err != nil {
				t.Errorf("leak: %v", err)
			}
		}
	})
	if err := netns.Create(h.ns); err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 3)
	rand.Read(id)
	inst, err := linux.Instance(hex.EncodeToString(id))
	if err != nil {
		t.Fatal(err)
	}
	h.cfg = linux.Config{Instance: inst, Table: table, PinDir: h.pins, Log: slog.New(slog.DiscardHandler)}
	for _, f := range adjust {
		f(&h.cfg)
	}
	h.k = h.open()
	return h
}

// open makes one more kernel of the same instance, as a restarted daemon would.
func (h *host) open() *linux.Kernel {
	h.t.Helper()
	var k *linux.Kernel
	if err := netns.Do(h.ns, func() (err error) { k, err = linux.New(h.cfg); return err }); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { k.Close() })
	return k
}

func (h *host) pin(name string) string { return filepath.Join(h.pins, name) }

func (h *host) apply(ops []dataplane.Op) {
	h.t.Helper()
	if err := h.k.Apply(context.Background(), ops); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) observe(sandboxes ...string) *dataplane.State {
	h.t.Helper()
	s, err := h.k.Observe(context.Background(), sandboxes)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// run executes a program in the host's namespace.
func (h *host) run(cmd ...string) string {
	h.t.Helper()
	return h.in(h.ns, cmd...)
}

func (h *host) in(ns string, cmd ...string) string {
	h.t.Helper()
	out, err := command(ns, cmd...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", strings.Join(cmd, " "), err, out)
	}
	return string(out)
}

func command(ns string, cmd ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + ns}, cmd...)...)
}

var (
	network  = dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: "n1", Name: "bridge"}, Reason: "the default network"}
	endpoint = dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: "e1", Name: "web"}, Reason: "web's place on bridge"}
)

// bridgeNet is a bridge network as a driver plans it.
func bridgeNet() []dataplane.Object {
	sub := netip.MustParsePrefix("172.17.0.0/16")
	return []dataplane.Object{
		dataplane.BasePage(table),
		dataplane.BridgeElement(network, table, "docker0"),
		dataplane.EgressElement(network, table, "docker0"),
		dataplane.ICCElement(network, table, "docker0"),
		dataplane.MasqueradeElement(network, table, sub),
		dataplane.Bridge{Meta: network, Name: "docker0", MAC: "02:42:0a:0b:0c:0d"},
		dataplane.Sysctl{Meta: network, Name: "net/ipv4/conf/docker0/route_localnet", Value: "1"},
		dataplane.Addr{Meta: network, Link: "docker0", Prefix: netip.MustParsePrefix("172.17.0.1/16")},
		dataplane.Addr{Meta: network, Link: "docker0", Prefix: netip.MustParsePrefix("fd00:17::1/64")},
		dataplane.Up{Meta: network, Link: "docker0"},
	}
}

// container is one endpoint on it with a published port.
func (h *host) container(name string, last byte) []dataplane.Object {
	ns, m := h.pin(name), endpoint
	m.Owner.ID, m.Owner.Name = name, name
	ip := netip.AddrFrom4([4]byte{172, 17, 0, last})
	veth := "veth" + name
	return []dataplane.Object{
		dataplane.Namespace{Meta: m, Path: ns},
		dataplane.Veth{Meta: m, Name: veth, Master: "docker0", PeerNS: ns, PeerName: "eth0", PeerMAC: "02:42:ac:11:00:" + hex.EncodeToString([]byte{last})},
		dataplane.Up{Meta: m, Link: veth},
		dataplane.Up{Meta: m, NS: ns, Link: "lo"},
		dataplane.Addr{Meta: m, NS: ns, Link: "eth0", Prefix: netip.PrefixFrom(ip, 16)},
		dataplane.Up{Meta: m, NS: ns, Link: "eth0"},
		dataplane.Route{Meta: m, NS: ns, Link: "eth0", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("172.17.0.1")},
		dataplane.EndpointElement(m, table, ip, "docker0"),
		dataplane.PublishElement(m, table, "tcp", netip.Addr{}, 8000+uint16(last), netip.AddrPortFrom(ip, 80)),
	}
}

// TestWhole: what was applied is observed as it was declared, by the process
// that made it and by the next; removing it leaves nothing.
func TestWhole(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	web := h.container("web", 2)
	want := dataplane.NewState(append(bridgeNet(), web...)...)
	h.apply(diff.Create(want.All()))

	// An ARP request that is lost while the port comes up is repeated after a second.
	h.in(h.pin("web"), "ping", "-c1", "-w5", "172.17.0.1")
	for _, k := range []*linux.Kernel{h.k, h.open()} {
		h.k = k
		have := h.observe(h.pin("web"))
		keys, err := k.ObserveKeys(context.Background(), want.All())
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]*dataplane.State{"Observe": have, "ObserveKeys": keys} {
			for _, o := range want.All() {
				if _, sys := o.(dataplane.Sysctl); sys && name == "Observe" {
					continue
				}
				got, ok := s.Get(o.Key())
				if !ok {
					t.Errorf("%s: not seen: %s", name, o.Key())
				} else if got.Spec() != o.Spec() {
					t.Errorf("%s: %s is %q, want %q", name, o.Key(), got.Spec(), o.Spec())
				}
			}
			for _, o := range s.All() {
				if _, ok := want.Get(o.Key()); !ok {
					t.Errorf("%s: not declared: %s %s", name, o.Key(), o.Spec())
				}
			}
		}
	}
	// Applied again, everything is taken as observed.
	h.apply(diff.Create(want.All()))

	h.apply(diff.Delete(want.All()))
	if err := h.k.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := h.observe(); s.Len() != 0 {
		t.Errorf("left behind:\n%s", dataplane.Text(s.All()))
	}
	if out := h.run("ip", "-o", "link"); strings.Count(out, "\n") != 1 || !strings.Contains(out, " lo:") {
		t.Errorf("links left behind:\n%s", out)
	}
	if out := h.run("nft", "list", "ruleset"); out != "" {
		t.Errorf("rules left behind:\n%s", out)
	}
}

// TestClosedTwice: what has the numbers of a closed kernel's sockets by then is left
// alone. It runs alone, so that the numbers are free.
func TestClosedTwice(t *testing.T) {
	h := newHost(t)
	if err := h.k.Close(); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for range 32 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := h.k.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := f.Stat(); err != nil {
			t.Error(err)
		}
	}
}
