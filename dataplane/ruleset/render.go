package ruleset

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Text is the rule as `nft list` writes it, as nearly as it can be told from what the
// kernel keeps: without counters' values and handle, with its comment. Extensions of
// iptables are written as iptables does.
func (r *Rule) Text() string {
	w := &writer{}
	if r.chain != nil && r.chain.table != nil {
		w.table = r.chain.table
		switch f := w.table.Family; f {
		case "ip", "ip6", "arp":
			w.l3 = f
		}
	}
	if w.table != nil && w.table.Legacy {
		return r.legacyText(w)
	}
	for _, e := range r.Exprs {
		w.expr(e)
	}
	if r.Comment != "" {
		w.say("comment %q", r.Comment)
	}
	return strings.Join(slices.DeleteFunc(w.out, func(s string) bool { return s == "" }), " ")
}

// writer runs a rule with symbols in the registers.
type writer struct {
	table  *Table
	out    []string
	regs   [16]symbol
	l3, l4 string
	// A comparison of the protocol is taken out again when what follows says it too, as
	// "tcp dport" does: its place in out, and 1 more. A statement ends that.
	slot3, slot4 int
}

func (w *writer) say(format string, a ...any) { w.out = append(w.out, fmt.Sprintf(format, a...)) }

// imply takes out what the next words imply: "3", "4" or "34".
func (w *writer) imply(what string) {
	for _, s := range []struct {
		layer string
		slot  *int
	}{{"3", &w.slot3}, {"4", &w.slot4}} {
		if *s.slot != 0 && strings.Contains(what, s.layer) {
			w.out[*s.slot-1] = ""
			*s.slot = 0
		}
	}
}

// settle keeps them.
func (w *writer) settle() { w.slot3, w.slot4 = 0, 0 }

func (w *writer) set(r Register, s symbol) {
	at, ok := r.at()
	if !ok || at/4 >= len(w.regs) {
		return
	}
	s.at = at / 4
	for i := s.at; i < min(s.at+max((s.len+3)/4, 1), len(w.regs)); i++ {
		w.regs[i] = s
	}
}

func (w *writer) get(r Register) symbol {
	at, ok := r.at()
	if !ok || at/4 >= len(w.regs) {
		return symbol{}
	}
	return w.regs[at/4]
}

// key writes n bytes of registers: a concatenation's parts with dots.
func (w *writer) key(r Register, n int) (text string, kinds []kind, implies string) {
	at, ok := r.at()
	if !ok {
		return "?", nil, ""
	}
	var all []string
	for i := at / 4; i < min((at+n+3)/4, len(w.regs)); {
		s := w.regs[i]
		all = append(all, w.written(s))
		kinds = append(kinds, s.kind)
		implies += s.implies
		i = max(s.at+(s.len+3)/4, i+1)
	}
	return strings.Join(all, " . "), kinds, implies
}

// written is a symbol outside of a comparison.
func (w *writer) written(s symbol) string {
	switch {
	case s.value != nil:
		return s.kind.value(s.value)
	case s.mask != nil && len(s.xor) == len(s.mask) && inverse(s.mask, s.xor):
		return s.text + " | " + s.constant(s.xor)
	case s.mask != nil && len(s.xor) == len(s.mask) && prefixBits(s.mask) == 8*len(s.mask):
		return s.text + " ^ " + s.constant(s.xor)
	case s.mask != nil:
		t := s.text + " & " + s.constant(s.mask)
		if len(bytes.Trim(s.xor, "\x00")) != 0 {
			t += " ^ " + s.constant(s.xor)
		}
		return t
	}
	return s.text
}

// inverse says that what a mask takes away the other sets: together they are an "or".
func inverse(mask, xor []byte) bool {
	for i := range mask {
		if mask[i] != ^xor[i] {
			return false
		}
	}
	return len(bytes.Trim(xor, "\x00")) != 0
}

// show writes a value that the symbol is compared with.
func (s symbol) show(b []byte) string {
	if s.swapped && s.kind.host() {
		b = bytes.Clone(b)
		slices.Reverse(b)
	}
	return s.kind.value(b)
}

