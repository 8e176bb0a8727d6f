// Package logs reads a container's json-file log, which the keeper writes: one
// JSON object a line, as Docker's driver of that name.
package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"sort"
	"strings"
	"time"
)

// Options choose what is read and how it is written.
type Options struct {
	Stdout, Stderr, Timestamps, Details, Follow bool
	// Since and Until bound the entries' times; zero: no bound.
	Since, Until time.Time
	// Tail is how many of the last matching entries; negative: all.
	Tail int
	// Mux frames each entry with the 8-byte stdcopy header.
	Mux bool
}

// entry is one line of the file.
type entry struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Attrs  map[string]string `json:"attrs"`
	Time   time.Time         `json:"time"`
}

// timeFormat has always nine digits, so that columns stand under each other.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// parse decodes one line. A line that was torn by a power cut, with the next
// one written behind it, gives that next one.
func parse(line []byte) (e entry, ok bool) {
	if json.Unmarshal(line, &e) == nil {
		return e, true
	}
	if i := bytes.LastIndex(line, []byte(`{"log":`)); i > 0 {
		e = entry{}
		return e, json.Unmarshal(line[i:], &e) == nil
	}
	return e, false
}

func (o *Options) wants(e *entry) bool {
	switch {
	case e.Stream == "stdout" && !o.Stdout, e.Stream == "stderr" && !o.Stderr:
		return false
	case !o.Since.IsZero() && e.Time.Before(o.Since):
		return false
	}
	return !o.past(e)
}

func (o *Options) past(e *entry) bool {
	return !o.Until.IsZero() && e.Time.After(o.Until)
}

// render makes the bytes that the client gets.
func (o *Options) render(e *entry) []byte {
	var b []byte
	if o.Mux {
		b = make([]byte, 8, 8+len(e.Log)+len(timeFormat)+1)
		if b[0] = 1; e.Stream == "stderr" {
			b[0] = 2
		}
	}
	if o.Timestamps {
		b = append(e.Time.UTC().AppendFormat(b, timeFormat), ' ')
	}
	if o.Details {
		b = append(append(b, details(e.Attrs)...), ' ')
	}
	b = append(b, e.Log...)
	if o.Mux {
		binary.BigEndian.PutUint32(b[4:8], uint32(len(b)-8))
	}
	return b
}

func details(attrs map[string]string) string {
	var kv []string
	for k, v := range attrs {
		kv = append(kv, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	sort.Strings(kv)
	return strings.Join(kv, ",")
}
