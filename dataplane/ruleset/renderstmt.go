package ruleset

import (
	"fmt"
	"net/netip"
	"strings"
)

var logLevels = []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"}

// Codes of reject (icmp, icmpv6, and those of both: "icmpx").
var (
	icmpCodes  = []string{"net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable", "", "", "", "", "", "net-prohibited", "host-prohibited", "", "", "admin-prohibited"}
	icmp6Codes = []string{"no-route", "admin-prohibited", "", "addr-unreachable", "port-unreachable", "policy-fail", "reject-route"}
	icmpxCodes = []string{"no-route", "port-unreachable", "host-unreachable", "admin-prohibited"}
)

func code(names []string, n uint32) string {
	if int(n) < len(names) && names[n] != "" {
		return names[n]
	}
	return itoa(int(n))
}

// statement writes what is no comparison.
func (w *writer) statement(e Expr) {
	switch x := e.(type) {
	case Counter:
		w.say("counter")
	case Log:
		s := "log"
		if x.Prefix != "" {
			s += fmt.Sprintf(" prefix %q", x.Prefix)
		}
		if x.Group >= 0 {
			s += fmt.Sprintf(" group %d", x.Group)
			if x.Snap != 0 {
				s += fmt.Sprintf(" snaplen %d", x.Snap)
			}
		} else if x.Level != 4 {
			s += " level " + code(logLevels, x.Level)
		}
		w.say("%s", s)
	case Limit:
		w.say("%s", x.text())
	case Quota:
		w.say("quota %s%d bytes", overText(x.Over), x.Bytes)
	case ConnLimit:
		w.say("ct count %s%d", overText(x.Over), x.Count)
	case Reject:
		w.say("%s", w.reject(x))
	case NAT:
		name := "snat"
		if x.Dest {
			name = "dnat"
		}
		if f := families[byte(x.Family)]; w.table != nil && w.table.Family == "inet" && f != "inet" {
			name += " " + f
		}
		k := kindIP
		if families[byte(x.Family)] == "ip6" {
			k = kindIP6
		}
		if x.Flags&(1<<6) != 0 {
			name += " prefix"
		}
		w.say("%s%s%s", name, w.target(k, x.Addr, x.AddrMax, x.Port, x.PortMax), natFlags(x.Flags))
	case Masq:
		w.say("masquerade%s%s", w.target(0, 0, 0, x.Port, x.PortMax), natFlags(x.Flags))
	case Redir:
		w.say("redirect%s%s", w.target(0, 0, 0, x.Port, x.PortMax), natFlags(x.Flags))
	case Notrack:
		w.say("notrack")
	case Numgen:
		w.set(x.To, symbol{text: fmt.Sprintf("numgen %s mod %d", []string{"inc", "random"}[x.Type&1], x.Modulus), kind: kindGroup, len: 4})
	case Hash:
		key := ""
		if x.Type == 0 {
			key, _, _ = w.key(x.From, int(x.Len))
			key = "jhash " + key
		} else {
			key = "symhash"
		}
		w.set(x.To, symbol{text: fmt.Sprintf("%s mod %d", key, x.Modulus), kind: kindGroup, len: 4})
	case RT:
		s := symbol{text: "rt " + code([]string{"classid", "ip nexthop", "ip6 nexthop", "mtu", "ipsec"}, x.Key), kind: kindHex, len: 4}
		switch x.Key {
		case 1:
			s.kind = kindIP
		case 2:
			s.kind, s.len = kindIP6, 16
		}
		w.set(x.To, s)
	case Socket:
		w.set(x.To, symbol{text: "socket " + code([]string{"transparent", "mark", "wildcard", "cgroupv2"}, x.Key), kind: kindGroup, len: 4})
	case ExtHdr:
		s := fmt.Sprintf("%s %d", code([]string{"exthdr", "tcp option", "ip option", "sctp chunk", "dccp option"}, x.Op), x.Type)
		if x.Op == 1 && x.Type == 2 {
			s = "tcp option maxseg size"
		}
		if x.From != 0 {
			w.say("%s set %s", s, w.typed(x.From, kindPort))
			return
		}
		k := kindInteger
		if x.Flags&1 != 0 {
			k = kindBool
		}
		w.set(x.To, symbol{text: s, kind: k, len: int(max(x.Len, 1))})
	case Dynset:
		n := 4
		var s *Set
		if w.table != nil {
			if s = w.table.Set(x.Set); s != nil {
				n = s.KeyLen
			}
		}
		key, _, _ := w.key(x.Key, n)
		in := &writer{table: w.table}
		for _, e := range x.Exprs {
			in.expr(e)
		}
		w.say("%s @%s { %s }", code([]string{"add", "update", "delete"}, x.Op), x.Set, strings.Join(append([]string{key}, in.out...), " "))
	case ObjRef:
		kind := code(objectTypes, x.Type)
		if x.Set != "" {
			key, _, _ := w.key(x.From, 4)
			w.say("%s map @%s", key, x.Set)
			return
		}
		if kind == "ct helper" || kind == "ct timeout" {
			kind += " set"
		} else {
			kind += " name"
		}
		w.say("%s %q", kind, x.Name)
	case Queue:
		w.say("queue num %d", x.Num)
	case Dup:
		w.say("dup to %s", w.written(w.get(x.Addr|x.Dev)))
	case Fwd:
		w.say("fwd to %s", w.typed(x.Dev, kindIfIndex))
	case TProxy:
		w.say("tproxy%s", w.target(kindIP, x.Addr, 0, x.Port, 0))
	case Last:
		w.say("last")
	case Offload:
		w.say("flow add @%s", x.Table)
	case Match:
		if x.Name != "comment" { // the rule's comment comes last
			w.say("%s", x.text())
		}
	case Target:
		family := "ip"
		if w.table != nil {
			family = w.table.Family
		}
		w.say("%s", x.textIn(family))
	case Unknown:
		w.say("%s", x.Name)
	}
}

