package ruleset

// Exprs decodes NFTA_RULE_EXPRESSIONS: a list of names with attributes of their own
// (nf_tables.h; the numbers below are its enums').
func Exprs(b []byte) (all []Expr) {
	each(b, func(_ uint16, d []byte) {
		a := attrsOf(d)
		all = append(all, exprOf(a.text(1), a[2]))
	})
	return all
}

var decoders = map[string]func(attrs) Expr{
	"immediate": func(a attrs) Expr {
		return Immediate{To: a.reg(1), Value: a.value(2), Verdict: a.verdict(2)}
	},
	"meta": func(a attrs) Expr { return Meta{To: a.reg(1), Key: a.u32(2), From: a.reg(3)} },
	"payload": func(a attrs) Expr {
		return Payload{To: a.reg(1), Base: a.u32(2), Offset: a.u32(3), Len: a.u32(4), From: a.reg(5)}
	},
	"cmp": func(a attrs) Expr { return Cmp{From: a.reg(1), Op: a.u32(2), Value: a.value(3)} },
	"range": func(a attrs) Expr {
		return Range{From: a.reg(1), Op: a.u32(2), Low: a.value(3), High: a.value(4)}
	},
	"bitwise": func(a attrs) Expr {
		x := Bitwise{From: a.reg(1), To: a.reg(2), Len: a.u32(3), Mask: a.value(4), Xor: a.value(5), Op: a.u32(6), From2: a.reg(8)}
		if d := a.value(7); len(d) == 4 {
			x.Shift = hostU32(d)
		}
		return x
	},
	"byteorder": func(a attrs) Expr {
		return Byteorder{From: a.reg(1), To: a.reg(2), Op: a.u32(3), Len: a.u32(4), Size: a.u32(5)}
	},
	"lookup": func(a attrs) Expr {
		return Lookup{Set: a.text(1), From: a.reg(2), To: a.reg(3), Data: a.has(3), Not: a.u32(5)&1 != 0}
	},
	"ct": func(a attrs) Expr {
		x := CT{To: a.reg(1), Key: a.u32(2), Dir: -1, From: a.reg(4)}
		if a.has(3) {
			x.Dir = int(a.num(3))
		}
		return x
	},
	"fib": func(a attrs) Expr { return FIB{To: a.reg(1), Result: a.u32(2), Flags: a.u32(3)} },
	"rt":  func(a attrs) Expr { return RT{To: a.reg(1), Key: a.u32(2)} },
	"nat": func(a attrs) Expr {
		return NAT{Dest: a.u32(1) == 1, Family: a.u32(2), Addr: a.reg(3), AddrMax: a.reg(4), Port: a.reg(5), PortMax: a.reg(6), Flags: a.u32(7)}
	},
	"masq":    func(a attrs) Expr { return Masq{Flags: a.u32(1), Port: a.reg(2), PortMax: a.reg(3)} },
	"redir":   func(a attrs) Expr { return Redir{Port: a.reg(1), PortMax: a.reg(2), Flags: a.u32(3)} },
	"reject":  func(a attrs) Expr { return Reject{Type: a.u32(1), Code: a.u32(2)} },
	"counter": func(a attrs) Expr { return Counter{Bytes: a.num(1), Packets: a.num(2)} },
	"log": func(a attrs) Expr {
		x := Log{Prefix: a.text(2), Group: -1, Level: a.u32(5), Flags: a.u32(6), Snap: a.u32(3)}
		if a.has(1) {
			x.Group = int(a.num(1))
		}
		if !a.has(5) {
			x.Level = 4 // warning, nft's default
		}
		return x
	},
	"limit": func(a attrs) Expr {
		return Limit{Rate: a.num(1), Unit: a.num(2), Burst: a.u32(3), Bytes: a.u32(4) == 1, Over: a.u32(5)&1 != 0}
	},
	"quota":     func(a attrs) Expr { return Quota{Bytes: a.num(1), Over: a.u32(2)&1 != 0, Consumed: a.num(4)} },
	"connlimit": func(a attrs) Expr { return ConnLimit{Count: a.u32(1), Over: a.u32(2)&1 != 0} },
	"notrack":   func(attrs) Expr { return Notrack{} },
	"numgen": func(a attrs) Expr {
		return Numgen{To: a.reg(1), Modulus: a.u32(2), Type: a.u32(3), Offset: a.u32(4)}
	},
	"hash": func(a attrs) Expr {
		return Hash{From: a.reg(1), To: a.reg(2), Len: a.u32(3), Modulus: a.u32(4), Offset: a.u32(6), Type: a.u32(7)}
	},
	"exthdr": func(a attrs) Expr {
		return ExtHdr{To: a.reg(1), Type: a.u32(2), Offset: a.u32(3), Len: a.u32(4), Flags: a.u32(5), Op: a.u32(6), From: a.reg(7)}
	},
	"objref": func(a attrs) Expr {
		return ObjRef{Type: a.u32(1), Name: a.text(2), From: a.reg(3), Set: a.text(4)}
	},
	"queue":        func(a attrs) Expr { return Queue{Num: a.u32(1), Total: a.u32(2), Flags: a.u32(3)} },
	"dup":          func(a attrs) Expr { return Dup{Addr: a.reg(1), Dev: a.reg(2)} },
	"fwd":          func(a attrs) Expr { return Fwd{Dev: a.reg(1), Addr: a.reg(2)} },
	"tproxy":       func(a attrs) Expr { return TProxy{Family: a.u32(1), Addr: a.reg(2), Port: a.reg(3)} },
	"socket":       func(a attrs) Expr { return Socket{Key: a.u32(1), To: a.reg(2)} },
	"last":         func(attrs) Expr { return Last{} },
	"flow_offload": func(a attrs) Expr { return Offload{Table: a.text(1)} },
	"match": func(a attrs) Expr {
		return Match{Name: a.text(1), Rev: a.u32(2), Info: append([]byte(nil), a[3]...)}
	},
	"target": func(a attrs) Expr {
		return Target{Name: a.text(1), Rev: a.u32(2), Info: append([]byte(nil), a[3]...)}
	},
}

func exprOf(name string, body []byte) Expr {
	if name == "dynset" { // it has expressions of its own
		return dynsetOf(attrsOf(body))
	}
	if d := decoders[name]; d != nil {
		return d(attrsOf(body))
	}
	return Unknown{Name: name}
}

func dynsetOf(a attrs) Expr {
	x := Dynset{Set: a.text(1), Op: a.u32(3), Key: a.reg(4), Data: a.reg(5), Not: a.u32(9)&1 != 0}
	if d, ok := a[7]; ok {
		in := attrsOf(d)
		x.Exprs = append(x.Exprs, exprOf(in.text(1), in[2]))
	} else if d, ok := a[10]; ok {
		x.Exprs = Exprs(d)
	}
	return x
}
