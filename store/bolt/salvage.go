package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"linkspan/store"
)

// salvage is what could be read of a file's pages.
type salvage struct {
	*image
	// records that the tree leads to, and the holes in it: keys in these ranges may have
	// been there.
	records map[string]store.Entry
	holes   []Range
	// format and rev of the file; 0: not readable. rev is then the highest record's.
	format, rev uint64
	// bad are pages that the tree leads to and that were not as they should be, and
	// reason the first of them.
	bad     int
	reason  string
	visited map[uint64]bool
	// drop: look only, keep no values.
	drop bool
	// foreign: a sound bbolt file without our buckets.
	foreign bool
}

// wrong counts a page.
func (s *salvage) wrong(format string, args ...any) {
	if s.bad++; s.reason == "" {
		s.reason = fmt.Sprintf(format, args...)
	}
}

// Range are keys from From up to, and without, To; "" is the end.
type Range struct{ From, To string }

func (r Range) has(key string) bool { return key >= r.From && (r.To == "" || key < r.To) }

// dig walks the tree from the newest meta page whose sum is right. Without any, all
// is a hole.
func dig(m *image, drop bool) *salvage {
	s := &salvage{image: m, records: map[string]store.Entry{}, visited: map[uint64]bool{}, drop: drop}
	metas := m.metas()
	switch {
	case len(metas) == 0:
		s.wrong("no page names the others")
		s.hole("", "")
	case !s.roots(metas[0].root):
		s.wrong("the keys are not found")
		s.hole("", "")
	default:
		if need := int(metas[0].pages) * m.page; need > len(m.data) {
			s.wrong("it has %d bytes of %d", len(m.data), need)
		}
		// One damaged meta page is what a power cut leaves: bbolt goes on from the other.
		s.freelist(metas[0])
	}
	if s.unread > 0 {
		s.wrong("%d pages cannot be read from the disk", s.unread)
	}
	if s.format == 0 || s.rev == 0 && len(s.records) > 0 {
		s.wrong("the revision is missing")
	}
	for k, e := range s.records {
		if uint64(e.Rev) > s.rev {
			s.wrong("the record of key %q has revision %d of %d", k, e.Rev, s.rev)
			s.rev = uint64(e.Rev)
		}
	}
	return s
}

// freelist looks whether what is used is said to be free: the next commits would write
// over it.
func (s *salvage) freelist(meta metaPage) {
	if meta.freelist == ^uint64(0) {
		return // bbolt then finds it by a scan
	}
	p := s.content(meta.freelist)
	id, flags, count, _ := headOr(p)
	if p == nil || id != meta.freelist || flags != flagFreelist {
		s.wrong("page %d is not the list of free pages", meta.freelist)
		return
	}
	p = p[pageHead:]
	n := uint64(count)
	if count == 0xFFFF && len(p) >= 8 { // the number is the first element then
		n, p = order.Uint64(p), p[8:]
	}
	if n > uint64(len(p)/8) {
		s.wrong("the list of free pages has %d of %d", len(p)/8, n)
		return
	}
	last := uint64(1)
	for i := range n {
		id := order.Uint64(p[i*8:])
		if id <= last || id >= meta.pages || s.visited[id] || id == meta.freelist {
			s.wrong("the list of free pages has page %d, which is used, or is not there", id)
			return
		}
		last = id
	}
}

func (s *salvage) hole(from, to string) {
	if n := len(s.holes); n > 0 && from != "" && s.holes[n-1].To == from {
		s.holes[n-1].To = to
		return
	}
	s.holes = append(s.holes, Range{from, to})
}

// roots finds the two buckets. False: the keys' is not there.
func (s *salvage) roots(id uint64) (found bool) {
	p := s.content(id)
	if p == nil {
		s.wrong("page %d is not there", id)
		return false
	}
	s.visited[id] = true
	list, sound := elements(p, true, s.page)
	self, flags, _, _ := head(p)
	if sound = sound && flags == flagLeaf; !sound || self != id {
		s.wrong("page %d is not as it was written", id)
	}
	if self != id {
		return false // it may be an older one, of a state long gone
	}
	for _, e := range list {
		if len(e.value) < bucketHd {
			continue
		}
		if e.flags != flagBucket {
			s.wrong("page %d is not as it was written", id)
			sound = false
		}
		root, inline := order.Uint64(e.value), e.value[bucketHd:]
		switch string(e.key) {
		case string(bucketKV):
			found = true
			if root != 0 {
				s.walk(root, "", "", true)
			} else if _, _, count, _ := headOr(inline); count > 0 {
				s.leaf(inline, len(inline), "", "", true)
			}
		case string(bucketMeta):
			if root != 0 {
				inline = s.content(root)
			}
			metas, _ := elements(inline, true, len(inline))
			for _, e := range metas {
				if len(e.value) != 8 {
					continue
				}
				switch v := binary.BigEndian.Uint64(e.value); string(e.key) {
				case string(keyFormat):
					s.format = v
				case string(keyRev):
					s.rev = v
				}
			}
		}
	}
	s.foreign = sound && !found
	return found
}

