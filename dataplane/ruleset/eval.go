package ruleset

import (
	"bytes"
	"encoding/binary"
)

// at returns the place of a register in memory.
func (r Register) at() (int, bool) {
	switch {
	case r >= 1 && r <= 4:
		return int(r-1) * 16, true
	case r >= 8 && r < 24:
		return int(r-8) * 4, true
	}
	return 0, false
}

// load reads n bytes; known is false when something of it is not.
func (w *walker) load(r Register, n int) (b []byte, known bool) {
	at, ok := r.at()
	if !ok || n < 0 || at+n > len(w.regs) {
		return make([]byte, max(n, 0)), false
	}
	for i := at / 4; i < (at+n+3)/4; i++ {
		if w.taint&(1<<i) != 0 {
			return w.regs[at : at+n], false
		}
	}
	return w.regs[at : at+n], true
}

// store writes a value, padded to whole words as the kernel does.
func (w *walker) store(r Register, b []byte) {
	at, ok := r.at()
	if !ok || at+len(b) > len(w.regs) {
		return
	}
	n := (len(b) + 3) &^ 3
	copy(w.regs[at:at+n], make([]byte, n))
	copy(w.regs[at:], b)
	for i := at / 4; i < (at+n)/4; i++ {
		w.taint &^= 1 << i
	}
}

// unknown marks a register as not known.
func (w *walker) unknown(r Register, n int) {
	at, ok := r.at()
	if !ok {
		return
	}
	for i := at / 4; i < min((at+max(n, 4)+3)/4, 16); i++ {
		w.taint |= 1 << i
	}
}

// unsure goes on with a rule of which it is not known whether it matches.
func (w *walker) unsure(why string) result {
	if w.doubt == "" {
		w.doubt = why
	}
	return match
}

func truth(ok bool) result {
	if ok {
		return match
	}
	return mismatch
}

// eval evaluates one expression.
func (w *walker) eval(c *Chain, e Expr) result {
	switch x := e.(type) {
	case Immediate:
		if x.Verdict != nil {
			return result{verdict: x.Verdict}
		}
		w.store(x.To, x.Value)
		return match
	case Meta:
		return w.meta(x)
	case Payload:
		return w.payload(x)
	case CT:
		return w.conntrack(x)
	case FIB:
		return w.fib(x)
	case Cmp:
		b, known := w.load(x.From, len(x.Value))
		if !known {
			return w.unsure("it compares what cannot be known beforehand")
		}
		return truth(compare(bytes.Compare(b, x.Value), x.Op))
	case Range:
		b, known := w.load(x.From, len(x.Low))
		if !known {
			return w.unsure("it compares what cannot be known beforehand")
		}
		in := bytes.Compare(b, x.Low) >= 0 && bytes.Compare(b, x.High) <= 0
		return truth(in == (x.Op == 0))
	case Bitwise:
		w.bitwise(x)
		return match
	case Byteorder:
		w.byteorder(x)
		return match
	case Lookup:
		return w.lookup(c, x)
	case Counter, Log, Last, Offload, Dup:
		return match
	case Limit:
		return w.assume(x.Over, "a rate limit")
	case Quota:
		return truth((x.Consumed >= x.Bytes) == x.Over)
	case ConnLimit:
		return w.assume(x.Over, "a limit of connections")
	case Dynset:
		return w.dynset(c, x)
	case ObjRef:
		return w.objref(c, x)
	case NAT, Masq, Redir:
		return w.nat(e)
	case Reject:
		return result{reject: true}
	case Queue:
		return give("queue")
	case Notrack:
		if !w.tracked {
			w.untracked = true
		}
		return match
	case RT:
		w.unknown(x.To, 16)
		return match
	case Numgen:
		w.unknown(x.To, 4)
		return match
	case Hash:
		w.unknown(x.To, 4)
		return match
	case Socket:
		w.unknown(x.To, 8)
		return match
	case ExtHdr:
		return w.extHdr(x)
	case Fwd:
		return result{fatal: "the rule sends packets away to another interface"}
	case TProxy:
		return result{fatal: "the rule gives packets to a transparent proxy"}
	case IPMatch:
		return truth(x.matches(w.p))
	case Match:
		return w.xtMatch(x)
	case Target:
		return w.xtTarget(x)
	case Unknown:
		return w.unsure("the expression \"" + x.Name + "\" is not known")
	}
	return w.unsure("an expression is not known")
}

