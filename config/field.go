package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// value decodes one directive, from a flag or from the file, into a Config.
type value interface {
	// word names the type in the help ("string", "list"); bool flags need no value.
	word() string
	// set applies one occurrence of the flag. first is true for the first one, which
	// replaces the default; later ones add to a list and replace anything else.
	set(c *Config, s string, first bool) error
	// decode applies the file's JSON value, which replaces the default.
	decode(c *Config, raw json.RawMessage) error
	// show is the value in a person's words, for messages and comparison.
	show(c *Config) string
	// copy takes the value over from another configuration.
	copy(dst, src *Config)
}

// field is a value that lives in one field of Config.
type field[T any] struct {
	name string
	at   func(*Config) *T
	// parse reads one flag occurrence, or a JSON string.
	parse func(string) (T, error)
	// number, when not nil, reads a JSON number too.
	number func(json.Number) (T, error)
	// object, when not nil, reads a JSON object or array instead.
	object func(json.RawMessage) (T, error)
	// join adds a later occurrence; nil: it replaces.
	join   func(old, more T) T
	format func(T) string
}

func (f *field[T]) word() string { return f.name }

func (f *field[T]) set(c *Config, s string, first bool) error {
	v, err := f.parse(s)
	if err != nil {
		return err
	}
	p := f.at(c)
	if f.join != nil && !first {
		v = f.join(*p, v)
	}
	*p = v
	return nil
}

func (f *field[T]) decode(c *Config, raw json.RawMessage) error {
	v, err := f.fromJSON(raw)
	if err == nil {
		*f.at(c) = v
	}
	return err
}

func (f *field[T]) fromJSON(raw json.RawMessage) (T, error) {
	var none T
	kind := jsonKind(raw)
	switch {
	case f.object != nil:
		return f.object(raw)
	case f.name == "bool":
		if kind != "true or false" {
			return none, wrongKind("true or false", kind)
		}
		return f.parse(string(raw))
	case f.number != nil && kind == "a number":
		return f.number(json.Number(raw))
	case f.number != nil && f.name == "int":
		return none, wrongKind("a number", kind)
	}
	var s string
	if kind != "a string" {
		return none, wrongKind("a string", kind)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return none, err
	}
	return f.parse(s)
}

func (f *field[T]) show(c *Config) string { return f.format(*f.at(c)) }

func (f *field[T]) copy(dst, src *Config) { *f.at(dst) = *f.at(src) }

// unused is a directive that Linkspan knows and does not keep: it is only
// checked for its form.
type unused string

func (u unused) word() string        { return string(u) }
func (u unused) show(*Config) string { return "" }
func (u unused) copy(_, _ *Config)   {}

func (u unused) set(_ *Config, s string, _ bool) error {
	switch u {
	case "bool":
		if _, err := strconv.ParseBool(s); err != nil {
			return fmt.Errorf("want true or false, have %q", s)
		}
	case "int":
		if _, err := strconv.ParseInt(s, 0, 64); err != nil {
			return fmt.Errorf("want a whole number, have %q", s)
		}
	}
	return nil
}

func (u unused) decode(_ *Config, raw json.RawMessage) error {
	want := map[unused]string{"bool": "true or false", "int": "a number", "string": "a string", "list": "a list", "map": "an object"}[u]
	if kind := jsonKind(raw); want != "" && kind != want {
		return wrongKind(want, kind)
	}
	return nil
}

// jsonKind names the type of a JSON value in a person's words.
func jsonKind(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

func wrongKind(want, have string) error { return fmt.Errorf("want %s, have %s", want, have) }

// plain is the text by which classes compare a value that was given: strings
// without quotes, "" for what is empty.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return strings.TrimSpace(string(raw))
	}
	if s := b.String(); s != "[]" && s != "{}" {
		return s
	}
	return ""
}
