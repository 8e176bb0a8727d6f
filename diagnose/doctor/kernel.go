package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/probe"
)

// features are what the kernel and the installed programs can do. Those that some of
// Linkspan can do without are notes.
func (w *ward) features(context.Context) {
	if w.Features == nil {
		w.unseen("what the kernel can do: it is tried as root only")
		return
	}
	optional := []string{probe.NFLog.Name, probe.BridgeNetfilter.Name, probe.IPv6.Name, probe.SCTP.Name, probe.WireGuard.Name, probe.TUN.Name}
	all := w.Features()
	there := 0
	for _, r := range all {
		if r.Err == nil {
			there++
			continue
		}
		reason := r.Err
		var m *probe.Missing
		if errors.As(r.Err, &m) {
			reason = m.Reason
		}
		s := Problem
		if slices.Contains(optional, r.Feature.Name) {
			s = Note
		}
		w.say(s, "feature-missing", fmt.Sprintf("%s: not available (%v)", r.Feature.Name, reason), "Needed for "+r.Feature.For+".", r.Feature.Cure)
	}
	if there == len(all) {
		w.ok("features", "kernel and programs have all %d features that were tried", there)
	}
}

// routed are the networks whose containers reach the outside through this host.
func (w *ward) routed() (four, six []string) {
	if !w.known() {
		return nil, nil
	}
	for _, n := range w.World.Declared.Networks() {
		if n.Internal || n.ConfigOnly || len(n.Pools) == 0 {
			continue
		}
		if n.Pool4() != nil {
			four = append(four, n.Name)
		}
		if n.IPv6 && n.Pool6() != nil {
			six = append(six, n.Name)
		}
	}
	return four, six
}

// forwarding: without it a host is no router, and containers are cut off.
func (w *ward) forwarding(context.Context) {
	four, six := w.routed()
	for _, f := range []struct {
		sysctl, name string
		networks     []string
	}{
		{"net/ipv4/ip_forward", "IPv4", four},
		{"net/ipv6/conf/all/forwarding", "IPv6", six},
	} {
		v, ok := w.sysctl(f.sysctl)
		dotted := strings.ReplaceAll(f.sysctl, "/", ".")
		switch {
		case !ok || v != 0 && len(f.networks) == 0:
		case v != 0:
			w.ok("forwarding", "the host forwards %s (%s=%d)", f.name, dotted, v)
		case len(f.networks) > 0 && w.Engine != nil && w.Engine.NoForwarding:
			w.say(Warning, "forwarding-off", fmt.Sprintf("%s=0, and the daemon was told not to change it (--ip-forward=false)", dotted),
				"Containers on "+names(f.networks)+" reach nothing outside of this host, and their published ports answer only to the host itself.", "sysctl -w "+dotted+"=1")
		case len(f.networks) > 0:
			w.say(Problem, "forwarding-off", fmt.Sprintf("%s=0: someone turned it off after Linkspan had turned it on", dotted),
				"Containers on "+names(f.networks)+" reach nothing outside of this host, and their published ports answer only to the host itself.", "linkspan reconcile")
		case f.name == "IPv4" && !w.known():
			w.say(Note, "forwarding-off", dotted+"=0", "The daemon turns it on when it starts, unless --ip-forward=false.", "")
		}
	}
}

// paths are settings that decide where packets may come from and which hooks they meet.
func (w *ward) paths(ctx context.Context) {
	if v, ok := w.sysctl("net/bridge/bridge-nf-call-iptables"); ok && v != 0 {
		w.say(Note, "bridge-nf-on", "net.bridge.bridge-nf-call-iptables=1: packets between containers of one network pass the host's iptables and nftables rules, too",
			"Another program with bridges (dockerd, kubelet, libvirt) may need it; while nobody else has a bridge, Linkspan turns it off. Rules for forwarded packets then also meet those that stay within a network.", "")
	} else if ok {
		w.ok("bridge-nf", "bridge-nf-call-iptables=0: packets within a network do not pass the host's firewall")
	}
	if v, ok := w.sysctl("net/ipv4/conf/all/route_localnet"); ok && v != 0 {
		w.say(Warning, "route-localnet", "net.ipv4.conf.all.route_localnet=1: packets for 127.0.0.0/8 are taken from every interface",
			"A neighbour on the LAN reaches services that listen on this host's loopback only. Linkspan sets it for its own bridges alone, and guards them.", "sysctl -w net.ipv4.conf.all.route_localnet=0")
	}
	if v, ok := w.sysctl("net/ipv4/ip_no_pmtu_disc"); ok && v != 0 {
		w.say(Warning, "pmtu-off", fmt.Sprintf("net.ipv4.ip_no_pmtu_disc=%d: the host does not follow what routers say of the path's MTU", v),
			"Large packets to networks behind a smaller MTU (VPN, PPPoE) vanish without a word.", "sysctl -w net.ipv4.ip_no_pmtu_disc=0")
	}
	w.reversePath(ctx)
}

