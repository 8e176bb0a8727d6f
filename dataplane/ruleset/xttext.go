package ruleset

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// texts write a match as iptables does.
func (x Match) text() string {
	b := info(x.Info)
	var s []string
	add := func(not bool, format string, a ...any) {
		if not {
			s = append(s, "!")
		}
		s = append(s, fmt.Sprintf(format, a...))
	}
	ports := func(flag string, at int, not bool) {
		if low, high := b.u16(at), b.u16(at+2); low != 0 || high != 0xffff || not {
			add(not, "%s %s", flag, span16(low, high))
		}
	}
	switch x.Name {
	case "tcp", "udp":
		inv := b.u8(8)
		if x.Name == "tcp" {
			inv = b.u8(11)
		}
		ports("--sport", 0, inv&1 != 0)
		ports("--dport", 4, inv&2 != 0)
		if x.Name == "tcp" && b.u8(9) != 0 {
			add(inv&4 != 0, "--tcp-flags %s %s", tcpList(b.u8(9)), tcpList(b.u8(10)))
		}
	case "sctp":
		if b.u32(60)&1 != 0 {
			ports("--sport", 4, b.u32(64)&1 != 0)
		}
		if b.u32(60)&2 != 0 {
			ports("--dport", 0, b.u32(64)&2 != 0)
		}
	case "multiport":
		var all []string
		for i := 0; i < int(b.u8(1)) && i < 15; i++ {
			one := itoa(int(b.u16(2 + 2*i)))
			if x.Rev >= 1 && b.u8(32+i) != 0 {
				i++
				one += ":" + itoa(int(b.u16(2+2*i)))
			}
			all = append(all, one)
		}
		flag := []string{"--sports", "--dports", "--ports"}[min(int(b.u8(0)), 2)]
		add(x.Rev >= 1 && b.u8(47) != 0, "%s %s", flag, strings.Join(all, ","))
	case "addrtype":
		types := func(mask uint16) string {
			var all []string
			for i, t := range addrTypes {
				if mask&(1<<i) != 0 {
					all = append(all, strings.ToUpper(t))
				}
			}
			return strings.Join(all, ",")
		}
		if m := b.u16(0); m != 0 {
			add(b.u32(4)&1 != 0, "--src-type %s", types(m))
		}
		if m := b.u16(2); m != 0 {
			add(x.Rev > 0 && b.u32(4)&2 != 0 || x.Rev == 0 && b.u32(8) != 0, "--dst-type %s", types(m))
		}
	case "conntrack":
		if b.u16(146)&xtStateAlias != 0 {
			not := ""
			if b.u16(148)&xtState != 0 {
				not = "! "
			}
			return "-m state " + not + "--state " + stateList(b.u16(150))
		}
		s = append(s, conntrackText(b)...)
	case "state":
		add(false, "--state %s", stateList(uint16(b.u32(0)&^64|(b.u32(0)&64)<<2)))
	case "mark", "connmark":
		add(b.u8(8) != 0, "--mark %s", markText(b.u32(0), b.u32(4)))
	case "limit":
		add(false, "--limit %s", rateText(b.u32(0)))
		if n := b.u32(4); n != 5 {
			add(false, "--limit-burst %d", n)
		}
	case "iprange":
		f := b.u8(64)
		v6 := len(strings.Trim(string(b[min(4, len(b)):min(16, len(b))]), "\x00")) != 0
		if f&1 != 0 {
			add(f&16 != 0, "--src-range %s-%s", b.addr(0, v6), b.addr(16, v6))
		}
		if f&2 != 0 {
			add(f&32 != 0, "--dst-range %s-%s", b.addr(32, v6), b.addr(48, v6))
		}
	case "physdev":
		for _, p := range []struct {
			bit  byte
			text string
		}{{1, "--physdev-in " + b.text(0, 16)}, {2, "--physdev-out " + b.text(32, 16)}, {8, "--physdev-is-in"}, {16, "--physdev-is-out"}, {4, "--physdev-is-bridged"}} {
			if b.u8(65)&p.bit != 0 {
				add(b.u8(64)&p.bit != 0, "%s", p.text)
			}
		}
	case "owner":
		for i, flag := range []string{"--uid-owner", "--gid-owner"} {
			if b.u8(16)&(1<<i) != 0 {
				add(b.u8(17)&(1<<i) != 0, "%s %d", flag, b.u32(8*i))
			}
		}
	case "mac":
		add(b.u32(8) != 0, "--mac-source %s", net.HardwareAddr(b[:min(6, len(b))]))
	case "icmp":
		if b.u8(0) != 0xff {
			add(b.u8(3)&1 != 0, "--icmp-type %d", b.u8(0))
		}
	case "icmp6":
		add(b.u8(3)&1 != 0, "--icmpv6-type %d", b.u8(0))
	case "rpfilter":
		if b.u8(0)&1 != 0 {
			add(false, "--loose")
		}
		if b.u8(0)&8 != 0 {
			add(false, "--invert")
		}
	case "length":
		add(b.u8(4) != 0, "--length %s", span16(b.u16(0), b.u16(2)))
	}
	return strings.Join(append([]string{"-m " + x.Name}, s...), " ")
}

