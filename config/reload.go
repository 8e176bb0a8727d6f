package config

import (
	"fmt"
	"slices"
)

// Change is what a new version of the configuration file means for a running daemon.
type Change struct {
	// Config is the old one with the reloadable directives that changed. It is a
	// value of its own: the old one stays as it is.
	Config *Config
	// Keys are the directives that changed and were taken over, by their keys in the
	// file.
	Keys []string
	// Warnings say what changed and waits for the next start.
	Warnings []string
}

// Reload reads the file again for a running daemon. The flags that it was started
// with still hold. On any error nothing changes. file is nil when there is none
// any more.
func Reload(old *Config, file []byte) (*Change, error) {
	r, err := parse(old.name, old.args, func(string) ([]byte, error) { return file, nil })
	if err != nil {
		return nil, err
	}
	next := *old
	next.warned = r.Config.warned
	ch := &Change{Config: &next}
	for _, w := range r.Warnings {
		if !slices.Contains(old.warned, w) {
			ch.Warnings = append(ch.Warnings, w)
		}
	}
	ds := directives()
	waits := map[string]bool{}
	for _, d := range ds {
		if !d.reload && d.val.show(old) != d.val.show(r.Config) {
			waits[d.key] = true
		}
	}
	for _, d := range ds {
		was, is := d.val.show(old), d.val.show(r.Config)
		switch {
		case was == is:
		case d.reload && !waits[d.with]:
			d.val.copy(&next, r.Config)
			ch.Keys = append(ch.Keys, d.key)
		default:
			ch.Warnings = append(ch.Warnings, fmt.Sprintf("%s changed in %s from %s to %s: this takes effect when the daemon is started again",
				d.name(), old.ConfigFile, quoted(d.name(), was), quoted(d.name(), is)))
		}
	}
	if err := next.check(); err != nil {
		return nil, err
	}
	return ch, nil
}

// Reloadable is what SIGHUP can change, as it is: by the keys of the file, in a
// person's words.
func (c *Config) Reloadable() map[string]string {
	out := map[string]string{}
	for _, d := range directives() {
		if d.reload {
			out[d.key] = d.val.show(c)
		}
	}
	return out
}

func quoted(key, value string) string {
	if value == "" || value == "[]" || value == "{}" {
		return "nothing"
	}
	return masked(key, value)
}
