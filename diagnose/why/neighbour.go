package why

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// states of a neighbour entry that packets are sent by (RFC 4861; neighbour(7)).
var usable = []string{"reachable", "stale", "delay", "probe", "permanent", "noarp"}

// neighbour holds a stack's idea of the next hop's hardware address to what it is, and
// where it has none, looks whether the other would answer.
func (w *walk) neighbour(at place, on onward, to place, has *reading.Interface, br string) bool {
	all, err := w.live.neighbours(at.ns)
	look := "neighbour " + on.next.String()
	if err != nil {
		w.missing(at, look, err)
		return true
	}
	for _, n := range all {
		if n.Link != on.link || n.Addr != on.next || !slices.Contains(usable, n.State) {
			continue
		}
		if !strings.EqualFold(n.MAC, has.MAC) {
			return w.fail(at, look, n.MAC+" ("+n.State+")", because(StaleNeighbour,
				"%s neighbour table says that %s is at %s (%s), and it is %s's %s, which is %s.", at.of(), on.next, n.MAC, n.State, to.name, has.Name, has.MAC).
				mend("%s", at.cmd(fmt.Sprintf("ip neigh del %s dev %s", on.next, on.link))))
		}
		if n.State == "permanent" || n.State == "noarp" || n.State == "reachable" {
			w.good(at, look, "%s, %s", n.MAC, n.State)
			return true
		}
	}
	if c := w.answers(at, on, to, has); c != nil {
		return w.fail(to, "answers for "+on.next.String(), "no", c)
	}
	w.good(at, look, "%s", has.MAC)
	return true
}

// answers looks whether a stack answers who asks for its address (ARP).
func (w *walk) answers(at place, on onward, to place, has *reading.Interface) *cause {
	for _, l := range []struct {
		place
		name string
	}{{at, on.link}, {to, has.Name}} {
		i, err := w.live.link(l.ns, l.name)
		if err == nil && i != nil && i.NoARP {
			return because(NeighbourFailed, "%s interface %s neither asks nor answers for hardware addresses (arp off).", l.of(), l.name).
				mend("%s", l.cmd("ip link set "+l.name+" arp on"))
		}
	}
	if !on.next.Is4() {
		return nil
	}
	if c := w.arpRules(at, on, to, has); c != nil {
		return c
	}
	// The greater of the two counts (kernel doc: ip-sysctl, arp_ignore).
	for _, name := range []string{has.Name, "all"} {
		v, err := w.live.sysctl(to.ns, "net/ipv4/conf/"+name+"/arp_ignore")
		if n, bad := strconv.Atoi(v); err == nil && bad == nil && n >= 3 {
			return because(NeighbourFailed, "%s does not answer who asks for the hardware address of %s (net.ipv4.conf.%s.arp_ignore=%s).", w.stack(to), on.next, name, v).
				mend("%s", to.cmd("sysctl -w net.ipv4.conf."+strings.ReplaceAll(name, ".", "/")+".arp_ignore=0"))
		}
	}
	return nil
}

// arpRules passes question and answer of ARP (RFC 826) through the rules of both stacks.
func (w *walk) arpRules(at place, on onward, to place, has *reading.Interface) *cause {
	own, err := w.live.link(at.ns, on.link)
	if err != nil || own == nil {
		return nil
	}
	ask := ruleset.Packet{Proto: "arp", Src: on.p.src, Dst: on.next, SrcMAC: own.MAC, DstMAC: "ff:ff:ff:ff:ff:ff"}
	reply := ruleset.Packet{Proto: "arp", Reply: true, Src: on.next, Dst: on.p.src, SrcMAC: has.MAC, DstMAC: own.MAC}
	for _, s := range []struct {
		place
		hook    string
		p       ruleset.Packet
		in, out string
	}{
		{at, "output", ask, "", on.link}, {to, "input", ask, has.Name, ""}, {to, "output", reply, "", has.Name}, {at, "input", reply, on.link, ""},
	} {
		fw, err := w.fire(s.ns)
		if err != nil {
			return nil // the packet's own rules cannot be read either, and say so
		}
		s.p.In, s.p.Out = s.in, s.out
		t := fw.walk("arp", s.hook, s.p)
		if t.Verdict != ruleset.Drop {
			continue
		}
		code := ContainerFirewall
		if s.host() {
			code = HostFirewall
		}
		r := w.ruleOf(s.place, fw, *orEmpty(t.Rule))
		c := because(code, "%s keeps %s from finding the hardware address of %s: table arp %s, chain %s, drops it: %s", w.stack(s.place), w.stack(at), on.next, r.Table, r.Chain, r.Text)
		c.rule = r
		if t.Rule != nil && t.Rule.Policy {
			return c.mend("%s", s.cmd(fmt.Sprintf("nft insert rule arp %s %s accept", r.Table, r.Chain)))
		}
		return c.mend("%s", s.cmd(fmt.Sprintf("nft insert rule arp %s %s handle %d arp daddr ip %s accept", r.Table, r.Chain, r.Handle, s.p.Dst)))
	}
	return nil
}

// forwarded looks whether a bridge sends a hardware address to its port.
func (w *walk) forwarded(br, port, mac string, to place) bool {
	all, err := w.live.fdb("")
	if err != nil {
		w.missing(hostPlace, "forwarding table of "+br, err)
		return true
	}
	look := "bridge " + br
	for _, e := range all {
		if !strings.EqualFold(e.MAC, mac) || e.Bridge != "" && e.Bridge != br || e.Link == port || e.Dst.IsValid() {
			continue
		}
		if e.Bridge == "" && !w.portOfBridge(e.Link, br) {
			continue
		}
		if e.Local {
			return w.fail(hostPlace, look, mac+" is its own", because(AddressConflict, "the bridge %s has the hardware address of %s, %s, itself (on %s).", br, to.name, mac, e.Link).
				mend("ip link set %s address %s", e.Link, "02:42:"+mac[6:]))
		}
		kind := "learned"
		if e.Static {
			kind = "static"
		}
		return w.fail(hostPlace, look, fmt.Sprintf("%s at port %s (%s)", mac, e.Link, kind), because(FDBWrong,
			"the bridge %s sends what is for %s (%s) to port %s, by a %s entry; it is at %s.", br, to.name, mac, e.Link, kind, port).
			mend("bridge fdb del %s dev %s master", mac, e.Link))
	}
	w.good(hostPlace, look, "%s at port %s", mac, port)
	return true
}

func (w *walk) portOfBridge(link, br string) bool {
	l, err := w.live.link("", link)
	return err == nil && l != nil && l.Master == br
}