// rateText is a limit's: its unit is a ten-thousandth of a second between packets.
func rateText(avg uint32) string {
	for _, u := range []struct {
		scale uint64
		name  string
	}{{10_000, "sec"}, {600_000, "min"}, {36_000_000, "hour"}, {864_000_000, "day"}} {
		if avg != 0 && u.scale >= uint64(avg) {
			return fmt.Sprintf("%d/%s", u.scale/uint64(avg), u.name)
		}
	}
	return fmt.Sprintf("1/%dsec", avg/10_000)
}

func span16(low, high uint16) string {
	if low == high {
		return itoa(int(low))
	}
	return fmt.Sprintf("%d:%d", low, high)
}

func tcpList(f byte) string {
	if f == 0 {
		return "NONE"
	}
	return strings.ToUpper(flagNames(uint32(f), tcpNames, ","))
}

func markText(v, mask uint32) string {
	if mask == 0xffffffff {
		return fmt.Sprintf("0x%x", v)
	}
	return fmt.Sprintf("0x%x/0x%x", v, mask)
}

func stateList(mask uint16) string {
	return strings.ToUpper(flagNames(uint32(mask), []flagName{{1, "invalid"}, {8, "new"}, {4, "related"}, {2, "established"}, {256, "untracked"}, {64, "snat"}, {128, "dnat"}}, ","))
}

func conntrackText(b info) (s []string) {
	flags, inv := b.u16(146), b.u16(148)
	add := func(bit uint16, format string, a ...any) {
		if flags&bit == 0 {
			return
		}
		if inv&bit != 0 {
			s = append(s, "!")
		}
		s = append(s, fmt.Sprintf(format, a...))
	}
	add(xtState, "--ctstate %s", stateList(b.u16(150)))
	add(xtProto, "--ctproto %d", b.u16(136))
	add(xtStatus, "--ctstatus %s", strings.ToUpper(flagNames(uint32(b.u16(152)), statusNames, ",")))
	for i, name := range []string{"--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"} {
		add(xtOrigSrc<<i, "%s %s", name, b.addr(32*i, false))
		add(xtOrigSrcPort<<i, "%sport %s", name, span16(b.u16(138+2*i), b.u16(154+2*i)))
	}
	if flags&xtDirection != 0 {
		dir := "ORIGINAL"
		if inv&xtDirection != 0 {
			dir = "REPLY"
		}
		s = append(s, "--ctdir "+dir)
	}
	return s
}

var rejectWith = []string{"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "icmp-echo-reply",
	"icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset", "icmp-admin-prohibited"}
var reject6With = []string{"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbour", "icmp6-addr-unreachable", "icmp6-port-unreachable", "icmp6-echo-reply", "tcp-reset"}

// textIn writes a target as iptables does, in a table of that family.
func (x Target) textIn(family string) string {
	b := info(x.Info)
	s := "-j " + x.Name
	v6 := family == "ip6"
	switch x.Name {
	case "LOG":
		if p := b.text(2, 30); p != "" {
			s += fmt.Sprintf(" --log-prefix %q", p)
		}
	case "NFLOG":
		s += fmt.Sprintf(" --nflog-group %d", b.u16(4))
	case "REJECT":
		names := rejectWith
		if v6 {
			names = reject6With
		}
		s += " --reject-with " + code(names, b.u32(0))
	case "MARK":
		s += " --set-xmark " + fmt.Sprintf("0x%x/0x%x", b.u32(0), b.u32(4))
	case "CONNMARK":
		s += " " + code([]string{fmt.Sprintf("--set-xmark 0x%x/0x%x", b.u32(0), b.u32(4)), "--save-mark", "--restore-mark"}, uint32(b.u8(12)))
	case "CT":
		if b.u16(0)&1 != 0 {
			s += " --notrack"
		}
	case "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP":
		t, flags := xtRange(x.Name, x.Rev, b, v6)
		to := ""
		if t.low.IsValid() {
			to = t.low.String()
			if t.high != t.low {
				to += "-" + t.high.String()
			}
			if v6 && t.hasPort {
				to = "[" + to + "]"
			}
		}
		ports := ""
		if t.hasPort {
			ports = strings.ReplaceAll(span16(t.port, t.end), ":", "-")
		}
		switch {
		case x.Name == "DNAT" || x.Name == "SNAT":
			flag := map[string]string{"DNAT": " --to-destination ", "SNAT": " --to-source "}[x.Name]
			if ports != "" {
				to += ":" + ports
			}
			s += flag + to
		case x.Name == "NETMAP":
			s += " --to " + netmapText(t)
		case ports != "":
			s += " --to-ports " + ports
		}
		if flags&4 != 0 {
			s += " --random"
		}
		if flags&16 != 0 {
			s += " --random-fully"
		}
		if flags&8 != 0 && x.Name != "MASQUERADE" {
			s += " --persistent"
		}
	}
	return s
}

func netmapText(t translation) string {
	if !t.low.IsValid() || !t.high.IsValid() {
		return ""
	}
	if n := commonPrefix(t.low.AsSlice(), t.high.AsSlice()); n >= 0 {
		return netip.PrefixFrom(t.low, n).String()
	}
	return t.low.String() + "-" + t.high.String()
}
