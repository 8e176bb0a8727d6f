package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"linkspan/netns"
)

// hand is a network made by hand between two machines that have no engine: as flannel
// does it, a bridge with a /24 of 10.SECOND.0.0/16 on each, and a sandbox behind it.
// net.bridge.bridge-nf-call-iptables is 1 there, as in every new namespace and as Kubernetes
// wants it of who runs flannel.
type hand struct {
	*span
	bridge string
	second int
	mtu    int // of the sandboxes
}

func (h hand) cluster() string           { return fmt.Sprintf("10.%d.0.0/16", h.second) }
func (h hand) subnet(machine int) string { return fmt.Sprintf("10.%d.%d.0/24", h.second, machine+1) }
func (h hand) addr(machine, last int) string {
	return fmt.Sprintf("10.%d.%d.%d", h.second, machine+1, last)
}

// outer is a machine's address on the wire.
func outer(machine int) string { return fmt.Sprint("10.0.0.", machine+1) }

// byHand makes one of them. The MTUs are for a wire of 1500 bytes.
func (s *span) byHand(ctx context.Context, which string) (line, error) {
	switch which {
	case handRoutes:
		h := hand{s, "hand1", 245, 1500}
		return h.make(ctx, func(machine, other int) error {
			return h.on(machine, "route", "add", h.subnet(other), "via", outer(other))
		})
	case handVXLAN:
		h := hand{s, "hand0", 244, 1500 - overVXLAN}
		return h.make(ctx, h.vxlan(ctx, "flannel.1", 76, 8472, [2]string{"eth0", "eth0"}, outer))
	case handWireGuard:
		h := hand{s, "hand2", 246, 1500 - overWireGuard}
		devices, err := h.wireGuard(ctx, 52000)
		if err != nil {
			return line{}, err
		}
		return h.make(ctx, func(machine, other int) error {
			return h.on(machine, "route", "add", h.subnet(other), "dev", devices[machine])
		})
	}
	h := hand{s, "hand3", 247, 1500 - overWireGuard - overVXLAN}
	devices, err := h.wireGuard(ctx, 52001)
	if err != nil {
		return line{}, err
	}
	return h.make(ctx, h.vxlan(ctx, "handvx", 77, 4790, devices, h.inner))
}

// What a packet gets more, in bytes, over IPv4.
const (
	overVXLAN     = 50
	overWireGuard = 60
)

// on runs ip on a machine.
func (h hand) on(machine int, args ...string) error {
	return ip(append([]string{"-n", filepath.Base(h.hands[machine])}, args...)...)
}

// make makes bridges, sandboxes and the rules on both machines, and has the way to the
// other machine's subnet made there.
func (h hand) make(ctx context.Context, across func(machine, other int) error) (line, error) {
	var inside [2]string
	mtu := fmt.Sprint(h.mtu)
	for i, machine := range h.hands {
		inside[i] = machine + "-" + h.bridge
		if err := netns.Create(inside[i]); err != nil {
			return line{}, err
		}
		h.world.later(func() { _ = netns.Remove(inside[i]) })
		in := filepath.Base(inside[i])
		port := "v" + h.bridge
		if err := errors.Join(
			h.on(i, "link", "add", h.bridge, "mtu", mtu, "type", "bridge"),
			h.on(i, "addr", "add", h.addr(i, 1)+"/24", "dev", h.bridge),
			h.on(i, "link", "set", h.bridge, "up"),
			h.on(i, "link", "add", port, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", in),
			h.on(i, "link", "set", port, "master", h.bridge, "up"),
			ip("-n", in, "addr", "add", h.addr(i, 2)+"/24", "dev", "eth0"),
			ip("-n", in, "link", "set", "eth0", "up"), ip("-n", in, "link", "set", "lo", "up"),
			ip("-n", in, "route", "add", "default", "via", h.addr(i, 1)),
			h.rules(ctx, i), across(i, 1-i)); err != nil {
			return line{}, err
		}
	}
	server, err := h.listen(ctx, inside[1])
	return line{inside[0], netip.MustParseAddr(h.addr(1, 2)), server}, err
}

// rules are those that flannel adds with --ip-masq, which kube-flannel.yml says: sandboxes
// reach the outside as ours do, and keep their addresses within.
func (h hand) rules(ctx context.Context, machine int) error {
	text := strings.NewReplacer("NAME", "flannel-"+h.bridge, "CLUSTER", h.cluster(), "SUBNET", h.subnet(machine)).Replace(`
table ip NAME {
	chain forward {
		type filter hook forward priority filter;
		ip saddr CLUSTER accept
		ip daddr CLUSTER accept
	}
	chain postrtg {
		type nat hook postrouting priority srcnat;
		meta mark & 0x4000 == 0x4000 return
		ip saddr SUBNET ip daddr CLUSTER return
		ip saddr CLUSTER ip daddr SUBNET return
		ip saddr != CLUSTER ip daddr SUBNET return
		ip saddr CLUSTER ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != CLUSTER ip daddr CLUSTER masquerade fully-random
	}
}
`)
	c := exec.CommandContext(ctx, "nsenter", "--net="+h.hands[machine], "--", "nft", "-f", "-")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// vxlan leads to the other machine's subnet by a VXLAN device, with a permanent neighbour
// and FDB entry for the other end, between addresses of the devices below.
func (h hand) vxlan(ctx context.Context, name string, vni, port int, below [2]string, end func(machine int) string) func(machine, other int) error {
	mac := func(machine int) string { return fmt.Sprintf("02:00:00:00:%02d:%02d", vni, machine+1) }
	return func(i, other int) error {
		gw := h.addr(other, 0)
		if err := errors.Join(
			h.on(i, "link", "add", name, "mtu", fmt.Sprint(h.mtu), "address", mac(i), "type", "vxlan", "id", fmt.Sprint(vni),
				"local", end(i), "dev", below[i], "dstport", fmt.Sprint(port), "nolearning"),
			h.on(i, "addr", "add", h.addr(i, 0)+"/32", "dev", name),
			h.on(i, "link", "set", name, "up"),
			h.on(i, "route", "add", h.subnet(other), "via", gw, "dev", name, "onlink"),
			h.on(i, "neigh", "add", gw, "lladdr", mac(other), "dev", name, "nud", "permanent")); err != nil {
			return err
		}
		c := exec.CommandContext(ctx, "bridge", "-n", filepath.Base(h.hands[i]), "fdb", "add", mac(other), "dev", name, "dst", end(other), "self", "permanent")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("bridge fdb: %w: %s", err, out)
		}
		return nil
	}
}
