package docker

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"linkspan/cnm"
)

// filters are what a list is narrowed by: key → accepted values. Values of one
// key are alternatives, keys must all be met. An absent key accepts everything.
type filters map[string]map[string]bool

// Filters reads the query's filters, in today's form (a map of maps) and in
// that of clients before 1.22 (a map of lists).
func (c *call) Filters() (filters, error) { return parseFilters(c.Query("filters")) }

func parseFilters(s string) (filters, error) {
	if s == "" {
		return filters{}, nil
	}
	f := filters{}
	err := json.Unmarshal([]byte(s), &f)
	if err == nil {
		if f == nil {
			f = filters{}
		}
		return f, nil
	}
	var lists map[string][]string
	if json.Unmarshal([]byte(s), &lists) != nil {
		return nil, cnm.Invalid("invalid filter: %w", err)
	}
	f = filters{}
	for key, values := range lists {
		f[key] = map[string]bool{}
		for _, v := range values {
			f[key][v] = true
		}
	}
	return f, nil
}

// Only refuses keys that the list does not know, in Docker's words.
func (f filters) Only(keys ...string) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(keys, key) {
			return cnm.Invalid("invalid filter '%s'", key)
		}
	}
	return nil
}

// badFilter says that a key's value cannot be.
func badFilter(key, value string) error {
	return cnm.Invalid("invalid filter '%s=%s'", key, value)
}

// Has says that the key narrows the list.
func (f filters) Has(key string) bool { return len(f[key]) > 0 }

// Values are the accepted values of a key, sorted.
func (f filters) Values(key string) []string { return slices.Sorted(maps.Keys(f[key])) }

// Exact accepts a source that is one of the values.
func (f filters) Exact(key, source string) bool { return !f.Has(key) || f[key][source] }

// Prefix accepts a source that is or begins with one of the values.
func (f filters) Prefix(key, source string) bool {
	if !f.Has(key) || f[key][source] {
		return true
	}
	for v := range f[key] {
		if strings.HasPrefix(source, v) {
			return true
		}
	}
	return false
}

// Match accepts a source in which one of the values, a regular expression, is
// found.
func (f filters) Match(key, source string) bool {
	if !f.Has(key) || f[key][source] {
		return true
	}
	for v := range f[key] {
		if re, err := regexp.Compile(v); err == nil && re.MatchString(source) {
			return true
		}
	}
	return false
}

// Labels accepts labels in which all of the values ("key" or "key=value") are
// found.
func (f filters) Labels(key string, labels map[string]string) bool {
	for kv := range f[key] {
		k, want, hasValue := strings.Cut(kv, "=")
		have, ok := labels[k]
		if !ok || hasValue && have != want {
			return false
		}
	}
	return true
}

// Bool reads a key whose only values are true and false.
func (f filters) Bool(key string, or bool) (bool, error) {
	values := f.Values(key)
	if len(values) == 0 {
		return or, nil
	}
	var yes, no bool
	for _, v := range values {
		switch v {
		case "1", "true":
			yes = true
		case "0", "false":
			no = true
		default:
			return or, badFilter(key, v)
		}
	}
	if yes == no {
		return or, badFilter(key, strings.Join(values, ","))
	}
	return yes, nil
}
