package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"linkspan/dataplane/reading"
)

// The blocks of pcapng (draft-ietf-opsawg-pcapng). Numbers are written little-endian,
// whatever the machine; the section header says so.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	byteOrder   = 0x1a2b3c4d
	linkEther   = 1
	nanoseconds = 9

	optEnd         = 0
	optComment     = 1
	optIfName      = 2
	optIfDescr     = 3
	optIfTsresol   = 9
	optUserAppl    = 4
	optFlags       = 2
	optStatRecv    = 4
	optStatDropped = 5
)

// blockMost bounds what a reader takes for one block.
const blockMost = 1 << 20

var le = binary.LittleEndian

// Link is one interface of a capture.
type Link struct {
	Name  string // "web:eth0", "host:wan0"
	Descr string
}

// writer makes a pcapng section.
type writer struct {
	out   io.Writer
	links int
	snap  int
}

// begin writes the section's header and its interfaces. All have the same link type and
// length, which libpcap asks of those that it reads.
func (w *writer) begin(program string, links []Link) error {
	body := le.AppendUint32(nil, byteOrder)
	body = le.AppendUint16(body, 1) // version 1.0
	body = le.AppendUint16(body, 0)
	body = le.AppendUint64(body, ^uint64(0)) // length unknown
	if err := w.block(blockSection, body, option(nil, optUserAppl, []byte(program))); err != nil {
		return err
	}
	for _, l := range links {
		body := le.AppendUint16(nil, linkEther)
		body = le.AppendUint16(body, 0)
		body = le.AppendUint32(body, uint32(w.snap))
		opts := option(nil, optIfName, []byte(l.Name))
		opts = option(opts, optIfDescr, []byte(l.Descr))
		opts = option(opts, optIfTsresol, []byte{nanoseconds})
		if err := w.block(blockInterface, body, opts); err != nil {
			return err
		}
	}
	w.links = len(links)
	return nil
}

// packet writes one frame with an optional comment.
func (w *writer) packet(link int, f reading.Frame, comment string) error {
	body := le.AppendUint32(nil, uint32(link))
	body = stamp(body, f.Time)
	body = le.AppendUint32(body, uint32(len(f.Data)))
	body = le.AppendUint32(body, uint32(f.Length))
	body = pad(append(body, f.Data...))
	direction := uint32(1) // inbound
	if f.Out {
		direction = 2
	}
	var opts []byte
	if comment != "" {
		opts = option(opts, optComment, []byte(comment))
	}
	return w.block(blockPacket, body, option(opts, optFlags, le.AppendUint32(nil, direction)))
}

// statistics says what an interface's capture saw.
func (w *writer) statistics(link int, n reading.CaptureCount, now time.Time, comment string) error {
	body := stamp(le.AppendUint32(nil, uint32(link)), now)
	var opts []byte
	if comment != "" {
		opts = option(opts, optComment, []byte(comment))
	}
	opts = option(opts, optStatRecv, le.AppendUint64(nil, n.Received))
	return w.block(blockStatistics, body, option(opts, optStatDropped, le.AppendUint64(nil, n.Dropped)))
}

func stamp(b []byte, t time.Time) []byte {
	ns := uint64(t.UnixNano())
	return le.AppendUint32(le.AppendUint32(b, uint32(ns>>32)), uint32(ns))
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// commentMost is what an option's length can say.
const commentMost = 1 << 12

func option(b []byte, code uint16, value []byte) []byte {
	value = value[:min(len(value), commentMost)]
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(value)))
	return append(b, pad(value[:len(value):len(value)])...)
}

func (w *writer) block(typ uint32, body, opts []byte) error {
	if len(opts) > 0 {
		opts = append(opts, 0, 0, 0, 0) // opt_endofopt
	}
	n := uint32(12 + len(body) + len(opts))
	b := make([]byte, 0, n)
	b = le.AppendUint32(b, typ)
	b = le.AppendUint32(b, n)
	b = append(append(b, body...), opts...)
	_, err := w.out.Write(le.AppendUint32(b, n))
	return err
}

// Summary is what was read of a capture.
type Summary struct {
	Packets int
	// Dropped are those that passed the filter and were lost, as the statistics say.
	Dropped uint64
	// Whole: the statistics of every interface came, so that the capture ended well.
	Whole bool
	// Notes are what the statistics say in words.
	Notes []string
}

// Copy copies a capture block by block, so that what is written is a whole file
// wherever it ends, and tells what it saw.
func Copy(dst io.Writer, src io.Reader) (s Summary, err error) {
	links, ended := 0, 0
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(src, head); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
			s.Whole = links > 0 && ended >= links
			return s, err
		}
		typ, n := le.Uint32(head), le.Uint32(head[4:])
		if n < 12 || n > blockMost || n%4 != 0 {
			return s, fmt.Errorf("the capture is not understood: a block of %d bytes", n)
		}
		block := make([]byte, n)
		copy(block, head)
		if _, err := io.ReadFull(src, block[8:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = nil
			}
			return s, err
		}
		switch typ {
		case blockInterface:
			links++
		case blockPacket:
			s.Packets++
		case blockStatistics:
			ended++
			s.statistics(block)
		}
		if _, err := dst.Write(block); err != nil {
			return s, err
		}
	}
}

func (s *Summary) statistics(block []byte) {
	if len(block) < 24 {
		return
	}
	for opts := block[20 : len(block)-4]; len(opts) >= 4; {
		code, n := le.Uint16(opts), int(le.Uint16(opts[2:]))
		padded := 4 + (n+3)&^3
		if padded > len(opts) {
			return
		}
		v := opts[4 : 4+n]
		switch {
		case code == optStatDropped && n == 8:
			s.Dropped += le.Uint64(v)
		case code == optComment:
			s.Notes = append(s.Notes, string(v))
		}
		opts = opts[padded:]
	}
}
