package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/ipam"
)

// The daemon's flags and the default bridge that they make.
func TestBridgeFlags(t *testing.T) {
	br0 := dataplane.HostLink{Bridge: true, Addrs: []netip.Prefix{pfx("10.211.55.1/24"), pfx("10.212.0.1/24"), pfx("2001:db8::1/64")}}
	ula := ipam.ULA("root").Prefix
	for _, c := range []struct {
		name   string
		bridge DefaultBridge
		want   string // device, pools; or part of an error
		err    bool
	}{
		{name: "nothing said", want: "docker0 172.17.0.0/16 172.17.0.1"},
		{name: "--bip", bridge: DefaultBridge{BIP: pfx("10.10.10.10/24")}, want: "docker0 10.10.10.0/24 10.10.10.10"},
		{name: "--ipv6", bridge: DefaultBridge{IPv6: true}, want: "docker0 172.17.0.0/16 172.17.0.1 + ULA"},
		{name: "--ipv6 --bip6", bridge: DefaultBridge{IPv6: true, BIP6: pfx("fd00:5::9/64")}, want: "docker0 172.17.0.0/16 172.17.0.1 + fd00:5::/64 fd00:5::9"},
		{name: "--ipv6 --fixed-cidr-v6", bridge: DefaultBridge{IPv6: true, Range6: pfx("fd00:5::/64")}, want: "docker0 172.17.0.0/16 172.17.0.1 + fd00:5::/64 fd00:5::1"},
		{name: "both", bridge: DefaultBridge{IPv6: true, BIP6: pfx("fd00:5::1/48"), Range6: pfx("fd00:5::/64")}, want: "docker0 172.17.0.0/16 172.17.0.1 + fd00:5::/48 fd00:5::1 from fd00:5::/64"},
		{name: "--bip6 alone", bridge: DefaultBridge{BIP6: pfx("fd00:5::1/64")}, want: "docker0 172.17.0.0/16 172.17.0.1"},
		{name: "-b br0", bridge: DefaultBridge{Name: "br0"}, want: "br0 borrowed 10.211.55.0/24 10.211.55.1"},
		{name: "-b br0 --fixed-cidr", bridge: DefaultBridge{Name: "br0", Range: pfx("10.212.0.128/25")}, want: "br0 borrowed 10.212.0.0/24 10.212.0.1 from 10.212.0.128/25"},
		{name: "-b br0 --bip", bridge: DefaultBridge{Name: "br0", BIP: pfx("10.212.0.1/24")}, want: "br0 borrowed 10.212.0.0/24 10.212.0.1"},
		{name: "-b br0 --ipv6", bridge: DefaultBridge{Name: "br0", IPv6: true}, want: "br0 borrowed 10.211.55.0/24 10.211.55.1 + 2001:db8::/64 2001:db8::1"},
		{name: "-b docker0", bridge: DefaultBridge{Name: "docker0"}, want: "docker0 172.17.0.0/16 172.17.0.1"},
		{name: "--bip is another", bridge: DefaultBridge{Name: "br0", BIP: pfx("10.9.0.1/24")}, err: true, want: "--bip 10.9.0.1/24 is not an address of bridge br0"},
		{name: "--fixed-cidr outside", bridge: DefaultBridge{Name: "br0", Range: pfx("10.9.0.0/25")}, err: true, want: "invalid ip-range 10.9.0.0/25"},
		{name: "no bridge there", bridge: DefaultBridge{Name: "br9"}, err: true, want: "bridge br9 (--bridge) does not exist; make it first: ip link add br9 type bridge"},
		{name: "no bridge at all", bridge: DefaultBridge{Name: "eth0"}, err: true, want: "--bridge eth0: it is no bridge"},
		{name: "no address", bridge: DefaultBridge{Name: "br1"}, err: true, want: "bridge br1 has no IPv4 address"},
		{name: "the LAN's", bridge: DefaultBridge{BIP: pfx("192.168.7.1/24")}, err: true, want: "subnet 192.168.7.0/24 overlaps 192.168.7.0/24 of the host (address of eth0); choose another with --bip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fresh := newWorld(t, func(w *world) { w.cfg.Bridge = DefaultBridge{None: true} })
			fresh.kernel.StrangerLink("br0", br0)
			fresh.kernel.StrangerLink("br1", dataplane.HostLink{Bridge: true})
			fresh.kernel.StrangerLink("eth0", dataplane.HostLink{Addrs: []netip.Prefix{pfx("192.168.7.5/24")}})
			fresh.kernel.SetHostRoutes(dataplane.HostRoute{Prefix: pfx("192.168.7.0/24"), What: "address of eth0"},
				dataplane.HostRoute{Prefix: pfx("10.211.55.0/24"), What: "address of br0"})
			fresh.cfg.Bridge, fresh.cfg.ID = c.bridge, "root"
			ctl, err := New(t.Context(), fresh.cfg)
			if err != nil {
				t.Fatal(err)
			}
			fresh.Controller = ctl
			fresh.kernel.OnShared = func(name, prior string) error { return ctl.NoteShared(context.Background(), name, prior) }
			_, err = ctl.Start(t.Context())
			if c.err {
				if err == nil || !strings.Contains(err.Error(), "default bridge: ") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n, _ := ctl.Network("bridge")
			got := n.Options["com.docker.network.bridge.name"]
			if n.Borrowed {
				got += " borrowed"
			}
			for i, p := range n.Pools {
				if i > 0 {
					got += " +"
				}
				if ula.Contains(p.Subnet.Addr()) {
					got += " ULA"
				} else if got += " " + p.Subnet.String() + " " + p.Gateway.String(); p.Range.IsValid() {
					got += " from " + p.Range.String()
				}
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			made := fresh.things()
			fresh.restart()
			if fresh.things() != made || len(fresh.report.Ops) > 0 {
				t.Errorf("a restart did %v", fresh.report.Ops)
			}
			s := fresh.join(on("a", "bridge"))
			if !n.Pools[0].Subnet.Contains(address(s)) {
				t.Errorf("%+v", s.Endpoints)
			}
		})
	}
}

// The rest of the flags, as the network says them.
func TestBridgeOptions(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.Bridge = DefaultBridge{NoICC: true, NoMasquerade: true, MTU: 1400, IPv6: true, BIP6: pfx("fd00:1::1/64"), Gateway6: ip("fd00:1::ff")}
		w.cfg.BindIP = ip("127.0.0.1")
	})
	n, _ := w.Network("bridge")
	for k, want := range map[string]string{"enable_icc": "false", "enable_ip_masquerade": "false", "host_binding_ipv4": "127.0.0.1", "default_bridge": "true", "name": "docker0"} {
		if got := n.Options["com.docker.network.bridge."+k]; got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if n.Options["com.docker.network.driver.mtu"] != "1400" {
		t.Errorf("%v", n.Options)
	}
	s := w.join(on("a", "bridge", "80:80"))
	if s.Endpoints[0].Gateway(false) != ip("fd00:1::ff") || s.Ports[0].HostIP != ip("127.0.0.1") {
		t.Errorf("%+v", s)
	}
}

