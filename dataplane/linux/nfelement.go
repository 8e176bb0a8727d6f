package linux

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
)

// families are the nf_tables families by their nft names.
var families = map[string]byte{"inet": unix.NFPROTO_INET, "bridge": unix.NFPROTO_BRIDGE, "ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6}

// verdicts are the codes of verdict maps (nf_tables.h, enum nft_verdicts).
var verdicts = map[string]int32{"drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5}

// nftaSetElemKeyEnd is NFTA_SET_ELEM_KEY_END (nf_tables.h, since 5.6): the end of an
// interval of concatenated fields, which is one entry and not two.
const nftaSetElemKeyEnd = 10

// encodeElement makes the list entry (or two, for an interval) of an element.
// Deletes need the key only.
func encodeElement(e dataplane.Element, del bool) ([]byte, error) {
	var data []byte
	if !del {
		switch {
		case e.Verdict != "":
			v, err := encodeVerdict(e.Verdict)
			if err != nil {
				return nil, err
			}
			data = nfnl.Nest(nil, unix.NFTA_SET_ELEM_DATA, v)
		case e.Data != nil:
			data = nfnl.Nest(nil, unix.NFTA_SET_ELEM_DATA, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, e.Data))
		}
	}
	key := encodeKey(e.KeyRaw)
	if e.Each {
		key = nfnl.Nest(key, nftaSetElemKeyEnd, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, e.Last))
	}
	first := nfnl.Nest(nil, unix.NFTA_LIST_ELEM, append(key, data...))
	if e.Each {
		return first, nil
	}
	if e.Last == nil {
		return first, nil
	}
	end, ok := after(e.Last)
	if !ok {
		return first, nil // up to the last key there is: no end element
	}
	last := append(nfnl.Attr(nil, unix.NFTA_SET_ELEM_FLAGS, be32(unix.NFT_SET_ELEM_INTERVAL_END)), encodeKey(end)...)
	return nfnl.Nest(first, unix.NFTA_LIST_ELEM, last), nil
}

func encodeKey(raw []byte) []byte {
	return nfnl.Nest(nil, unix.NFTA_SET_ELEM_KEY, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, raw))
}

func encodeVerdict(s string) ([]byte, error) {
	verb, chain, _ := strings.Cut(s, " ")
	code, ok := verdicts[verb]
	if !ok || (chain != "") != (verb == "jump" || verb == "goto") {
		return nil, cnm.Invalid("nftables verdict %q", s)
	}
	v := nfnl.Attr(nil, unix.NFTA_VERDICT_CODE, be32(uint32(code)))
	if chain != "" {
		v = nfnl.Text(v, unix.NFTA_VERDICT_CHAIN, chain)
	}
	return nfnl.Nest(nil, unix.NFTA_DATA_VERDICT, v), nil
}

// after is the key behind another; false when that was the last one.
func after(key []byte) ([]byte, bool) {
	b := bytes.Clone(key)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b, true
		}
	}
	return nil, false
}

// before is the key in front of another; of nil, it is the last one of that size.
func before(key []byte, size int) []byte {
	b := make([]byte, size)
	copy(b, key)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			break
		}
	}
	return b
}

// rawElement is one observed list entry.
type rawElement struct {
	key, data []byte
	last      []byte // of an interval of concatenated fields
	verdict   string
	end       bool // closes an interval
}

func decodeElement(b []byte) (e rawElement) {
	value := func(b []byte, fn func([]byte)) {
		eachAttr(b, func(t int, b []byte) {
			switch t {
			case unix.NFTA_DATA_VALUE:
				fn(bytes.Clone(b))
			case unix.NFTA_DATA_VERDICT:
				e.verdict = decodeVerdict(b)
			}
		})
	}
	eachAttr(b, func(t int, b []byte) {
		switch t {
		case unix.NFTA_SET_ELEM_KEY:
			value(b, func(v []byte) { e.key = v })
		case nftaSetElemKeyEnd:
			value(b, func(v []byte) { e.last = v })
		case unix.NFTA_SET_ELEM_DATA:
			value(b, func(v []byte) { e.data = v })
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = number32(b)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		}
	})
	return e
}

