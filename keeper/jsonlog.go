package keeper

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// maxLine is the longest line that goes into one log entry. Docker's copier
// reads into a buffer of 16 KiB and logs what fills it without a newline as a
// partial entry: one whose "log" does not end in "\n".
const maxLine = 16 << 10

// splitter cuts one output into log entries. It keeps what has no newline yet,
// up to one entry.
type splitter struct {
	source string        // "stdout", "stderr"
	attrs  []byte        // JSON, for each entry; nil: none
	tick   func() []byte // the time of each entry; nil: what add is told
	held   []byte
	// since is the time of the first part while parts of one long line are being
	// logged; all of its parts carry it, as Docker's do.
	since []byte
}

// add appends to dst the entries that chunk completes. now is RFC3339Nano.
func (s *splitter) add(dst, chunk, now []byte) []byte {
	for len(chunk) > 0 {
		room := maxLine - len(s.held)
		end := bytes.IndexByte(chunk[:min(room, len(chunk))], '\n')
		if end < 0 && len(chunk) < room {
			s.held = append(s.held, chunk...)
			return dst
		}
		if end >= 0 {
			line := chunk[:end+1]
			if len(s.held) > 0 {
				s.held = append(s.held, line...)
				line = s.held
			}
			dst = appendEntry(dst, line, s.source, s.attrs, s.stamp(now))
			s.held, s.since = release(s.held), nil
			chunk = chunk[end+1:]
			continue
		}
		s.held = append(s.held, chunk[:room]...)
		chunk = chunk[room:]
		dst = s.part(dst, now)
	}
	return dst
}

// part logs a full buffer that has no newline. It is cut before a rune that is
// not whole, where Docker cuts it apart and writes two U+FFFD: the entries are
// then up to three bytes shorter, and lose nothing.
func (s *splitter) part(dst, now []byte) []byte {
	cut := wholeRunes(s.held)
	ts := s.stamp(now)
	if s.since == nil {
		s.since = append([]byte(nil), ts...)
	}
	dst = appendEntry(dst, s.held[:cut], s.source, s.attrs, ts)
	s.held = append(s.held[:0], s.held[cut:]...)
	return dst
}

// flush logs at the end of the output what came without a newline.
func (s *splitter) flush(dst, now []byte) []byte {
	if len(s.held) > 0 {
		dst = appendEntry(dst, s.held, s.source, s.attrs, s.stamp(now))
	}
	s.held, s.since = nil, nil
	return dst
}

func (s *splitter) stamp(now []byte) []byte {
	if s.since != nil {
		return s.since
	}
	if s.tick != nil {
		return s.tick()
	}
	return now
}

// release keeps a small buffer for the next line and lets go of a big one, so
// that an idle container costs nothing.
func release(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}

// wholeRunes is how much of b to take so that no rune is cut apart.
func wholeRunes(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-back:]) && back < len(b) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

// appendEntry writes one entry with its newline, byte for byte as dockerd's
// json-file driver does: `docker logs`, log shippers and people's jq scripts
// read these files directly.
func appendEntry(dst, line []byte, source string, attrs, ts []byte) []byte {
	dst = append(dst, `{"log":`...)
	dst = appendJSONString(dst, line)
	dst = append(dst, `,"stream":"`...)
	dst = append(dst, source...)
	dst = append(dst, '"')
	if len(attrs) > 0 {
		dst = append(append(dst, `,"attrs":`...), attrs...)
	}
	dst = append(dst, `,"time":"`...)
	dst = append(dst, ts...)
	return append(dst, '"', '}', '\n')
}

// appendJSONString escapes as dockerd does, which is not what encoding/json
// does: no \t, \b or \f, but \u0009 and so on; and <, > and & always.
func appendJSONString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hex[r&15])
			start = i + size
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

// entry is one line of a log as read back.
type entry struct {
	Log    string `json:"log"`
	Stream string `json:"stream"`
}

// decodeEntry reads one line. A line that is not an entry (another hand wrote
// into the file) is skipped by the caller.
func decodeEntry(line []byte) (e entry, ok bool) {
	err := json.Unmarshal(line, &e)
	return e, err == nil && e.Stream != ""
}

// stamps are the times of a stream's entries: no two are equal, and each is after
// the one before, whatever the clock does. Who reads rotated files tells by them
// which entries he has; so do log shippers.
type stamps struct {
	last time.Time
	buf  []byte
}

// next is valid until the following call.
func (s *stamps) next() []byte {
	now := time.Now().UTC().Round(0)
	if !now.After(s.last) {
		now = s.last.Add(1)
	}
	s.last = now
	s.buf = now.AppendFormat(s.buf[:0], time.RFC3339Nano)
	return s.buf
}

// attrsJSON renders the attributes of each entry, as dockerd's driver does: by
// encoding/json, sorted.
func attrsJSON(attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return nil
	}
	b, err := json.Marshal(attrs)
	if err != nil {
		return nil // strings can be marshalled
	}
	return b
}
