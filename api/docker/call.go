package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// maxJSON bounds a JSON request body. The largest honest one, a create with a
// long environment and thousands of ports, stays far below.
const maxJSON = 4 << 20

// call is one request on its way: what a handler reads from and writes to.
type call struct {
	R       *http.Request
	Vars    map[string]string
	Version Version
	w       *response
	pattern string // of its route
	// stopping ends when the daemon shuts down: streams end then, while changes
	// under way may finish.
	stopping context.Context
}

// Context ends when the client goes. Use it for changes.
func (c *call) Context() context.Context { return c.R.Context() }

// Streaming ends when the client goes or the daemon shuts down. Use it for
// what has no end of its own: events, wait, logs -f.
func (c *call) Streaming() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.R.Context())
	stop := context.AfterFunc(c.stopping, cancel)
	return ctx, func() { stop(); cancel() }
}

// Query returns a query value, the empty string if it is not there.
func (c *call) Query(key string) string { return c.R.URL.Query().Get(key) }

// Has says whether the query names the key.
func (c *call) Has(key string) bool { return c.R.URL.Query().Has(key) }

// Bool reads a flag as dockerd does: absent, empty, 0, no, false and none are
// false, all else is true.
func (c *call) Bool(key string) bool {
	switch strings.ToLower(strings.TrimSpace(c.Query(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is Bool with a default for the absent key.
func (c *call) BoolOr(key string, or bool) bool {
	if !c.Has(key) {
		return or
	}
	return c.Bool(key)
}

// Int reads a number; ok is false if the key is absent or empty.
func (c *call) Int(key string) (n int, ok bool, err error) {
	s := c.Query(key)
	if s == "" {
		return 0, false, nil
	}
	n, err = strconv.Atoi(s)
	if err != nil {
		return 0, false, cnm.Invalid("invalid value %q for %s: it must be a whole number", s, key)
	}
	return n, true, nil
}

// ReadJSON decodes the body into v. An empty body leaves v as it is and is no
// error. The checks and words are dockerd's (httputils.ReadJSON).
func (c *call) ReadJSON(v any) error {
	ct := c.R.Header.Get("Content-Type")
	if c.R.Body == nil || c.R.ContentLength == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return cnm.Invalid("malformed Content-Type header (%s): %w", ct, err)
	}
	if media != "application/json" {
		return cnm.Invalid("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	// The limit tells net/http's own writer when it is passed. The server then stays
	// a moment after the answer, for a client that is still sending to read it.
	if c.R.ContentLength > maxJSON {
		_, _ = http.MaxBytesReader(c.w.ResponseWriter, c.R.Body, 0).Read(make([]byte, 1))
		return tooLarge(&http.MaxBytesError{Limit: maxJSON})
	}
	dec := json.NewDecoder(http.MaxBytesReader(c.w.ResponseWriter, c.R.Body, maxJSON))
	if err := dec.Decode(v); err != nil {
		return badJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return tooLarge(big)
		}
		return cnm.Invalid("unexpected content after JSON")
	}
	return nil
}

// embedded are Go's names of structs that JSON does not show.
var embedded = strings.NewReplacer("CreateRequest.", "", "Resources.", "", ".Config.", ".")

func badJSON(err error) error {
	var big *http.MaxBytesError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &big):
		return tooLarge(big)
	case errors.Is(err, io.EOF):
		return cnm.Invalid("invalid JSON: got EOF while reading request body")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return cnm.Invalid("invalid JSON: the request body ends in the middle of a value")
	case errors.As(err, &typed) && typed.Field != "":
		return cnm.Invalid("invalid JSON: %s must be %s, not %s", embedded.Replace(typed.Field), kindWord(typed.Type.String()), typed.Value)
	}
	if m := badAddr.FindStringSubmatch(err.Error()); m != nil {
		return cnm.Invalid("invalid IP address %s: %s; write it like 172.17.0.9 or fd00::9", m[1], m[2])
	}
	return cnm.Invalid("invalid JSON: %w", err)
}

// badAddr reads netip's error, whose type is not exported, and which encoding/json
// hands on without the field's name.
var badAddr = regexp.MustCompile(`ParseAddr\((".*")\): (.*)`)

// kindWord says a Go type as a person who writes JSON would.
func kindWord(t string) string {
	switch {
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "an object"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"), strings.HasPrefix(t, "float"):
		return "a number (" + t + ")"
	case t == "bool":
		return "true or false"
	case t == "string":
		return "a string"
	}
	return t
}

func tooLarge(err *http.MaxBytesError) error {
	return fmt.Errorf("the request body is too large: at most %d bytes of JSON are taken: %w", err.Limit, err)
}

// JSON answers with a value.
func (c *call) JSON(code int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(code)
	return c.Encode(v)
}

// Encode writes one more JSON value and a newline to an answer that has begun.
func (c *call) Encode(v any) error {
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Empty answers with a status alone.
func (c *call) Empty(code int) error {
	c.w.WriteHeader(code)
	return nil
}

// Write writes to the answer.
func (c *call) Write(b []byte) (int, error) { return c.w.Write(b) }

// Header is the answer's header.
func (c *call) Header() http.Header { return c.w.Header() }

// Begin sends status and headers at once, before there is a body.
func (c *call) Begin(code int) {
	c.w.WriteHeader(code)
	c.Flush()
}

// Flush sends what was written so far.
func (c *call) Flush() { _ = http.NewResponseController(c.w.ResponseWriter).Flush() }
