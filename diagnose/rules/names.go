package rules

import (
	"net/netip"
	"slices"
	"strings"

	"linkspan/dataplane"
	"linkspan/diagnose"
)

// names are who addresses, subnets and devices are.
type names struct {
	addrs   map[netip.Addr]string // containers, and gateways
	subnets map[netip.Prefix]string
	devices map[string]string
}

func namesOf(w *diagnose.World, objs []dataplane.Object) *names {
	n := &names{addrs: map[netip.Addr]string{}, subnets: map[netip.Prefix]string{}, devices: map[string]string{}}
	for _, net := range w.Declared.Networks() {
		for _, p := range net.Pools {
			n.subnets[p.Subnet.Masked()] = "network " + net.Name
			if p.Gateway.IsValid() {
				n.addrs[p.Gateway] = "the host"
			}
		}
	}
	for _, s := range w.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			for _, a := range e.Addrs {
				n.addrs[a.Addr()] = s.OwnerName
			}
		}
	}
	for _, o := range objs {
		own := o.About().Owner
		if own.Kind != dataplane.OwnerNetwork {
			continue
		}
		switch o := o.(type) {
		case dataplane.Bridge:
			n.devices[o.Name] = "network " + own.Name
		case dataplane.VXLAN:
			n.devices[o.Name] = "network " + own.Name
		case dataplane.Element:
			if o.Set == "borrowed" {
				n.devices[unquote(o.KeyText)] = "network " + own.Name
			}
		}
	}
	return n
}

// who is in an element: containers and networks, in the order in which they are told.
func (n *names) who(e dataplane.Element) string {
	var all []string
	for _, f := range append(strings.Split(e.KeyText, " . "), strings.Split(e.DataText, " . ")...) {
		name := n.devices[unquote(f)]
		if a, err := netip.ParseAddr(f); err == nil {
			name = n.addrs[a]
		} else if p, err := netip.ParsePrefix(f); err == nil {
			if name = n.subnets[p]; name == "" && p.IsSingleIP() {
				name = n.addrs[p.Addr()]
			}
		}
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	with := ", "
	if strings.HasPrefix(e.Set, "holes") {
		with = " → "
	}
	return strings.Join(all, with)
}

func unquote(s string) string { return strings.Trim(s, `"`) }