func overText(over bool) string {
	if over {
		return "over "
	}
	return ""
}

func (x Limit) text() string {
	unit := map[uint64]string{1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}[x.Unit]
	if x.Bytes {
		return fmt.Sprintf("limit rate %s%d bytes/%s burst %d bytes", overText(x.Over), x.Rate, unit, x.Burst)
	}
	if x.Burst == 5 {
		return fmt.Sprintf("limit rate %s%d/%s", overText(x.Over), x.Rate, unit)
	}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", overText(x.Over), x.Rate, unit, x.Burst)
}

func (w *writer) reject(x Reject) string {
	if x.Type == 1 {
		return "reject with tcp reset"
	}
	if x.Type == 2 {
		if x.Code == 1 {
			return "reject"
		}
		return "reject with icmpx " + code(icmpxCodes, x.Code)
	}
	if w.l3 == "ip6" && x.Code == 4 || w.l3 == "ip" && x.Code == 3 {
		return "reject"
	}
	if w.l3 == "ip6" {
		return "reject with icmpv6 " + code(icmp6Codes, x.Code)
	}
	return "reject with icmp " + code(icmpCodes, x.Code)
}

// target writes " to ADDRESS:PORT".
func (w *writer) target(k kind, addr, addrMax, port, portMax Register) string {
	a, p := "", ""
	one := func(r, last Register, k kind) string {
		if r == 0 {
			return ""
		}
		text := w.typed(r, k)
		if last != 0 && last != r {
			if end := w.typed(last, k); end != text && !w.get(last).mapped {
				if x, y := w.get(r), w.get(last); k.address() && x.value != nil && y.value != nil && len(x.value) == len(y.value) {
					return inclusive(k, x.value, y.value)
				}
				text += "-" + end
			}
		}
		return text
	}
	a, p = one(addr, addrMax, k), one(port, portMax, kindPort)
	switch {
	case a != "" && p != "" && w.get(addr).mapped && w.get(port).text == w.get(addr).text:
		return " to " + a // one map gives both
	case a != "" && p != "":
		if ip, err := netip.ParseAddr(a); err == nil && ip.Is6() {
			a = "[" + a + "]"
		}
		return " to " + a + ":" + p
	case a != "":
		return " to " + a
	case p != "":
		return " to :" + p
	}
	return ""
}

// natFlags are NF_NAT_RANGE_… (nf_nat.h).
func natFlags(f uint32) string {
	var all []string
	for _, n := range []flagName{{1 << 2, "random"}, {1 << 4, "fully-random"}, {1 << 3, "persistent"}} {
		if f&n.bit != 0 {
			all = append(all, n.name)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " " + strings.Join(all, ",")
}
