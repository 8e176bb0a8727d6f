package ruleset

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
)

// index answers "is this key in the set" without going through all elements.
type index struct {
	exact map[string]int // into Elements
	// ranges are of a plain interval set, sorted; from is inside, to is not (nil: to the
	// end of the numbers).
	ranges []span
	// wide are elements of a concatenation of ranges, few, asked one after another.
	wide []int
	any  int // the catch-all; -1: none
}

type span struct {
	from, to []byte
	at       int
}

func newIndex(s *Set) *index {
	x := &index{any: -1}
	switch {
	case s.Interval && len(s.Fields) > 1:
		for i, e := range s.Elements {
			if e.Any {
				x.any = i
			} else {
				x.wide = append(x.wide, i)
			}
		}
	case s.Interval:
		order := make([]int, 0, len(s.Elements))
		for i, e := range s.Elements {
			if e.Any {
				x.any = i
			} else {
				order = append(order, i)
			}
		}
		// Where one range ends and the next begins, the kernel has both at one key.
		slices.SortStableFunc(order, func(a, b int) int {
			if c := bytes.Compare(s.Elements[a].Key, s.Elements[b].Key); c != 0 {
				return c
			}
			return cmp.Compare(b2i(!s.Elements[a].Last), b2i(!s.Elements[b].Last))
		})
		for n, i := range order {
			e := s.Elements[i]
			if e.Last {
				continue
			}
			r := span{from: e.Key, at: i}
			if n+1 < len(order) {
				r.to = s.Elements[order[n+1]].Key
			}
			x.ranges = append(x.ranges, r)
		}
	default:
		x.exact = make(map[string]int, len(s.Elements))
		for i, e := range s.Elements {
			if e.Any {
				x.any = i
			} else {
				x.exact[string(e.Key)] = i
			}
		}
	}
	return x
}

// Find looks a key up, as the kernel does.
func (s *Set) Find(key []byte) (e Element, found bool) {
	x := s.index
	if x == nil {
		x = newIndex(s)
	}
	if i, ok := x.exact[string(key)]; ok {
		return s.Elements[i], true
	}
	// The last range that begins at or before the key.
	n := sort.Search(len(x.ranges), func(i int) bool { return bytes.Compare(x.ranges[i].from, key) > 0 })
	if n > 0 {
		if r := x.ranges[n-1]; r.to == nil || bytes.Compare(key, r.to) < 0 {
			return s.Elements[r.at], true
		}
	}
	for _, i := range x.wide {
		if s.within(s.Elements[i], key) {
			return s.Elements[i], true
		}
	}
	if x.any >= 0 {
		return s.Elements[x.any], true
	}
	return e, false
}

// within compares a concatenation part by part.
func (s *Set) within(e Element, key []byte) bool {
	end := e.KeyEnd
	if end == nil {
		end = e.Key
	}
	at := 0
	for _, n := range s.Fields {
		if at+n > len(key) || at+n > len(e.Key) || at+n > len(end) {
			return false
		}
		part := key[at : at+n]
		if bytes.Compare(part, e.Key[at:at+n]) < 0 || bytes.Compare(part, end[at:at+n]) > 0 {
			return false
		}
		at += (n + 3) &^ 3
	}
	return true
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
