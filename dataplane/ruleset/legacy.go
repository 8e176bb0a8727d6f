package ruleset

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Legacy iptables keeps a table as one block of entries (linux/netfilter_ipv4/ip_tables.h,
// ip6_tables.h): built-in chains begin at known offsets, others behind an entry that
// names them; a jump is the offset of its target.

// LegacyInfo is struct ipt_getinfo.
type LegacyInfo struct {
	Name             string
	Hooks            uint32
	Entry, Underflow [5]uint32
	Entries, Size    uint32
}

// LegacyInfoSize is its length.
const LegacyInfoSize = 84

// DecodeLegacyInfo decodes what IPT_SO_GET_INFO answers.
func DecodeLegacyInfo(b []byte) (i LegacyInfo, err error) {
	if len(b) < LegacyInfoSize {
		return i, errors.New("the kernel's answer about an iptables table is too short")
	}
	x := info(b)
	i.Name, i.Hooks = x.text(0, 32), x.u32(32)
	for n := range 5 {
		i.Entry[n], i.Underflow[n] = x.u32(36+4*n), x.u32(56+4*n)
	}
	i.Entries, i.Size = x.u32(76), x.u32(80)
	return i, nil
}

// IPMatch is what every legacy rule has.
type IPMatch struct {
	Src, Dst         netip.Addr
	SrcMask, DstMask []byte
	In, Out          string // "eth+": any that begins so
	Proto            byte   // 0: any
	Not              byte   // bits of IPT_INV_…
	Frag             bool
}

func (IPMatch) expr() {}

const (
	invIn    = 0x01
	invOut   = 0x02
	invSrc   = 0x08
	invDst   = 0x10
	invProto = 0x40
)

// layout is where the fields of an entry are.
type layout struct {
	addr                       int // bytes of an address
	in, out, proto, flags, inv int
	target, next, elems        int
	gotoFlag, fragFlag         byte
}

var (
	layout4 = layout{addr: 4, in: 16, out: 32, proto: 80, flags: 82, inv: 83, target: 88, next: 90, elems: 112, gotoFlag: 2, fragFlag: 1}
	layout6 = layout{addr: 16, in: 64, out: 80, proto: 128, flags: 131, inv: 132, target: 140, next: 142, elems: 168, gotoFlag: 4}
)

var (
	legacyHooks  = []string{"prerouting", "input", "forward", "output", "postrouting"}
	legacyChains = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	legacyPrio   = map[string]int{"raw": -300, "mangle": -150, "filter": 0, "security": 50}
)

// DecodeLegacy decodes a table: family "ip" or "ip6", entries as IPT_SO_GET_ENTRIES
// answers them, without its header.
func DecodeLegacy(family string, i LegacyInfo, entries []byte) (*Table, error) {
	l := layout4
	if family == "ip6" {
		l = layout6
	}
	t := &Table{Family: family, Name: i.Name, Legacy: true}
	starts := map[uint32]*Chain{} // of chains, by the offset of their first rule
	policy := map[uint32]*Chain{} // of policies
	for n, hook := range legacyHooks {
		if i.Hooks&(1<<n) == 0 {
			continue
		}
		c := &Chain{Name: legacyChains[n], Hook: hook, Type: "filter", Priority: legacyPrio[i.Name], Policy: "accept"}
		if i.Name == "nat" {
			c.Type, c.Priority = "nat", prioDNAT
			if hook == "input" || hook == "postrouting" {
				c.Priority = prioSNAT
			}
		}
		t.Chains = append(t.Chains, c)
		starts[i.Entry[n]], policy[i.Underflow[n]] = c, c
	}
	type jump struct {
		rule *Rule
		to   uint32
		verb string
	}
	var jumps []jump
	var in *Chain
	for at := uint32(0); int(at)+l.elems <= len(entries); {
		e := info(entries[at:])
		next, target := uint32(e.u16(l.next)), int(e.u16(l.target))
		if int(next) < l.elems+32 || int(next) > len(e) || target < l.elems || target+32 > int(next) {
			return nil, fmt.Errorf("iptables-legacy table %s: an entry at %d makes no sense", i.Name, at)
		}
		if c := starts[at]; c != nil {
			in = c
		}
		name := info(e[target+2:]).text(0, 29)
		if name == "ERROR" { // the name of the chain that begins behind it, or the end
			if chain := info(e[target+32:next]).text(0, 30); chain != "ERROR" {
				in = &Chain{Name: chain}
				t.Chains = append(t.Chains, in)
				starts[at+next] = in
			}
			at += next
			continue
		}
		r := &Rule{Exprs: l.exprs(e[:next], target)}
		verdict, standard := int32(0), name == ""
		if standard {
			verdict = int32(info(e[target:next]).u32(32))
		} else {
			r.Exprs = append(r.Exprs, Target{Name: name, Rev: uint32(e[target+31]), Info: append([]byte(nil), e[target+32:next]...)})
		}
		if c := policy[at]; c != nil && standard {
			if verdict == -1 {
				c.Policy = "drop"
			}
			in = nil
			at += next
			continue
		}
		switch {
		case !standard:
		case verdict == -1:
			r.Exprs = append(r.Exprs, Immediate{Verdict: &Verdict{Code: "drop"}})
		case verdict == -2:
			r.Exprs = append(r.Exprs, Immediate{Verdict: &Verdict{Code: "accept"}})
		case verdict == -4:
			r.Exprs = append(r.Exprs, Immediate{Verdict: &Verdict{Code: "queue"}})
		case verdict < 0:
			r.Exprs = append(r.Exprs, Immediate{Verdict: &Verdict{Code: "return"}})
		case uint32(verdict) != at+next: // a jump to the next entry is no target at all
			verb := "jump"
			if e[l.flags]&l.gotoFlag != 0 {
				verb = "goto"
			}
			jumps = append(jumps, jump{r, uint32(verdict), verb})
		}
		if in != nil {
			in.Rules = append(in.Rules, r)
			r.Handle = uint64(len(in.Rules)) // its number, as -L --line-numbers has it
		}
		at += next
	}
	for _, j := range jumps {
		c := starts[j.to]
		if c == nil {
			return nil, fmt.Errorf("iptables-legacy table %s: a rule jumps to %d, where no chain begins", i.Name, j.to)
		}
		j.rule.Exprs = append(j.rule.Exprs, Immediate{Verdict: &Verdict{Code: j.verb, Chain: c.Name}})
	}
	for _, c := range t.Chains {
		if n := len(c.Rules); c.Hook == "" && n > 0 { // every chain of a person's ends in a return
			c.Rules = c.Rules[:n-1]
		}
		for _, r := range c.Rules {
			for _, e := range r.Exprs {
				if m, ok := e.(Match); ok && m.Name == "comment" {
					r.Comment = info(m.Info).text(0, 256)
				}
			}
		}
	}
	return t, nil
}

// exprs are the conditions of an entry.
func (l layout) exprs(e info, target int) []Expr {
	m := IPMatch{Src: e.addr(0, l.addr == 16), Dst: e.addr(l.addr, l.addr == 16), SrcMask: append([]byte(nil), e[2*l.addr:3*l.addr]...),
		DstMask: append([]byte(nil), e[3*l.addr:4*l.addr]...), In: device(e, l.in), Out: device(e, l.out), Proto: byte(e.u16(l.proto)), Not: e[l.inv],
		Frag: l.fragFlag != 0 && e[l.flags]&l.fragFlag != 0}
	all := []Expr{m}
	for at := l.elems; at+32 <= target; {
		n := int(e.u16(at))
		if n < 32 || at+n > target {
			break
		}
		all = append(all, Match{Name: e.text(at+2, 29), Rev: uint32(e[at+31]), Info: append([]byte(nil), e[at+32:at+n]...)})
		at += n
	}
	return all
}

// device reads an interface's name: where the mask ends before the name's end, any that
// begins so is meant.
func device(e info, at int) string {
	name := e.text(at, 16)
	if name == "" || strings.HasSuffix(name, "+") || e.u8(at+32+len(name)) != 0 {
		return name
	}
	return name + "+"
}

func (m IPMatch) matches(p Packet) bool {
	dev := func(want, is string) bool {
		if begin, any := strings.CutSuffix(want, "+"); any {
			return strings.HasPrefix(is, begin)
		}
		return want == "" || want == is
	}
	addr := func(is, want netip.Addr, mask []byte) bool {
		x, y := is.AsSlice(), want.AsSlice()
		if len(x) != len(y) || len(x) != len(mask) {
			return false
		}
		for i := range x {
			if (x[i]^y[i])&mask[i] != 0 {
				return false
			}
		}
		return true
	}
	return addr(p.Src, m.Src, m.SrcMask) != (m.Not&invSrc != 0) && addr(p.Dst, m.Dst, m.DstMask) != (m.Not&invDst != 0) &&
		dev(m.In, p.In) != (m.Not&invIn != 0) && dev(m.Out, p.Out) != (m.Not&invOut != 0) &&
		(m.Proto == 0 || (m.Proto == p.protoNumber()) != (m.Not&invProto != 0)) && !m.Frag
}