func decodeVerdict(b []byte) string {
	verb, chain := "", ""
	eachAttr(b, func(t int, b []byte) {
		switch t {
		case unix.NFTA_VERDICT_CODE:
			for name, code := range verdicts {
				if len(b) == 4 && int32(number32(b)) == code {
					verb = name
				}
			}
		case unix.NFTA_VERDICT_CHAIN:
			chain = " " + unix.ByteSliceToString(b)
		}
	})
	return verb + chain
}

// object makes the declared form of what was observed.
func (s setInfo) object(family, table string, r rawElement) dataplane.Element {
	e := dataplane.Element{Family: family, Table: table, Set: s.name, KeyRaw: r.key, Data: r.data, Verdict: r.verdict,
		KeyText: textOf(s.keyType, r.key), Guard: guardSets[s.name]}
	if r.data != nil {
		e.DataText = textOf(s.dataType, r.data)
	}
	if s.each() {
		e.Each, e.Last = true, r.last
		if r.last == nil {
			e.Last = r.key
		}
		e.KeyText = prefixesText(s.keyType, e.KeyRaw, e.Last)
	}
	e.Flow = s.flow(r)
	return e
}

// guardSets are the page's sets whose elements close or name (page.nft); an
// observed element does not say so itself.
var guardSets = map[string]bool{"bridges": true, "borrowed": true, "internal": true, "forward_guard": true,
	"vnis": true, "vnis_secure": true, "tunnels": true}

// flow reads a published port out of an element of the shape
// [address .] protocol . port : address . port; a range's is known with its end.
func (s setInfo) flow(r rawElement) *dataplane.Flow {
	k, d := fieldsOf(s.keyType), fieldsOf(s.dataType)
	n := len(k)
	if s.dataType == typeVerdict || n < 2 || k[n-2] != typeProto || k[n-1] != typePort || len(d) != 2 || d[1] != typePort || len(r.data) < 8 {
		return nil
	}
	at := len(r.key) - protoAndPort
	if at != 0 && at != 4 && at != 16 {
		return nil
	}
	f := &dataplane.Flow{Proto: protoText(r.key[at:]), Port: binary.BigEndian.Uint16(r.key[at+4:])}
	f.Addr, _ = netip.AddrFromSlice(r.key[:at])
	to, ok := netip.AddrFromSlice(r.data[:len(r.data)-4])
	if !ok {
		return nil
	}
	f.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(r.data[len(r.data)-4:]))
	return f
}

// intervals pairs the entries of an interval set: each start with the end (or
// start) that follows it.
func (s setInfo) intervals(family, table string, raw []rawElement) (out []dataplane.Element) {
	for i, r := range raw {
		if r.end {
			continue
		}
		var next []byte
		if i+1 < len(raw) {
			next = raw[i+1].key
		}
		e := s.object(family, table, r)
		e.Last = before(next, len(r.key))
		if p, ok := prefixOf(e.KeyRaw, e.Last); ok {
			e.KeyText = p.String()
		} else if !bytes.Equal(e.KeyRaw, e.Last) {
			e.KeyText += "-" + textOf(s.keyType, e.Last)
		}
		e.Flow = s.rangeFlow(e)
		out = append(out, e)
	}
	return out
}

// rangeFlow reads a published range: ports : address, in a map that says the
// protocol.
func (s setInfo) rangeFlow(e dataplane.Element) *dataplane.Flow {
	proto := dataplane.RangeProto(s.name)
	to, ok := netip.AddrFromSlice(e.Data)
	if proto == "" || s.keyType != typePort || !ok {
		return nil
	}
	first := binary.BigEndian.Uint16(e.KeyRaw)
	return &dataplane.Flow{Proto: proto, Port: first, PortEnd: binary.BigEndian.Uint16(e.Last), To: netip.AddrPortFrom(to, first)}
}

// prefixOf finds the prefix that is all from first to last.
func prefixOf(first, last []byte) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(first)
	if !ok {
		return netip.Prefix{}, false
	}
	bits := 0
	for bits < 8*len(first) && (first[bits/8]^last[bits/8])&(0x80>>(bits%8)) == 0 {
		bits++
	}
	p := netip.PrefixFrom(a, bits)
	for i := bits; i < 8*len(last); i++ {
		if last[i/8]&(0x80>>(i%8)) == 0 {
			return netip.Prefix{}, false
		}
	}
	return p, p.Masked() == p
}