// assume is for what depends on other packets: one packet does not exceed a limit.
func (w *walker) assume(over bool, what string) result {
	text := what + " is assumed not to be exceeded"
	for _, a := range w.assumed {
		if a == text {
			return truth(!over)
		}
	}
	w.assumed = append(w.assumed, text)
	return truth(!over)
}

func compare(c int, op uint32) bool {
	switch op {
	case cmpEq:
		return c == 0
	case cmpNeq:
		return c != 0
	case cmpLt:
		return c < 0
	case cmpLte:
		return c <= 0
	case cmpGt:
		return c > 0
	case cmpGte:
		return c >= 0
	}
	return false
}

// operand copies what an expression computes with. ok is false where that cannot be had:
// of an unknown one the result is unknown too.
func (w *walker) operand(from, to Register, n int) (out []byte, ok bool) {
	if n <= 0 || n > len(w.regs) {
		return nil, false
	}
	b, known := w.load(from, n)
	if !known {
		w.unknown(to, n)
		return nil, false
	}
	return bytes.Clone(b), true
}

func (w *walker) bitwise(x Bitwise) {
	n := int(x.Len)
	out, ok := w.operand(x.From, x.To, n)
	if !ok {
		return
	}
	switch x.Op {
	case 0:
		for i := range out {
			if i < len(x.Mask) && i < len(x.Xor) {
				out[i] = out[i]&x.Mask[i] ^ x.Xor[i]
			}
		}
	case 1, 2: // shifts of a number in network order
		shift(out, x.Shift, x.Op == 1)
	case 3, 4, 5: // and, or, xor of two registers, or with a value
		o, ok := x.Mask, true
		if x.From2 != 0 {
			o, ok = w.load(x.From2, n)
		}
		if !ok || len(o) < n {
			w.unknown(x.To, n)
			return
		}
		for i := range out {
			switch x.Op {
			case 3:
				out[i] &= o[i]
			case 4:
				out[i] |= o[i]
			case 5:
				out[i] ^= o[i]
			}
		}
	}
	w.store(x.To, out)
}

// shift moves by bits, words being in the machine's order and the first one the highest
// (nft_bitwise_eval_lshift).
func shift(b []byte, n uint32, left bool) {
	ne := binary.NativeEndian
	words := len(b) / 4
	if n == 0 || n > 31 {
		return
	}
	var carry uint32
	for i := range words {
		at := i
		if left {
			at = words - 1 - i
		}
		v := ne.Uint32(b[4*at:])
		if left {
			ne.PutUint32(b[4*at:], v<<n|carry)
			carry = v >> (32 - n)
		} else {
			ne.PutUint32(b[4*at:], carry|v>>n)
			carry = v << (32 - n)
		}
	}
}

func (w *walker) byteorder(x Byteorder) {
	n := int(x.Len)
	out, ok := w.operand(x.From, x.To, n)
	if !ok {
		return
	}
	ne, be := binary.NativeEndian, binary.BigEndian
	for i := 0; i+int(x.Size) <= len(out) && x.Size > 0; i += int(x.Size) {
		switch x.Size {
		case 2:
			be.PutUint16(out[i:], ne.Uint16(out[i:]))
		case 4:
			be.PutUint32(out[i:], ne.Uint32(out[i:]))
		case 8:
			be.PutUint64(out[i:], ne.Uint64(out[i:]))
		}
	}
	w.store(x.To, out)
}

// extHdr reads extension headers and TCP options, which an imagined packet has none of.
func (w *walker) extHdr(x ExtHdr) result {
	if x.From != 0 || x.To == 0 {
		return match // it writes one
	}
	if x.Op != 0 { // not IPv6's
		w.unknown(x.To, int(x.Len))
		return match
	}
	if x.Flags&1 != 0 { // is it there?
		w.store(x.To, []byte{0})
		return match
	}
	return mismatch
}