// --bridge=none: there is no default network; what was there goes when it is empty.
func TestNoBridge(t *testing.T) {
	w := newWorld(t)
	w.join(on("a", "bridge"))
	var log bytes.Buffer
	w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.cfg.Bridge = DefaultBridge{None: true}
	w.restart()
	if _, err := w.Network("bridge"); err != nil || !strings.Contains(log.String(), "stays until its containers are gone") {
		t.Errorf("%v, %s", err, log.String())
	}
	w.leave("a", false)
	w.restart()
	if _, err := w.Network("bridge"); !errors.Is(err, cnm.ErrNotFound) || w.has("link docker0") {
		t.Errorf("%v\n%s", err, w.things())
	}
	w.join(on("b", "none"))
	w.network("shop", "172.17.0.0/16")
	w.cfg.Bridge = DefaultBridge{}
	w.restart()
	if n, err := w.Network("bridge"); err != nil || n.Pools[0].Subnet != pfx("172.18.0.0/16") {
		t.Errorf("back: %+v, %v", n, err)
	}
}

// After a first life with docker0, which the user deleted: -b br0.
func TestBridgeMoves(t *testing.T) {
	w := newWorld(t)
	w.join(on("a", "bridge"))
	w.leave("a", false)
	w.kernel.Lose("link docker0")
	w.kernel.StrangerLink("br0", dataplane.HostLink{Bridge: true, Addrs: []netip.Prefix{pfx("10.211.55.1/24")}})
	w.cfg.Bridge = DefaultBridge{Name: "br0"}
	w.restart()
	n, _ := w.Network("bridge")
	if !n.Borrowed || n.Pools[0].Subnet != pfx("10.211.55.0/24") || w.has("link docker0") {
		t.Errorf("%+v", n)
	}
	if s := w.join(on("a", "bridge")); address(s) != ip("10.211.55.2") || s.Endpoints[0].Gateway(true) != ip("10.211.55.1") {
		t.Errorf("%+v", s.Endpoints)
	}
	w.leave("a", false)
	w.cfg.Bridge = DefaultBridge{}
	w.restart() // and back
	if n, _ := w.Network("bridge"); n.Borrowed || n.Options["com.docker.network.bridge.name"] != "docker0" || n.Pools[0].Subnet != pfx("172.17.0.0/16") {
		t.Errorf("%+v", n)
	}
	// A boot in between: what is stored of containers binds nothing.
	s := w.join(on("a", "bridge"))
	w.kernel.Lose("netns " + s.Path)
	w.cfg.Bridge = DefaultBridge{Name: "br0"}
	w.restart()
	if n, _ := w.Network("bridge"); !n.Borrowed {
		t.Errorf("%+v", n)
	}
}

