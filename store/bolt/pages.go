package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
)

// bbolt's pages, read without bbolt, which panics on what it does not expect
// (go.etcd.io/bbolt, internal/common/{page,meta,bucket}.go). All numbers are in the
// machine's own order.
const (
	pageHead = 16 // id 8, flags 2, count 2, overflow 4
	elemSize = 16 // leaf: flags, pos, ksize, vsize; branch: pos, ksize, pgid 8
	bucketHd = 16 // root 8, sequence 8

	flagBranch, flagLeaf, flagFreelist = 0x01, 0x02, 0x10
	flagBucket                         = 0x01 // of a leaf's element

	metaMagic, metaVersion = 0xED0CDAED, 2
)

var order = binary.NativeEndian

// image is a file of pages as it could be read.
type image struct {
	data []byte
	page int
	// unread are pages that the disk does not give.
	unread int
}

// readImage reads what can be read of a file: a sector that cannot is zeros.
// Beyond limit it is not read; 0: all is.
func readImage(f *os.File, limit int64) (*image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if limit == 0 || info.Size() < limit {
		limit = info.Size()
	}
	m := &image{data: make([]byte, limit), page: os.Getpagesize()}
	if _, err := f.ReadAt(m.data, 0); err == nil || errors.Is(err, io.EOF) {
		return m, nil
	}
	for at := 0; at < len(m.data); at += m.page {
		p := m.data[at:min(at+m.page, len(m.data))]
		if n, err := f.ReadAt(p, int64(at)); err != nil && n < len(p) {
			clear(p[n:])
			m.unread++
		}
	}
	return m, nil
}

// metaPage is what one of the two first pages says.
type metaPage struct{ root, freelist, pages, txid uint64 }

// metas are those whose sum is right, the newest first.
func (m *image) metas() (out []metaPage) {
	sizes := []int{m.page}
	for n := 1 << 10; n <= 64<<10; n <<= 1 { // made on a machine with other pages
		if n != m.page {
			sizes = append(sizes, n)
		}
	}
	for _, size := range sizes {
		for i := range 2 {
			at := i*size + pageHead
			if at+64 > len(m.data) {
				continue
			}
			b := m.data[at : at+64]
			h := fnv.New64a()
			h.Write(b[:56])
			if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint32(b[8:]) != uint32(size) || order.Uint64(b[56:]) != h.Sum64() {
				continue
			}
			out = append(out, metaPage{root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:])})
		}
		if len(out) > 0 {
			m.page = size
			break
		}
	}
	if len(out) == 2 && out[0].txid < out[1].txid {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// content is a page with those that it flows over into, "" beyond the end. A wrong
// overflow shows in the elements.
func (m *image) content(id uint64) []byte {
	if id > uint64(len(m.data)/m.page) {
		return nil
	}
	at := int(id) * m.page
	if at+pageHead > len(m.data) {
		return nil
	}
	return m.data[at:]
}

// element is one of a leaf or branch page.
type element struct {
	key, value []byte
	flags      uint32 // of a leaf's: flagBucket or nothing
	child      uint64 // of a branch
}

// head is a page's own words of itself.
func head(p []byte) (id uint64, flags, count uint16, overflow uint32) {
	return order.Uint64(p), order.Uint16(p[8:]), order.Uint16(p[10:]), order.Uint32(p[12:])
}

// elements reads a page as a leaf or a branch. bbolt writes the table first and the
// data behind it without a gap, so that the first position tells how many there are:
// a count, an overflow or a position that was changed is found, and the rest is
// still read. sound says that all of it fits.
func elements(p []byte, leaf bool, pageSize int) (out []element, sound bool) {
	if len(p) < pageHead+elemSize {
		return nil, false
	}
	_, _, count, overflow := head(p)
	limit := (int(overflow) + 1) * pageSize
	sound = limit <= len(p)
	p = p[pageHead:]
	pos := func(i int) int {
		e := p[i*elemSize:]
		if leaf {
			return int(order.Uint32(e[4:])) + i*elemSize
		}
		return int(order.Uint32(e)) + i*elemSize
	}
	n := pos(0) / elemSize
	if pos(0)%elemSize != 0 || n == 0 || n > len(p)/elemSize || n > 0xFFFF {
		n, sound = int(count), false
	}
	if n != int(count) {
		sound = false
	}
	next := n * elemSize
	for i := range n {
		if (i+1)*elemSize > len(p) {
			return out, false
		}
		e := p[i*elemSize:]
		at := pos(i)
		var ksize, vsize int
		var el element
		if leaf {
			ksize, vsize = int(order.Uint32(e[8:])), int(order.Uint32(e[12:]))
			el.flags = order.Uint32(e)
		} else {
			ksize, el.child = int(order.Uint32(e[4:])), order.Uint64(e[8:])
		}
		if at != next {
			sound = false
		}
		if at < 0 || ksize < 0 || vsize < 0 || at+ksize+vsize > len(p) {
			sound = false
			out = append(out, element{}) // there was one
			continue
		}
		el.key, el.value = p[at:at+ksize], p[at+ksize:at+ksize+vsize]
		if i > 0 && bytes.Compare(out[i-1].key, el.key) >= 0 {
			sound = false
		}
		out = append(out, el)
		next = at + ksize + vsize
	}
	if next+pageHead > limit {
		sound = false
	}
	return out, sound
}
