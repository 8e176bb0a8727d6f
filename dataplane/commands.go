package dataplane

import "fmt"

// Commands, by kind: the lines of iproute2, sysctl and nft that do the same.
// They are for people (plan, reconcile --dry-run, explain); nothing runs them.

func (o Namespace) Commands() (create, remove []string) {
	n := o.Path
	return []string{"touch " + n, "unshare --net=" + n + " true"}, []string{"umount " + n, "rm " + n}
}

func (o Bridge) Commands() (create, remove []string) {
	c := words("ip link add", o.Name, mtu(o.MTU), opt("address", o.MAC), "type bridge")
	if o.NFCall {
		c += " nf_call_iptables 1 nf_call_ip6tables 1"
	}
	return []string{c}, []string{"ip link del " + o.Name}
}

func (o Veth) Commands() (create, remove []string) {
	create = []string{words("ip link add", o.Name, mtu(o.MTU), "type veth peer name", o.PeerName, opt("address", o.PeerMAC),
		opt("netns", o.PeerNS))}
	if o.Master != "" {
		create = append(create, "ip link set "+o.Name+" master "+o.Master)
	}
	if f := words(onOff("hairpin", o.Hairpin), onOff("isolated", o.Isolated)); f != "" {
		create = append(create, "bridge link set dev "+o.Name+" "+f)
	}
	return create, []string{"ip link del " + o.Name}
}

func (o Addr) Commands() (create, remove []string) {
	a := o.Prefix.String() + " dev " + o.Link
	return []string{in(o.NS) + "ip addr add " + a}, []string{in(o.NS) + "ip addr del " + a}
}

func (o Up) Commands() (create, remove []string) {
	return []string{in(o.NS) + "ip link set " + o.Link + " up"}, []string{in(o.NS) + "ip link set " + o.Link + " down"}
}

func (o Route) Commands() (create, remove []string) {
	fam := "ip "
	if o.Dst.Addr().Is6() {
		fam = "ip -6 "
	}
	dst := o.Dst.String()
	if o.Dst.Bits() == 0 {
		dst = "default"
	}
	via := ""
	if o.Via.IsValid() {
		via = o.Via.String()
	}
	if o.Via.Is6() && o.Dst.Addr().Is4() {
		via = "inet6 " + via
	}
	if o.Unreachable {
		r := in(o.NS) + fam + "route %s unreachable " + dst
		return []string{fmt.Sprintf(r, "add") + " metric " + lastMetric}, []string{fmt.Sprintf(r, "del") + " metric " + lastMetric}
	}
	r := words(dst, opt("via", via), opt("dev", o.Link))
	return []string{in(o.NS) + fam + "route add " + words(r, flag("onlink", o.OnLink))}, []string{in(o.NS) + fam + "route del " + r}
}

// lastMetric is that of a route of the last resort, as people write it (ip-vrf(8)).
// dataplane/linux has one of each instance's own close to it.
const lastMetric = "4278198272"

func (o Sysctl) Commands() (create, remove []string) {
	return []string{fmt.Sprintf("%ssysctl -w %s=%s", in(o.NS), o.Name, o.Value)}, nil
}

func (o Page) Commands() (create, remove []string) {
	return []string{"nft -f - <<'PAGE'\n" + o.Text + "PAGE"}, []string{"nft delete table " + o.Family + " " + o.Table}
}

func (o Element) Commands() (create, remove []string) {
	e := o.KeyText
	if s := o.Spec(); s != "" {
		e += " : " + s
	}
	pre := fmt.Sprintf("element %s %s %s { ", o.Family, o.Table, o.Set)
	return []string{"nft add " + pre + e + " }"}, []string{"nft delete " + pre + o.KeyText + " }"}
}

func in(ns string) string {
	if ns == "" {
		return ""
	}
	return "nsenter --net=" + ns + " "
}

func onOff(k string, on bool) string {
	if on {
		return k + " on"
	}
	return ""
}
