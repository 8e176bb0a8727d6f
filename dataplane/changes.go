package dataplane

// Changes are the lines that bring an object of ours that is there to what is wanted;
// those that make it would find it there. They are for people, as Commands.
func Changes(o Object) []string {
	switch o := o.(type) {
	case Bridge:
		c := []string{words("ip link set", o.Name, mtu(o.MTU), opt("address", o.MAC))}
		on := "0"
		if o.NFCall {
			on = "1"
		}
		return append(c, "ip link set "+o.Name+" type bridge nf_call_iptables "+on+" nf_call_ip6tables "+on)
	case Veth:
		c := []string{words("ip link set", o.Name, mtu(o.MTU))}
		if o.Master == "" {
			return append(c, "ip link set "+o.Name+" nomaster")
		}
		return append(c, "ip link set "+o.Name+" master "+o.Master,
			words("bridge link set dev", o.Name, "hairpin", offOn(o.Hairpin), "isolated", offOn(o.Isolated)))
	case VXLAN:
		c := []string{words("ip link set", o.Name, mtu(o.InnerMTU()), opt("address", o.MAC)), "ip link set " + o.Name + " type vxlan nolearning"}
		if o.Master == "" {
			return append(c, "ip link set "+o.Name+" nomaster")
		}
		return append(c, "ip link set "+o.Name+" master "+o.Master,
			"bridge link set dev "+o.Name+" neigh_suppress on learning off flood off mcast_flood on")
	case WireGuard:
		return []string{words("ip link set", o.Name, mtu(o.MTU))}
	case Addr:
		subnet := o.Prefix.Masked().String() + " dev " + o.Link + " proto kernel"
		if o.Prefix.Addr().Is6() {
			return []string{in(o.NS) + "ip -6 route add " + subnet + " metric 256"}
		}
		return []string{in(o.NS) + "ip route add " + subnet + " scope link src " + o.Prefix.Addr().String()}
	case Route:
		create, remove := o.Commands()
		return append(remove, create...)
	case Page:
		// The elements stay: only rules are flushed.
		return []string{"nft -f - <<'PAGE'\nflush table " + o.Family + " " + o.Table + "\n" + o.Text + "PAGE"}
	case Element:
		create, remove := o.Commands()
		return append(remove, create...)
	}
	create, _ := o.Commands()
	return create
}

func offOn(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
