package config

import (
	"slices"
	"strconv"
)

// class says what becomes of a directive that a person gives.
type class int

const (
	// works: it does what dockerd's documentation says.
	works class = iota
	// noted: it is accepted, and one warning says what Linkspan does instead.
	noted
	// refused: it would change what the person relies on, and is not there yet.
	refused
)

// directive is one setting: a flag, a key of the file, or both.
type directive struct {
	flag  string // without dashes; "" if only the file has it
	short string // one letter
	key   string // in the file; "" if only the flag exists
	// old are former spellings of the key that dockerd still takes.
	old   []string
	class class
	val   value
	help  string
	// note is, for noted, what Linkspan does instead; for refused, the words after
	// "not yet: ".
	note string
	// same are the values that mean what Linkspan does anyway: with one of them, or
	// with nothing ("", [], {}), a noted or refused directive passes without a word.
	same []string
	// reload: the running daemon takes a change of the file over.
	reload bool
	// with is the key of a directive that decides what this one means: when that one
	// changed and waits for the next start, this one waits with it.
	with string
	// merges: flag and file add up, and giving both is no conflict.
	merges bool
}

// name is how messages call it: by its key, as dockerd does.
func (d *directive) name() string {
	if d.key != "" {
		return d.key
	}
	return d.flag
}

// verdict is the class of the directive with this value.
func (d *directive) verdict(value string) class {
	if d.val.word() == "bool" {
		if b, err := strconv.ParseBool(value); err == nil {
			value = strconv.FormatBool(b)
		}
	}
	if value == "" || slices.Contains(d.same, value) {
		return works
	}
	return d.class
}

// byKey finds a directive by its key in the file.
func byKey(ds []directive, key string) *directive {
	for i := range ds {
		if ds[i].key != "" && (ds[i].key == key || slices.Contains(ds[i].old, key)) {
			return &ds[i]
		}
	}
	return nil
}
