package ruleset

import "encoding/binary"

// each walks netlink attributes (netlink(7)); what is torn ends the walk.
func each(b []byte, fn func(typ uint16, data []byte)) {
	ne := binary.NativeEndian
	for len(b) >= 4 {
		n, t := int(ne.Uint16(b)), ne.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return
		}
		fn(t&0x3fff, b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// attrs are a message's attributes by type; of a repeated one the last.
type attrs map[uint16][]byte

func attrsOf(b []byte) attrs {
	a := attrs{}
	each(b, func(typ uint16, data []byte) { a[typ] = data })
	return a
}

// num is a number in network order, as nf_tables has them.
func (a attrs) num(typ uint16) uint64 {
	d := a[typ]
	if len(d) > 8 {
		return 0
	}
	var v uint64
	for _, c := range d {
		v = v<<8 | uint64(c)
	}
	return v
}

func (a attrs) u32(typ uint16) uint32   { return uint32(a.num(typ)) }
func (a attrs) reg(typ uint16) Register { return Register(a.num(typ)) }
func (a attrs) has(typ uint16) bool     { _, ok := a[typ]; return ok }

func (a attrs) text(typ uint16) string {
	d := a[typ]
	for i, c := range d {
		if c == 0 {
			return string(d[:i])
		}
	}
	return string(d)
}

// value is NFTA_DATA_VALUE of a nested attribute, copied.
func (a attrs) value(typ uint16) []byte {
	v, ok := attrsOf(a[typ])[1]
	if !ok {
		return nil
	}
	return append(make([]byte, 0, len(v)), v...)
}

// verdict is NFTA_DATA_VERDICT of a nested attribute; nil when there is none.
func (a attrs) verdict(typ uint16) *Verdict {
	d, ok := attrsOf(a[typ])[2]
	if !ok {
		return nil
	}
	in := attrsOf(d)
	v := &Verdict{Code: verdictCode(int32(in.u32(1))), Chain: in.text(2)}
	return v
}

// verdictCode names one (netfilter.h, nf_tables.h).
func verdictCode(n int32) string {
	switch n {
	case 0:
		return "drop"
	case 1:
		return "accept"
	case 2:
		return "stolen"
	case 4:
		return "repeat"
	case -1:
		return "continue"
	case -2:
		return "break"
	case -3:
		return "jump"
	case -4:
		return "goto"
	case -5:
		return "return"
	}
	if n >= 0 && n&0xff == 3 {
		return "queue"
	}
	return "unknown"
}