// constant writes a mask.
func (s symbol) constant(b []byte) string {
	switch s.kind {
	case kindIP, kindIP6, kindTCPFlags, kindMark, kindEther:
		v := s.kind.value(b)
		if s.kind == kindTCPFlags && strings.Contains(v, "|") {
			return "(" + v + ")"
		}
		return v
	case kindUID, kindGID, kindIfIndex, kindGroup, kindCTState, kindCTStatus, kindFIBType:
		return fmt.Sprintf("0x%x", host32(b))
	}
	if s.kind == kindPort {
		return fmt.Sprintf("%d", number(b))
	}
	return fmt.Sprintf("0x%x", number(b))
}

var operators = []string{"", "!= ", "< ", "<= ", "> ", ">= "}

func (w *writer) expr(e Expr) {
	switch x := e.(type) {
	case Meta:
		if x.From != 0 {
			w.settle()
			w.say("%s set %s", metaSymbol(Meta{Key: x.Key}).text, w.typed(x.From, metaSymbol(Meta{Key: x.Key}).kind))
			return
		}
		w.set(x.To, metaSymbol(x))
	case Payload:
		s := w.payloadSymbol(x)
		if x.From != 0 {
			w.settle()
			w.say("%s set %s", s.text, w.typed(x.From, s.kind))
			return
		}
		w.set(x.To, s)
	case CT:
		s := ctSymbol(x)
		if x.From != 0 {
			w.settle()
			w.say("%s set %s", s.text, w.typed(x.From, s.kind))
			return
		}
		w.set(x.To, s)
	case FIB:
		w.set(x.To, fibSymbol(x))
	case Bitwise:
		w.bitwise(x)
	case Byteorder:
		b := w.get(x.From)
		b.swapped = !b.swapped
		w.set(x.To, b)
	case Cmp:
		w.cmp(x)
	case Range:
		s := w.get(x.From)
		w.imply(s.implies)
		w.say("%s %s%s-%s", w.written(s), operators[x.Op&1], s.show(x.Low), s.show(x.High))
	case Lookup:
		w.lookup(x)
	case Immediate:
		if x.Verdict != nil {
			w.settle()
			w.say("%s", x.Verdict)
			return
		}
		w.set(x.To, symbol{value: x.Value, len: len(x.Value), kind: kindHex})
	default:
		w.settle()
		w.statement(e)
	}
}

// typed writes a register whose kind is another's: of a constant only the bytes are known.
func (w *writer) typed(r Register, k kind) string {
	s := w.get(r)
	if s.value != nil {
		return k.value(s.value)
	}
	return w.written(s)
}

func (w *writer) bitwise(x Bitwise) {
	s := w.get(x.From)
	switch x.Op {
	case 0:
		if s.mask == nil && s.value == nil {
			s.mask, s.xor = x.Mask, x.Xor
		} else {
			s.text, s.mask, s.xor = "("+w.written(s)+")", x.Mask, x.Xor
		}
	case 1:
		s.text, s.mask = fmt.Sprintf("%s << %d", w.written(s), x.Shift), nil
	case 2:
		s.text, s.mask = fmt.Sprintf("%s >> %d", w.written(s), x.Shift), nil
	default:
		s.text, s.mask = fmt.Sprintf("%s %s %s", w.written(s), []string{"&", "|", "^"}[(x.Op-3)%3], w.written(w.get(x.From2))), nil
	}
	w.set(x.To, s)
}

