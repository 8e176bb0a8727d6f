package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
)

// entry is one directive of the file.
type entry struct {
	key string
	raw json.RawMessage
	*directive
}

// readFile reads the JSON of a configuration file into entries, in the file's
// order. null counts as absent. Every complaint names the file.
func readFile(path string, b []byte, ds []directive) ([]entry, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // some editors put a byte order mark there
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return nil, cnm.Invalid("%s is UTF-16: save it as UTF-8", path)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	members, err := object(b)
	if err != nil {
		return nil, cnm.Invalid("%s is not a JSON object: %w", path, err)
	}
	var out []entry
	var unknown []string
	for _, m := range members {
		switch d := byKey(ds, m.key); {
		case jsonKind(m.raw) == "null":
		case d != nil:
			out = append(out, entry{m.key, m.raw, d})
		default:
			unknown = append(unknown, m.key)
		}
	}
	if len(unknown) > 0 {
		return nil, unknownKeys(path, unknown, ds)
	}
	return out, twice(path, out)
}

// object reads the members of a JSON object. Those of "proxies", the one object
// that dockerd nests, stand beside the others.
func object(b []byte) ([]entry, error) {
	// Unmarshal first: its syntax errors tell the place exactly, and after it the
	// decoder below cannot fail.
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, at(b, err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, wrongKind("an object", jsonKind(b))
	}
	var out []entry
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		if key != "proxies" || jsonKind(raw) != "an object" {
			out = append(out, entry{key: key, raw: raw})
			continue
		}
		inner, err := object(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, inner...)
	}
	return out, nil
}

// at adds line and column to a syntax error, and a hint for the usual slips.
func at(b []byte, err error) error {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return err
	}
	// Offset counts the bytes read, the offending one included.
	before := b[:max(0, min(int(syntax.Offset), len(b))-1)]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	hint := ""
	switch rest := b[len(before):]; {
	case bytes.HasPrefix(rest, []byte("/")) || bytes.HasPrefix(rest, []byte("#")):
		hint = " (JSON has no comments)"
	case bytes.HasPrefix(rest, []byte("}")) || bytes.HasPrefix(rest, []byte("]")):
		hint = " (is there a comma too many before it?)"
	case bytes.HasPrefix(rest, []byte(`"`)):
		hint = " (is a comma missing before it?)"
	}
	return fmt.Errorf("line %d, column %d: %w%s", line, column, err, hint)
}

func unknownKeys(path string, unknown []string, ds []directive) error {
	var keys []string
	for _, d := range ds {
		if d.key != "" {
			keys = append(keys, d.key)
		}
	}
	for i, k := range unknown {
		near := ""
		// A flag's spelling is the most common slip: "registry-mirror" for "registry-mirrors".
		if at := slices.IndexFunc(ds, func(d directive) bool { return d.flag == k }); at >= 0 && ds[at].key != "" {
			near = ds[at].key
		} else if at < 0 {
			near = Nearest(k, keys)
		}
		if near != "" {
			unknown[i] = fmt.Sprintf("%s (did you mean %q?)", k, near)
		}
	}
	// The first half is dockerd's sentence.
	return cnm.Invalid("unable to configure the daemon with file %s: the following directives don't match any configuration option: %s",
		path, strings.Join(unknown, ", "))
}

// twice refuses a directive that the file gives more than once; JSON decoders
// would silently take the last.
func twice(path string, entries []entry) error {
	seen := map[*directive]string{}
	for _, e := range entries {
		first, again := seen[e.directive]
		switch {
		case again && first == e.key:
			return cnm.Invalid("unable to configure the daemon with file %s: %q is given twice", path, e.key)
		case again:
			return cnm.Invalid("unable to configure the daemon with file %s: %s and %s must not both be specified in the config file", path, first, e.key)
		}
		seen[e.directive] = e.key
	}
	return nil
}
