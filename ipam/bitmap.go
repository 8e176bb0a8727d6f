package ipam

import "math/bits"

// bitmap is a set of offsets, dense where it is used and absent elsewhere: a
// pool of IPv6 costs as much as its addresses in use, and a /16 that is full
// 8 KiB and 16 lookups.
type bitmap struct {
	chunks map[uint64]*chunk
	count  uint64
}

// chunkBits is the number of offsets of one chunk.
const chunkBits = 64 * 64

type chunk struct {
	words [64]uint64
	count int
}

// set adds an offset and says whether it was new.
func (b *bitmap) set(off uint64) bool {
	c := b.chunks[off/chunkBits]
	if c == nil {
		c = &chunk{}
		if b.chunks == nil {
			b.chunks = map[uint64]*chunk{}
		}
		b.chunks[off/chunkBits] = c
	}
	w, m := &c.words[off/64%64], uint64(1)<<(off%64)
	if *w&m != 0 {
		return false
	}
	*w |= m
	c.count++
	b.count++
	return true
}

// clear removes an offset.
func (b *bitmap) clear(off uint64) {
	c := b.chunks[off/chunkBits]
	if c == nil {
		return
	}
	w, m := &c.words[off/64%64], uint64(1)<<(off%64)
	if *w&m == 0 {
		return
	}
	*w &^= m
	b.count--
	if c.count--; c.count == 0 {
		delete(b.chunks, off/chunkBits)
	}
}

// nextClear returns the lowest offset in [from, to) that is not in the set.
func (b *bitmap) nextClear(from, to uint64) (uint64, bool) {
	for from < to {
		c := b.chunks[from/chunkBits]
		if c == nil {
			return from, true
		}
		if c.count == chunkBits {
			from = (from/chunkBits + 1) * chunkBits
			continue
		}
		// The rest of this word, as if what lies below from were taken.
		free := ^c.words[from/64%64] &^ (1<<(from%64) - 1)
		if free != 0 {
			from = from/64*64 + uint64(bits.TrailingZeros64(free))
			return from, from < to
		}
		from = (from/64 + 1) * 64
	}
	return 0, false
}

// countIn is how many offsets of the set are in [from, to).
func (b *bitmap) countIn(from, to uint64) (n uint64) {
	if from >= to {
		return 0
	}
	first, last := from/chunkBits, (to-1)/chunkBits
	if last-first >= uint64(len(b.chunks)) { // absent ones are many
		for i, c := range b.chunks {
			if first <= i && i <= last {
				n += c.countIn(max(from, i*chunkBits)-i*chunkBits, min(to-i*chunkBits, chunkBits))
			}
		}
		return n
	}
	for i := first; i <= last; i++ {
		if c := b.chunks[i]; c != nil {
			n += c.countIn(max(from, i*chunkBits)-i*chunkBits, min(to-i*chunkBits, chunkBits))
		}
	}
	return n
}

func (c *chunk) countIn(from, to uint64) (n uint64) {
	for ; from < to; from = from/64*64 + 64 {
		w := c.words[from/64] &^ (1<<(from%64) - 1)
		if from/64 == to/64 {
			w &= 1<<(to%64) - 1
		}
		n += uint64(bits.OnesCount64(w))
	}
	return n
}
