package linux

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
)

// tableRef names a table.
type tableRef struct{ family, name string }

func (t tableRef) fam() byte { return families[t.family] }

// sets lists the table's sets and maps; none when there is no table.
func (c *nfConn) sets(t tableRef) (map[string]setInfo, error) {
	var out map[string]setInfo
	err := c.dump(nfMsg{typ: unix.NFT_MSG_GETSET, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_SET_TABLE, t.name)},
		func() { out = map[string]setInfo{} }, func(b []byte) {
			s, table := parseSet(b)
			if table == t.name {
				out[s.name] = s
			}
		})
	return out, noTable(err)
}

func parseSet(b []byte) (s setInfo, table string) {
	eachAttr(b, func(t int, b []byte) {
		switch t {
		case unix.NFTA_SET_TABLE:
			table = unix.ByteSliceToString(b)
		case unix.NFTA_SET_NAME:
			s.name = unix.ByteSliceToString(b)
		case unix.NFTA_SET_FLAGS:
			s.flags = number32(b)
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = number32(b)
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = number32(b)
		case unix.NFTA_SET_DATA_TYPE:
			s.dataType = number32(b)
		case unix.NFTA_SET_DATA_LEN:
			s.dataLength = number32(b)
		}
	})
	return s, table
}

// elements lists a set. Entries of interval sets come sorted by key, an end
// before a start at the same key.
func (c *nfConn) elements(t tableRef, s setInfo) ([]rawElement, error) {
	var out []rawElement
	a := nfnl.Text(nfnl.Text(nil, unix.NFTA_SET_ELEM_LIST_TABLE, t.name), unix.NFTA_SET_ELEM_LIST_SET, s.name)
	err := c.dump(nfMsg{typ: unix.NFT_MSG_GETSETELEM, fam: t.fam(), attrs: a}, func() { out = nil }, func(b []byte) { out = append(out, listEntries(b)...) })
	if s.interval() {
		slices.SortStableFunc(out, func(a, b rawElement) int {
			return cmp.Or(bytes.Compare(a.key, b.key), b2i(b.end)-b2i(a.end))
		})
	}
	return out, noTable(err)
}

func listEntries(b []byte) (out []rawElement) {
	eachAttr(b, func(t int, b []byte) {
		if t != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		eachAttr(b, func(_ int, b []byte) { out = append(out, decodeElement(b)) })
	})
	return out
}

// element reads one element of a hash set by its key; nil when it is not there.
func (c *nfConn) element(t tableRef, set string, key []byte) (*rawElement, error) {
	a := nfnl.Text(nfnl.Text(nil, unix.NFTA_SET_ELEM_LIST_TABLE, t.name), unix.NFTA_SET_ELEM_LIST_SET, set)
	a = nfnl.Nest(a, unix.NFTA_SET_ELEM_LIST_ELEMENTS, nfnl.Nest(nil, unix.NFTA_LIST_ELEM, encodeKey(key)))
	var got []rawElement
	err := c.query(nfMsg{typ: unix.NFT_MSG_GETSETELEM, fam: t.fam(), attrs: a}, func(b []byte) { got = append(got, listEntries(b)...) })
	if errors.Is(err, unix.ENOENT) || err == nil && len(got) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read element of %s: %w", set, err)
	}
	return &got[0], nil
}

// chain is what is compared of a chain, besides its rules.
type chainInfo struct {
	name, typ string
	base      bool
	hook      uint32
	prio      int32
	policy    uint32
}

func (c *nfConn) chains(t tableRef) (map[string]chainInfo, error) {
	var out map[string]chainInfo
	err := c.dump(nfMsg{typ: unix.NFT_MSG_GETCHAIN, fam: t.fam()}, func() { out = map[string]chainInfo{} }, func(b []byte) {
		var ch chainInfo
		table := ""
		eachAttr(b, func(t int, b []byte) {
			switch t {
			case unix.NFTA_CHAIN_TABLE:
				table = unix.ByteSliceToString(b)
			case unix.NFTA_CHAIN_NAME:
				ch.name = unix.ByteSliceToString(b)
			case unix.NFTA_CHAIN_TYPE:
				ch.typ = unix.ByteSliceToString(b)
			case unix.NFTA_CHAIN_POLICY:
				ch.policy = number32(b)
			case unix.NFTA_CHAIN_HOOK:
				ch.base = true
				eachAttr(b, func(t int, b []byte) {
					switch t {
					case unix.NFTA_HOOK_HOOKNUM:
						ch.hook = number32(b)
					case unix.NFTA_HOOK_PRIORITY:
						ch.prio = int32(number32(b))
					}
				})
			}
		})
		if table == t.name {
			out[ch.name] = ch
		}
	})
	return out, noTable(err)
}

// rules returns each chain's rules as the kernel stores them, without what
// changes while packets pass.
func (c *nfConn) rules(t tableRef) (map[string][][]byte, error) {
	var out map[string][][]byte
	err := c.dump(nfMsg{typ: unix.NFT_MSG_GETRULE, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_RULE_TABLE, t.name)},
		func() { out = map[string][][]byte{} }, func(b []byte) {
			chain, table := "", ""
			var rule []byte
			eachAttr(b, func(t int, b []byte) {
				switch t {
				case unix.NFTA_RULE_TABLE:
					table = unix.ByteSliceToString(b)
				case unix.NFTA_RULE_CHAIN:
					chain = unix.ByteSliceToString(b)
				case unix.NFTA_RULE_EXPRESSIONS:
					rule = append(rule, stableExpressions(b)...)
				}
			})
			if table == t.name {
				out[chain] = append(out[chain], rule)
			}
		})
	return out, noTable(err)
}

// counting are the expressions whose data moves with the traffic.
var counting = map[string]bool{"counter": true, "quota": true, "last": true, "limit": true, "connlimit": true}

func stableExpressions(b []byte) (out []byte) {
	eachAttr(b, func(_ int, b []byte) {
		name := ""
		eachAttr(b, func(t int, b []byte) {
			switch t {
			case unix.NFTA_EXPR_NAME:
				name = unix.ByteSliceToString(b)
				out = append(append(out, name...), 0)
			case unix.NFTA_EXPR_DATA:
				if !counting[name] {
					out = append(out, b...)
				}
			}
		})
	})
	return out
}

// noTable takes "no such table" as an empty answer.
func noTable(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ruleset: %w", err)
	}
	return nil
}

// number32 reads a big-endian number; what is too short to be one is 0.
func number32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
