package explain

import (
	"fmt"
	"strconv"
	"strings"

	"linkspan/dataplane"
)

// element tells one of the page's.
func (m *maker) element(it *Item, o dataplane.Element) {
	entry := o.KeyText
	if s := o.Spec(); s != "" {
		entry += " : " + s
	}
	it.What = meaning(o)
	it.Where = fmt.Sprintf("the host, %s { %s }", o.Set, entry)
	it.Finds = []string{o.Set, entry}
	switch {
	case dataplane.RangeProto(o.Set) != "":
		// nft 1.0.6 does not find a range of ports that is asked for as a whole.
		first, _, _ := strings.Cut(o.KeyText, "-")
		it.Finds[1] = first
		it.Show = []string{fmt.Sprintf("nft get element %s %s %s '{ %s }'", o.Family, o.Table, o.Set, first)}
	case o.Last != nil:
		// Nor a subnet that another one follows without a gap. Of these there are few.
		kind := "set"
		if o.Data != nil || o.Verdict != "" {
			kind = "map"
		}
		it.Finds[1] = strings.NewReplacer("/32", "", "/128", "").Replace(entry)
		it.Show = []string{fmt.Sprintf("nft list %s %s %s %s", kind, o.Family, o.Table, o.Set)}
	default:
		it.Show = []string{fmt.Sprintf("nft get element %s %s %s '{ %s }'", o.Family, o.Table, o.Set, o.KeyText)}
	}
}

// meaning is an element in a few words, by the set that it is in.
func meaning(o dataplane.Element) string {
	first, second := fields(o.KeyText)
	set := strings.TrimSuffix(strings.TrimRight(o.Set, "46"), "_")
	switch {
	case o.Flow != nil:
		host := fmt.Sprint(o.Flow.Port)
		if o.Flow.Addr.IsValid() {
			host = o.Flow.Addr.String() + ":" + host
			if o.Flow.Addr.Is6() {
				host = fmt.Sprintf("[%s]:%d", o.Flow.Addr, o.Flow.Port)
			}
		}
		if o.Flow.PortEnd > o.Flow.Port {
			return fmt.Sprintf("DNAT %s %s-%d → %s, the same ports", o.Flow.Proto, host, o.Flow.PortEnd, o.Flow.To.Addr())
		}
		return fmt.Sprintf("DNAT %s %s → %s", o.Flow.Proto, host, o.Flow.To)
	case set == "masquerade":
		return "SNAT " + o.KeyText + " → the host's address (masquerade)"
	case strings.HasPrefix(o.Set, "snat"):
		return "SNAT " + o.KeyText + " → " + o.DataText
	case set == "endpoints":
		return "endpoint " + first + " is behind " + second
	case set == "gateways":
		return "the host's address " + first + " may be seen from " + second
	case set == "holes":
		f := strings.Split(o.KeyText, " . ")
		return fmt.Sprintf("link: %s may reach %s port %s/%s", f[0], f[1], f[3], f[2])
	case set == "bridges":
		return "guard: " + first + " is ours, and judged"
	case set == "borrowed":
		return "guard: " + first + " carries containers, and those are judged"
	case set == "flat":
		return "what stays on the wire behind " + first + " is not judged"
	case set == "icc":
		return "containers on " + first + " reach each other"
	case set == "egress":
		return "containers on " + first + " may leave the host"
	case set == "internal":
		return "guard: " + first + " is internal"
	case set == "inbound" && o.Verdict == dataplane.InboundOpen:
		return "every port of the containers on " + first + " is open by their own address"
	case set == "inbound":
		return "published ports on " + first + " are open by the containers' own address"
	case set == "direct":
		return "direct routing to published ports on " + first
	case set == "trusted":
		return "direct routing to published ports from " + first + " to " + second
	case strings.HasPrefix(o.Set, "open"):
		f := strings.Split(o.KeyText, " . ")
		if strings.HasSuffix(o.Set, "_64") {
			return fmt.Sprintf("direct routing to %s, 64 ports from %s/%s", f[0], f[2], f[1])
		}
		return fmt.Sprintf("direct routing to %s port %s/%s", f[0], f[2], f[1])
	case set == "mesh" && o.Verdict == "accept":
		return "containers of " + first + " on this host and on others reach each other, by their own addresses"
	case set == "mesh":
		return "containers of " + first + " on this host and on others reach each other, encrypted only"
	case set == "secure":
		return first + " encrypts what goes to other hosts"
	case set == "spans":
		return "connections over " + first + " begin with segments that fit the path"
	case set == "peers":
		return "host " + first + " is of the mesh: its tunnelled packets are taken"
	case set == "vnis":
		return fmt.Sprintf("guard: VXLAN %s on UDP port %s is ours: from hosts of the mesh only", vni(second), first)
	case set == "vnis_secure":
		return fmt.Sprintf("guard: VXLAN %s on UDP port %s is encrypted: never in plain text", vni(second), first)
	case set == "tunnels":
		return "guard: who has which address is not asked through " + first
	case set == "forward_guard":
		return "guard: nothing else is forwarded by " + first
	case set == "switched":
		return "what " + first + " only switches is not judged"
	}
	return o.Set + " " + o.KeyText
}

// vni is a VXLAN's number as ip(8) writes it.
func vni(hex string) string {
	n, err := strconv.ParseUint(hex, 0, 32)
	if err != nil {
		return hex
	}
	return strconv.FormatUint(n, 10)
}

// fields are the first two of a key, without their quotes.
func fields(key string) (first, second string) {
	first, second, _ = strings.Cut(key, " . ")
	return strings.Trim(first, `"`), strings.Trim(second, `"`)
}