// notOurs says that another program, or a newer Linkspan, wrote the file.
func (s *salvage) notOurs() bool { return s.foreign || s.format > format }

func headOr(p []byte) (id uint64, flags, count uint16, overflow uint32) {
	if len(p) < pageHead {
		return 0, 0, 0, 0
	}
	return head(p)
}

// walk reads the page id, which holds the keys of a range.
func (s *salvage) walk(id uint64, from, to string, root bool) {
	p := s.content(id)
	if p == nil || s.visited[id] {
		s.wrong("page %d is not there, or is used twice", id)
		s.hole(from, to)
		return
	}
	s.visited[id] = true
	self, flags, count, _ := head(p)
	if self != id { // another page's content, perhaps an older one of the same keys
		s.wrong("page %d says that it is %d", id, self)
		s.hole(from, to)
		return
	}
	if flags == flagLeaf && root && count == 0 {
		return // the last key was deleted
	}
	if flags != flagBranch {
		s.leaf(p, s.page, from, to, flags == flagLeaf)
		return
	}
	list, sound := elements(p, false, s.page)
	if !sound || !s.branch(list, from, to) {
		s.wrong("page %d is not as it was written", id)
		s.hole(from, to)
	}
}

// branch goes on with a branch page's children. False, and nothing was done: its keys
// do not lie in order in the range.
func (s *salvage) branch(list []element, from, to string) bool {
	for i, e := range list {
		k := string(e.key)
		if e.key == nil || k < from || to != "" && k >= to || i > 0 && bytes.Compare(list[i-1].key, e.key) >= 0 {
			return false
		}
	}
	for i, e := range list {
		lo, hi := from, to
		if i > 0 {
			lo = string(e.key)
		}
		if i+1 < len(list) {
			hi = string(list[i+1].key)
		}
		s.walk(e.child, lo, hi, false)
	}
	return true
}

// leaf takes the records of a page whose sums are right; where one is not, the keys
// between its neighbours are a hole. Records outside of the range, with right sums, tell
// that the range is wrong: the hole is as wide as they are.
func (s *salvage) leaf(p []byte, pageSize int, from, to string, proper bool) {
	list, sound := elements(p, true, pageSize)
	before := s.bad
	if id, _, _, _ := headOr(p); !sound || !proper {
		s.wrong("page %d is not as it was written", id)
	}
	last, lo, open, any := from, from, false, false
	for _, e := range list {
		rev, err := check(e.key, e.value)
		k := string(e.key)
		if good := err == nil && e.flags == 0 && rev >= 1; !good || k < last || to != "" && k >= to {
			if s.bad == before {
				s.wrong("a page has the key %q where it does not belong, or its record does not match its checksum", k)
			}
			if open = true; good {
				if lo = min(lo, k); to != "" && k >= to {
					s.hole(to, k+"\x00")
				}
			}
			continue
		}
		if open {
			s.hole(lo, k)
			open = false
		}
		r := store.Entry{Key: k, Rev: rev}
		if !s.drop {
			r.Value = bytes.Clone(e.value[recordHead:])
		}
		s.records[k] = r
		last, any = k+"\x00", true
		lo = last
	}
	if open || !any {
		if s.bad == before {
			s.wrong("a page has no records")
		}
		s.hole(lo, to)
	}
}

// whole says that nothing is wrong.
func (s *salvage) whole() bool { return s.bad == 0 && len(s.holes) == 0 }

// lost says that a key may have been in a hole.
func (s *salvage) lost(key string) bool {
	_, have := s.records[key]
	return !have && slices.ContainsFunc(s.holes, func(r Range) bool { return r.has(key) })
}

// stray are records of the holes that lie in pages to which the tree does not lead,
// or no more: of each key the newest. Whoever finds them does not know whether they
// were deleted since.
func (s *salvage) stray() map[string]store.Entry {
	out := map[string]store.Entry{}
	if len(s.holes) == 0 {
		return out
	}
	for at := 0; at+pageHead < len(s.data); at += s.page {
		list, _ := elements(s.data[at:], true, s.page)
		for _, e := range list {
			rev, err := check(e.key, e.value)
			k := string(e.key)
			if err != nil || rev < 1 || out[k].Rev >= rev || !s.lost(k) {
				continue
			}
			out[k] = store.Entry{Key: k, Value: bytes.Clone(e.value[recordHead:]), Rev: rev}
		}
	}
	return out
}

// fill puts into the holes what the last good copy has, and what is newer than it
// in stray pages. What is older than the copy, and not in it, was deleted.
func (s *salvage) fill(good *salvage) (fromCopy, fromPages []string) {
	stray := s.stray()
	if good != nil {
		for k, e := range good.records {
			if stray[k].Rev <= e.Rev && s.lost(k) {
				s.records[k] = e
				delete(stray, k)
				fromCopy = append(fromCopy, k)
			}
		}
	}
	for k, e := range stray {
		if good != nil && uint64(e.Rev) <= good.rev {
			continue
		}
		s.records[k] = e
		s.rev = max(s.rev, uint64(e.Rev))
		fromPages = append(fromPages, k)
	}
	slices.Sort(fromCopy)
	slices.Sort(fromPages)
	return fromCopy, fromPages
}