// IPv6 is forwarded once a network needs it, and not before; links that learn from
// advertisements go on to; a host that did not forward is guarded.
func TestForwarding6(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.kernel.Meddle(dataplane.Sysctl{Name: forward6, Value: "0"})
		w.kernel.Stranger("eth0", "device, group 0")
		w.cfg.RALinks = func(context.Context) ([]string, error) { return []string{"eth0"}, nil }
	})
	value := func(name string) string {
		if o, ok := w.kernel.State().Get("sysctl " + name); ok {
			return o.(dataplane.Sysctl).Value
		}
		return ""
	}
	guarded := func() bool { return len(w.elements("forward_guard")) == 1 }
	w.network("four", "")
	w.network("closed", "", func(w *NetworkWish) { w.IPv6, w.Internal = yes(), true })
	w.restart()
	if value(forward6) != "0" || guarded() {
		t.Errorf("forwards for nobody: %q", value(forward6))
	}
	w.network("six", "", func(w *NetworkWish) { w.IPv6 = yes() })
	if value(forward6) != "1" || !guarded() || value("net/ipv6/conf/eth0/accept_ra") != "2" {
		t.Errorf("forwarding %q, accept_ra %q, guarded %v", value(forward6), value("net/ipv6/conf/eth0/accept_ra"), guarded())
	}
	if w.shared[forward6] != "0" || w.shared["net/ipv6/conf/eth0/accept_ra"] == "" {
		t.Errorf("recorded: %v", w.shared)
	}
	w.restart()
	if len(w.report.Ops) > 0 {
		t.Errorf("the restart did %v", w.report.Ops)
	}
	w.remove("six")
	w.restart()
	if !guarded() {
		t.Error("still forwarding, and not guarded")
	}
}

// --ip-forward=false leaves the host's switches alone, and says what then fails.
func TestNoForwarding(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(w *world) {
		w.kernel.Meddle(dataplane.Sysctl{Name: forward4, Value: "0"})
		w.kernel.Meddle(dataplane.Sysctl{Name: forward6, Value: "0"})
		w.cfg.NoForwarding, w.cfg.Bridge.IPv6 = true, true
		w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.network("six", "", func(w *NetworkWish) { w.IPv6 = yes() })
	for _, name := range []string{forward4, forward6} {
		if o, _ := w.kernel.State().Get("sysctl " + name); o.(dataplane.Sysctl).Value != "0" {
			t.Errorf("%s was turned on", name)
		}
		if !strings.Contains(log.String(), name) || !strings.Contains(log.String(), "--ip-forward=false leaves it so") {
			t.Errorf("not said: %s", log.String())
		}
	}
	if len(w.elements("forward_guard")) != 0 {
		t.Error("guarded for nothing")
	}
}