func (w *writer) cmp(x Cmp) {
	s := w.get(x.From)
	op := operators[min(int(x.Op), len(operators)-1)]
	if x.Op == cmpEq && len(x.Value) > 0 && s.mask == nil {
		// Which protocol it is, is often said by the next field's name.
		proto4 := func() {
			w.imply(s.implies)
			w.l4 = protoText(x.Value[0])
			w.say("%s %s", s.text, w.l4)
			w.slot4 = len(w.out)
		}
		switch {
		case s.text == "meta nfproto" || s.text == "meta protocol" && w.l3 == "":
			w.l3 = map[string]string{"ipv4": "ip", "ipv6": "ip6", "ip": "ip", "ip6": "ip6", "arp": "arp"}[s.kind.value(x.Value)]
			w.say("%s %s", s.text, s.kind.value(x.Value))
			w.slot3 = len(w.out)
			return
		case s.text == "meta l4proto" || s.text == "ip protocol" || s.text == "ip6 nexthdr":
			proto4()
			return
		}
	}
	w.imply(s.implies)
	zero := len(bytes.Trim(x.Value, "\x00")) == 0
	plainXor := len(bytes.Trim(s.xor, "\x00")) == 0
	switch {
	case s.mask != nil && plainXor && zero && x.Op == cmpNeq && (s.kind == kindCTState || s.kind == kindCTStatus || s.kind == kindTCPFlags):
		w.say("%s %s", s.text, strings.ReplaceAll(s.kind.value(s.mask), " | ", ","))
	case s.mask != nil && plainXor && zero && x.Op == cmpEq && (s.kind == kindCTState || s.kind == kindCTStatus):
		w.say("%s ! %s", s.text, s.kind.value(s.mask))
	case s.mask != nil && plainXor && s.text == w.l3+" dscp" && len(s.mask) == 1 && s.mask[0] == 0xfc && len(x.Value) == 1:
		w.say("%s %s%s", s.text, op, kindDSCP.value([]byte{x.Value[0] >> 2}))
	case s.mask != nil && plainXor && s.kind.address() && prefixBits(s.mask) >= 0 && x.Op <= cmpNeq:
		w.say("%s %s%s/%d", s.text, op, s.show(x.Value), prefixBits(s.mask))
	case s.mask != nil && plainXor && s.kind == kindTCPFlags && x.Op <= cmpNeq:
		w.say("%s %s%s / %s", s.text, op, flagNames(uint32(number(x.Value)), tcpNames, ","), flagNames(uint32(number(s.mask)), tcpNames, ","))
	case x.Op == cmpLte && s.mask == nil && len(w.out) > 0 && strings.HasPrefix(w.out[len(w.out)-1], w.written(s)+" >= "):
		// A range, as nft compiles it.
		low := strings.TrimPrefix(w.out[len(w.out)-1], w.written(s)+" >= ")
		w.out[len(w.out)-1] = fmt.Sprintf("%s %s-%s", w.written(s), low, s.show(x.Value))
	case s.mask != nil:
		if op == "" {
			op = "== "
		}
		w.say("%s %s%s", w.written(s), op, s.constant(x.Value))
	case s.full != 0: // the first bytes of an address
		full := append(bytes.Clone(x.Value), make([]byte, max(s.full-len(x.Value), 0))...)
		w.say("%s %s%s/%d", s.text, op, s.show(full), 8*len(x.Value))
	default:
		w.say("%s %s%s", w.written(s), op, s.show(x.Value))
	}
}

// prefixBits is a mask's length; -1 when it is none.
func prefixBits(mask []byte) int {
	n := 0
	for i, b := range mask {
		for bit := 7; bit >= 0; bit-- {
			set := b&(1<<bit) != 0
			if set && n != i*8+7-bit {
				return -1
			}
			n += b2i(set)
		}
	}
	return n
}

func (w *writer) lookup(x Lookup) {
	var s *Set
	if w.table != nil {
		s = w.table.Set(x.Set)
	}
	n := 4
	if s != nil {
		n = s.KeyLen
	}
	key, kinds, implies := w.key(x.From, n)
	w.imply(implies)
	name := "@" + x.Set
	if s != nil && s.Anonymous {
		name = s.inline(kinds)
	}
	switch {
	case !x.Data && x.Not:
		w.say("%s != %s", key, name)
	case !x.Data:
		w.say("%s %s", key, name)
	case x.To == 0:
		w.say("%s vmap %s", key, name)
	default:
		m := symbol{text: key + " map " + name, kind: kindHex, len: 4, mapped: true}
		if s != nil {
			m.len = max(s.DataLen, 4)
		}
		w.set(x.To, m)
	}
}
