package ruleset

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inline writes an anonymous set where it is used.
func (s *Set) inline(kinds []kind) string {
	all := s.Texts(kinds)
	if len(all) == 1 && !s.Map && s.Anonymous && !s.Interval {
		return "{ " + all[0] + " }"
	}
	return "{ " + strings.Join(all, ", ") + " }"
}

// Texts writes the elements, ranges as nft does; kinds are of the key's parts, nil: those
// that the set tells.
func (s *Set) Texts(kinds []kind) (all []string) {
	if told := kind(s.KeyType).parts(); kind(s.KeyType) < 1<<24 && len(told) > 0 && told[0] != kindInteger {
		kinds = told
	}
	if len(kinds) == 0 {
		kinds = []kind{kindHex}
	}
	if s.Interval && len(s.Fields) <= 1 {
		x := s.index
		if x == nil {
			x = newIndex(s)
		}
		for _, r := range x.ranges {
			all = append(all, s.element(s.Elements[r.at], span2(kinds[0], r.from, r.to)))
		}
		if x.any >= 0 {
			all = append(all, s.element(s.Elements[x.any], "*"))
		}
		return all
	}
	elements := s.Elements
	if s.Anonymous { // the kernel has them in no order
		elements = slices.Clone(elements)
		slices.SortStableFunc(elements, func(a, b Element) int {
			if kinds[0].host() && len(a.Key) >= 4 && len(b.Key) >= 4 {
				return cmp.Compare(host32(a.Key), host32(b.Key))
			}
			return bytes.Compare(a.Key, b.Key)
		})
	}
	for _, e := range elements {
		if e.Any {
			all = append(all, s.element(e, "*"))
			continue
		}
		var parts []string
		at := 0
		for i, k := range kinds {
			n := k.size()
			if i < len(s.Fields) {
				n = s.Fields[i]
			}
			if n == 0 || at+n > len(e.Key) {
				n = max(len(e.Key)-at, 0)
			}
			p := k.value(e.Key[at : at+n])
			if e.KeyEnd != nil && at+n <= len(e.KeyEnd) && !bytes.Equal(e.Key[at:at+n], e.KeyEnd[at:at+n]) {
				p = inclusive(k, e.Key[at:at+n], e.KeyEnd[at:at+n])
			}
			parts = append(parts, p)
			at += (n + 3) &^ 3
		}
		all = append(all, s.element(e, strings.Join(parts, " . ")))
	}
	return all
}

func (s *Set) element(e Element, key string) string {
	if e.Timeout != 0 && e.Timeout != s.Timeout {
		key += " timeout " + e.Timeout.Round(time.Second).String()
	}
	if e.Comment != "" {
		key += " comment " + strconv.Quote(e.Comment)
	}
	switch {
	case e.Verdict != nil:
		return key + " : " + e.Verdict.String()
	case e.Object != "":
		return key + " : " + strconv.Quote(e.Object)
	case e.Data == nil:
		return key
	}
	var parts []string
	at := 0
	told := kind(s.DataType).parts()
	if n := len(e.Data) / 2; len(told) == 1 && n > 0 && n == told[0].size() { // a range, for "dnat prefix to"
		return key + " : " + inclusive(told[0], e.Data[:n], e.Data[n:])
	}
	for _, k := range told {
		n := k.size()
		if n == 0 || at+n > len(e.Data) {
			n = max(len(e.Data)-at, 0)
		}
		parts = append(parts, k.value(e.Data[at:at+n]))
		at += (n + 3) &^ 3
	}
	if len(parts) == 0 {
		parts = []string{kindHex.value(e.Data)}
	}
	return key + " : " + strings.Join(parts, " . ")
}

// span2 writes a range whose end is outside; nil: the end of all numbers.
func span2(k kind, from, to []byte) string {
	last := bytes.Repeat([]byte{0xff}, len(from))
	if to != nil {
		last = bytes.Clone(to)
		for i := len(last) - 1; i >= 0; i-- {
			last[i]--
			if last[i] != 0xff {
				break
			}
		}
	}
	return inclusive(k, from, last)
}

func inclusive(k kind, from, last []byte) string {
	if bytes.Equal(from, last) {
		return k.value(from)
	}
	if k.address() {
		if n := commonPrefix(from, last); n >= 0 {
			a, _ := netip.AddrFromSlice(from)
			return netip.PrefixFrom(a, n).String()
		}
	}
	return k.value(from) + "-" + k.value(last)
}

// commonPrefix is the length of the prefix that is exactly this range; -1: none is.
func commonPrefix(from, last []byte) int {
	bits := len(from) * 8
	n := 0
	for ; n < bits; n++ {
		m := byte(1) << (7 - n%8)
		if from[n/8]&m != last[n/8]&m {
			break
		}
	}
	for i := n; i < bits; i++ {
		m := byte(1) << (7 - i%8)
		if from[i/8]&m != 0 || last[i/8]&m == 0 {
			return -1
		}
	}
	return n
}
