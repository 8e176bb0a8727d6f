package ruleset

import (
	"encoding/binary"
	"time"
)

// Families by the kernel's numbers (NFPROTO_…).
var families = map[byte]string{1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

// FamilyNumber is the kernel's number of a family; 0 when there is none.
func FamilyNumber(name string) byte {
	for n, f := range families {
		if f == name {
			return n
		}
	}
	return 0
}

// FamilyName is the name of a family by the kernel's number.
func FamilyName(n byte) string { return families[n] }

// VerdictText names a verdict by the kernel's number.
func VerdictText(code int32, chain string) string { return Verdict{verdictCode(code), chain}.String() }

// hooks by number, of ip, ip6, inet and bridge.
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

// Messages are decoded after their nfnetlink header, whose first byte is the family.

// DecodeTable decodes NFT_MSG_NEWTABLE.
func DecodeTable(family byte, b []byte) *Table {
	a := attrsOf(b)
	return &Table{Family: families[family], Name: a.text(1), Handle: a.num(4), Dormant: a.u32(2)&1 != 0}
}

// DecodeChain decodes NFT_MSG_NEWCHAIN, and says whose it is.
func DecodeChain(family byte, b []byte) (table string, c *Chain) {
	a := attrsOf(b)
	c = &Chain{Name: a.text(3), Handle: a.num(2)}
	hook, ok := a[4]
	if !ok {
		return a.text(1), c
	}
	h := attrsOf(hook)
	c.Type, c.Priority, c.Policy = a.text(7), int(int32(h.u32(2))), "accept"
	if a.has(5) && a.u32(5) == 0 {
		c.Policy = "drop"
	}
	switch n := h.u32(1); {
	case families[family] == "netdev":
		c.Hook = "ingress"
		if n == 1 {
			c.Hook = "egress"
		}
	case families[family] == "arp":
		c.Hook = []string{"input", "output"}[n&1]
	case int(n) < len(hooks):
		c.Hook = hooks[n]
	}
	if h.has(3) {
		c.Devices = append(c.Devices, h.text(3))
	} else {
		each(h[4], func(typ uint16, d []byte) { c.Devices = append(c.Devices, attrs{0: d}.text(0)) })
	}
	return a.text(1), c
}

// DecodeRule decodes NFT_MSG_NEWRULE, and says whose it is.
func DecodeRule(b []byte) (table, chain string, r *Rule) {
	a := attrsOf(b)
	r = &Rule{Handle: a.num(3), Exprs: Exprs(a[4]), Comment: comment(a[7])}
	for _, e := range r.Exprs {
		if m, ok := e.(Match); ok && m.Name == "comment" && r.Comment == "" {
			r.Comment = info(m.Info).text(0, 256)
		}
	}
	return a.text(1), a.text(2), r
}

// comment reads the first entry of nft's user data: type, length, text.
func comment(b []byte) string {
	for len(b) >= 2 {
		n := int(b[1])
		if 2+n > len(b) {
			return ""
		}
		if b[0] == 0 {
			return attrs{0: b[2 : 2+n]}.text(0)
		}
		b = b[2+n:]
	}
	return ""
}

// Flags of sets and elements (nf_tables.h).
const (
	setAnonymous = 0x1
	setConstant  = 0x2
	setInterval  = 0x4
	setMap       = 0x8
	setTimeout   = 0x10
	setEval      = 0x20
	setObject    = 0x40

	elemLast = 0x1
	elemAny  = 0x2
)

// DecodeSet decodes NFT_MSG_NEWSET, and says whose it is.
func DecodeSet(b []byte) (table string, s *Set) {
	a := attrsOf(b)
	f := a.u32(3)
	s = &Set{Name: a.text(2), Handle: a.num(16), KeyType: a.u32(4), KeyLen: int(a.u32(5)), DataType: a.u32(6), DataLen: int(a.u32(7)),
		Anonymous: f&setAnonymous != 0, Constant: f&setConstant != 0, Interval: f&setInterval != 0, Map: f&(setMap|setObject) != 0,
		Dynamic: f&setEval != 0, Objects: f&setObject != 0, HasTime: f&setTimeout != 0, Timeout: time.Duration(a.num(11)) * time.Millisecond}
	each(attrsOf(a[9])[2], func(_ uint16, d []byte) { s.Fields = append(s.Fields, int(attrsOf(d).u32(1))) })
	return a.text(1), s
}

// DecodeElements decodes NFT_MSG_NEWSETELEM, and says whose they are. It is written for
// maps of ten thousands: no attribute is looked at twice.
func DecodeElements(b []byte, add func(table, set string) *Set) {
	var table, set string
	var list []byte
	each(b, func(typ uint16, d []byte) {
		switch typ {
		case 1:
			table = cstring(d)
		case 2:
			set = cstring(d)
		case 3:
			list = d
		}
	})
	s := add(table, set)
	if s == nil {
		return
	}
	each(list, func(_ uint16, d []byte) { s.Elements = append(s.Elements, elementOf(d)) })
}

func elementOf(b []byte) (e Element) {
	each(b, func(typ uint16, d []byte) {
		switch typ {
		case 1:
			e.Key = plain(d)
		case 2:
			each(d, func(typ uint16, d []byte) {
				if typ == 1 {
					e.Data = append(make([]byte, 0, len(d)), d...)
				}
			})
			if e.Data == nil {
				e.Verdict = attrs{0: d}.verdict(0)
			}
		case 3:
			if len(d) == 4 {
				f := binary.BigEndian.Uint32(d)
				e.Last, e.Any = f&elemLast != 0, f&elemAny != 0
			}
		case 4:
			e.Timeout = time.Duration(attrs{0: d}.num(0)) * time.Millisecond
		case 5:
			e.Expires = time.Duration(attrs{0: d}.num(0)) * time.Millisecond
		case 6:
			e.Comment = comment(d)
		case 9:
			e.Object = cstring(d)
		case 10:
			e.KeyEnd = plain(d)
		}
	})
	return e
}

// plain is NFTA_DATA_VALUE, copied.
func plain(b []byte) (v []byte) {
	each(b, func(typ uint16, d []byte) {
		if typ == 1 {
			v = append(make([]byte, 0, len(d)), d...)
		}
	})
	return v
}

func cstring(d []byte) string { return attrs{0: d}.text(0) }

// objectTypes by number (nf_tables.h: NFT_OBJECT_…).
var objectTypes = []string{"", "counter", "quota", "ct helper", "limit", "connlimit", "tunnel", "ct timeout", "secmark", "ct expectation", "synproxy"}

// DecodeObject decodes NFT_MSG_NEWOBJ, and says whose it is.
func DecodeObject(b []byte) (table string, o *Object) {
	a := attrsOf(b)
	o = &Object{Name: a.text(2)}
	if n := a.u32(3); int(n) < len(objectTypes) {
		o.Type = objectTypes[n]
	}
	switch in := attrsOf(a[4]); o.Type {
	case "limit":
		o.Over = in.u32(5)&1 != 0
	case "quota", "connlimit":
		o.Over = in.u32(2)&1 != 0
	}
	return a.text(1), o
}

func hostU32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
