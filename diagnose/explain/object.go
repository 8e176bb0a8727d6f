package explain

import (
	"fmt"
	"strings"

	"linkspan/dataplane"
)

// item tells one object.
func (m *maker) item(o dataplane.Object) Item {
	meta := o.About()
	it := Item{Why: meta.Reason, Owner: meta.Owner.String(), Key: o.Key(), Spec: o.Spec(), Where: m.where(dataplane.InSandbox(o))}
	show := func(ns, line string, finds ...string) {
		it.Show = append(it.Show, in(ns)+line)
		it.Finds = append(it.Finds, finds...)
	}
	switch o := o.(type) {
	case dataplane.Namespace:
		it.What, it.Where = "network namespace", "pinned at "+o.Path
		show(o.Path, "ip -br addr", "lo")
	case dataplane.Bridge:
		it.What = "bridge " + o.Name + props(o.Spec(), "bridge")
		show("", "ip -d link show dev "+o.Name, o.Name, "bridge")
		show("", "ip -br link show master "+o.Name)
	case dataplane.Veth:
		it.What = fmt.Sprintf("veth pair: %s here, %s inside", o.Name, o.PeerName)
		it.Where = "one end: " + m.where("")
		if o.Master != "" {
			it.Where += ", port of bridge " + o.Master + flags(o)
		}
		it.Where += "; other end: " + m.where(o.PeerNS)
		show("", "ip -d link show dev "+o.Name, o.Name, "veth")
		if o.Master != "" {
			show("", "bridge -d link show dev "+o.Name, "master "+o.Master)
		}
		show(o.PeerNS, "ip link show dev "+o.PeerName, o.PeerName, o.PeerMAC)
	case dataplane.VXLAN:
		it.What = fmt.Sprintf("VXLAN %d by %s, UDP port %d, packets of up to %d bytes", o.VNI, o.Local, o.UDPPort(), o.InnerMTU())
		if o.Master != "" {
			it.Where += ", port of bridge " + o.Master
			show("", "bridge -d link show dev "+o.Name, "neigh_suppress on", "learning off")
		}
		show("", "ip -d link show dev "+o.Name, o.Name, fmt.Sprintf("vxlan id %d", o.VNI))
	case dataplane.WireGuard:
		it.What = "WireGuard device " + o.Name + props(o.Spec(), "wireguard")
		show("", "ip -d link show dev "+o.Name, o.Name)
	case dataplane.FDB:
		it.What, it.Show, it.Finds = fdb(o)
	case dataplane.Neighbour:
		it.What = fmt.Sprintf("%s has the MAC %s, which nobody has to ask for on %s", o.Addr, o.MAC, o.Link)
		show("", "ip neigh show "+o.Addr.String()+" dev "+o.Link, o.MAC, "PERMANENT")
	case dataplane.Offload:
		it.What = fmt.Sprintf("%s of %s is %s", o.Feature, o.Link, map[bool]string{true: "on", false: "off"}[o.On])
		show("", "ethtool -k "+o.Link, o.Feature)
	case dataplane.Addr:
		it.What = "address " + o.Prefix.String() + " on " + o.Link
		show(o.NS, "ip addr show dev "+o.Link+" to "+o.Prefix.Addr().String(), o.Prefix.String())
	case dataplane.Up:
		it.What = o.Link + " is up"
		show(o.NS, "ip link show dev "+o.Link+" up", o.Link)
	case dataplane.Route:
		it.What, it.Show, it.Finds = route(o)
	case dataplane.Sysctl:
		it.What = "sysctl " + sysctl(o.Name) + " = " + o.Value
		show(o.NS, "sysctl "+sysctl(o.Name), "= "+strings.Join(strings.Fields(o.Value), "\t"))
	case dataplane.Page:
		it.What, it.Where = "nftables table "+o.Family+" "+o.Table, m.where("")+", all hooks of "+o.Family
		show("", "nft list table "+o.Family+" "+o.Table, o.Table, "chain")
	case dataplane.Redirect:
		it.What = fmt.Sprintf("redirect %s:%d → port %d, where the resolver's sockets are", dataplane.ResolverAddr, dataplane.ResolverPort, dataplane.ResolverBound)
		show(o.NS, "nft list table ip "+dataplane.RedirectTable, dataplane.ResolverAddr.String())
	case dataplane.Element:
		m.element(&it, o)
	default:
		it.What = o.Key()
	}
	return it
}

// fdb tells an entry of a forwarding database.
func fdb(o dataplane.FDB) (what string, show, finds []string) {
	show = []string{"bridge fdb show dev " + o.Dev}
	switch {
	case !o.Dst.IsValid():
		return o.MAC + " is behind " + o.Dev, show, []string{o.MAC}
	case o.MAC == dataplane.FDBDefault:
		return "broadcasts and multicasts by " + o.Dev + " go to " + o.Dst.String(), show, []string{o.MAC, "dst " + o.Dst.String()}
	}
	return o.MAC + " is reached by " + o.Dev + " through host " + o.Dst.String(), show, []string{o.MAC + " dst " + o.Dst.String()}
}

func route(o dataplane.Route) (what string, show, finds []string) {
	fam, dst := "ip ", o.Dst.String()
	if o.Dst.Addr().Is6() {
		fam = "ip -6 "
	}
	if o.Dst.Bits() == 0 {
		dst = "default"
	}
	if o.Unreachable {
		return "nothing of " + dst + " leaves by another way than those that are declared", []string{in(o.NS) + fam + "route show type unreachable " + dst}, []string{"unreachable", dst}
	}
	what = "route " + dst
	finds = []string{dst}
	if o.Via.IsValid() {
		what += " via " + o.Via.String()
		finds = append(finds, o.Via.String())
	}
	return what + " dev " + o.Link, []string{in(o.NS) + fam + "route show " + dst + " dev " + o.Link}, finds
}

// where a namespace is, in words.
func (m *maker) where(ns string) string {
	if ns == "" {
		return "the host"
	}
	if name := m.pins[ns]; name != "" {
		return "inside " + name
	}
	return "inside " + ns
}

func in(ns string) string {
	if ns == "" {
		return ""
	}
	return "nsenter --net=" + ns + " "
}

// props are an object's in brackets, without what was said.
func props(spec, without string) string {
	spec = strings.TrimSpace(strings.TrimPrefix(spec, without))
	if spec == "" {
		return ""
	}
	return " (" + spec + ")"
}

func flags(v dataplane.Veth) string {
	switch {
	case v.Hairpin && v.Isolated:
		return " (hairpin, isolated)"
	case v.Hairpin:
		return " (hairpin)"
	case v.Isolated:
		return " (isolated)"
	}
	return ""
}

// sysctl writes a parameter's path with dots, as sysctl(8) does, unless a dot belongs
// to a name in it.
func sysctl(path string) string {
	if strings.Contains(path, ".") {
		return path
	}
	return strings.ReplaceAll(path, "/", ".")
}