// reversePath: strict filtering (RFC 3704) drops what comes in by another uplink than
// the answer would leave by. The higher of all and the interface counts (ip-sysctl).
func (w *ward) reversePath(ctx context.Context) {
	all, ok := w.sysctl("net/ipv4/conf/all/rp_filter")
	if !ok || !w.kernel() {
		return
	}
	routes, err := w.World.Kernel.Routes(ctx, "")
	if err != nil {
		return // said by routes
	}
	uplinks := map[string]bool{}
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Dst.Addr().Is4() && r.Link != "" {
			uplinks[r.Link] = true
		}
	}
	var strict []string
	for link := range uplinks {
		if v, ok := w.sysctl("net/ipv4/conf/" + link + "/rp_filter"); ok && max(v, all) == 1 {
			strict = append(strict, link)
		}
	}
	slices.Sort(strict)
	if len(uplinks) > 1 && len(strict) > 0 {
		w.say(Warning, "rp-filter", fmt.Sprintf("the host has %d uplinks, and strict reverse path filtering on %s", len(uplinks), names(strict)),
			"What comes in by one uplink while the way back leads through another is dropped without a word: published ports answer on some of the host's addresses only.",
			"sysctl -w net.ipv4.conf.all.rp_filter=2")
		return
	}
	w.ok("rp-filter", "reverse path filtering fits the host's uplinks (%s)", names(sorted(uplinks)))
}

// ephemeral: ports that the kernel hands to outgoing connections are no good for what
// must be had at any time.
func (w *ward) ephemeral(ctx context.Context) {
	low, high, ok := ports(w.line("proc/sys/net/ipv4/ip_local_port_range"))
	if !ok || !w.known() {
		return
	}
	reserved := w.line("proc/sys/net/ipv4/ip_local_reserved_ports")
	var inside []string
	for _, s := range w.World.Declared.Sandboxes() {
		for _, p := range s.Ports {
			if int(p.HostPort) <= high && int(p.HostPortEnd) >= low && !covers(reserved, int(p.HostPort), int(p.HostPortEnd)) {
				inside = append(inside, fmt.Sprintf("%s (%s)", portText(p), s.OwnerName))
			}
		}
	}
	slices.Sort(inside)
	if len(inside) > 0 {
		first, _, _ := strings.Cut(inside[0], "/")
		w.say(Note, "port-ephemeral", fmt.Sprintf("published in the range that the kernel uses for outgoing connections (%d-%d): %s", low, high, few(inside, 5)),
			"While the container runs, the port is reserved for it. While it is stopped, an outgoing connection may take it, and the next start fails.",
			"sysctl -w net.ipv4.ip_local_reserved_ports="+join(reserved, first))
	} else {
		w.ok("ephemeral", "no published port is in the range for outgoing connections (%d-%d)", low, high)
	}
	if !w.kernel() {
		return
	}
	for _, s := range w.World.Declared.Sandboxes() {
		if s.Host || !s.Answers {
			continue
		}
		v, err := w.World.Kernel.Sysctl(ctx, s.Path, "net/ipv4/ip_local_port_range")
		if l, h, ok := ports(v); err == nil && ok && l <= resolverPort && resolverPort <= h {
			w.say(Warning, "resolver-port", fmt.Sprintf("container %s uses ports %d-%d for outgoing connections, and its resolver is at %d", s.OwnerName, l, h, resolverPort),
				"After a restart of the sandbox a connection may hold the resolver's port, and names are not answered.", fmt.Sprintf("docker run --sysctl net.ipv4.ip_local_port_range=\"%d %d\" …", resolverPort+1, h))
		}
	}
}

func portText(p cnm.PublishedPort) string {
	if p.HostPortEnd > p.HostPort {
		return fmt.Sprintf("%d-%d/%s", p.HostPort, p.HostPortEnd, p.Proto)
	}
	return fmt.Sprintf("%d/%s", p.HostPort, p.Proto)
}
