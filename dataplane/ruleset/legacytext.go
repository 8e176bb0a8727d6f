package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// legacyText is the rule as `iptables -S` writes it.
func (r *Rule) legacyText(w *writer) string {
	out := []string{"-A " + r.chain.Name}
	for _, e := range r.Exprs {
		switch x := e.(type) {
		case IPMatch:
			out = append(out, x.text())
		case Match:
			if x.Name == "comment" {
				format := "-m comment --comment %s"
				if strings.ContainsAny(r.Comment, " \t\"'\\") {
					format = "-m comment --comment %q"
				}
				out = append(out, fmt.Sprintf(format, r.Comment))
			} else {
				out = append(out, x.text())
			}
		case Target:
			out = append(out, x.textIn(w.table.Family))
		case Immediate:
			switch v := x.Verdict; v.Code {
			case "jump":
				out = append(out, "-j "+v.Chain)
			case "goto":
				out = append(out, "-g "+v.Chain)
			default:
				out = append(out, "-j "+strings.ToUpper(v.Code))
			}
		}
	}
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), " ")
}

func (m IPMatch) text() string {
	var s []string
	add := func(bit byte, flag, v string) {
		if m.Not&bit != 0 {
			s = append(s, "!")
		}
		s = append(s, flag, v)
	}
	for _, a := range []struct {
		ip   netip.Addr
		mask []byte
		bit  byte
		flag string
	}{{m.Src, m.SrcMask, invSrc, "-s"}, {m.Dst, m.DstMask, invDst, "-d"}} {
		n := prefixBits(a.mask)
		if n == 0 && m.Not&a.bit == 0 {
			continue
		}
		if n >= 0 {
			add(a.bit, a.flag, fmt.Sprintf("%s/%d", a.ip, n))
		} else {
			mask, _ := netip.AddrFromSlice(a.mask)
			add(a.bit, a.flag, fmt.Sprintf("%s/%s", a.ip, mask))
		}
	}
	if m.In != "" {
		add(invIn, "-i", m.In)
	}
	if m.Out != "" {
		add(invOut, "-o", m.Out)
	}
	if m.Proto != 0 {
		add(invProto, "-p", protoText(m.Proto))
	}
	if m.Frag {
		s = append(s, "-f")
	}
	return strings.Join(s, " ")
}
