package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// flagValue is one directive as a flag: it applies what it is given at once, so
// that the complaint names the flag, and remembers it.
type flagValue struct {
	d     *directive
	c     *Config
	seen  []string
	given map[string]*flagValue
}

func (f *flagValue) Set(s string) error {
	if err := f.d.val.set(f.c, s, len(f.seen) == 0); err != nil {
		return err
	}
	f.seen = append(f.seen, s)
	f.given[f.d.flag] = f
	return nil
}

func (f *flagValue) Type() string { return f.d.val.word() }

// String is what was given, or the default.
func (f *flagValue) String() string {
	switch {
	case f.d == nil:
		return ""
	case len(f.seen) == 0:
		if s := f.d.val.show(f.c); s != "[]" && s != "{}" {
			return s
		}
		return ""
	case f.many():
		return fmt.Sprint(f.seen)
	}
	return f.last()
}

// many says whether further occurrences add to the first.
func (f *flagValue) many() bool { return f.Type() == "list" || f.Type() == "map" }

func (f *flagValue) last() string {
	if len(f.seen) == 0 {
		return ""
	}
	return f.seen[len(f.seen)-1]
}

// flagSet makes the flags; those that were given come into the map by name.
func flagSet(c *Config, ds []directive) (*pflag.FlagSet, map[string]*flagValue) {
	flags, given := pflag.NewFlagSet("daemon", pflag.ContinueOnError), map[string]*flagValue{}
	flags.SortFlags = false
	flags.Usage = func() {}
	for i := range ds {
		addFlag(flags, &ds[i], c, given)
	}
	flags.BoolP("help", "h", false, "Print this help")
	flags.BoolP("version", "v", false, "Print the version")
	return flags, given
}

func addFlag(flags *pflag.FlagSet, d *directive, c *Config, given map[string]*flagValue) {
	if d.flag == "" {
		return
	}
	usage := d.help
	if d.class != works {
		usage = strings.ToUpper(d.note[:1]) + d.note[1:]
	}
	f := flags.VarPF(&flagValue{d: d, c: c, given: given}, d.flag, d.short, usage)
	if d.val.word() == "bool" {
		f.NoOptDefVal = "true"
	}
}

// sorted returns the given flags by name, so that messages have one order.
func sorted(given map[string]*flagValue) []*flagValue {
	var out []*flagValue
	for _, k := range slices.Sorted(maps.Keys(given)) {
		out = append(out, given[k])
	}
	return out
}

// Help is the text of `linkspan daemon --help`: what works, what is accepted and
// done otherwise, and what is refused.
func Help(name string) string {
	c, ds := defaults(name), directives()
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:  %s [OPTIONS]\n\nThe daemon. Flags and configuration keys are dockerd's.\n", command(name))
	for _, part := range []struct {
		class class
		title string
	}{
		{works, "Options"},
		{noted, "Accepted, and what Linkspan does instead"},
		{refused, "Not yet: refused, unless the value is what Linkspan does anyway"},
	} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.SortFlags = false
		for i := range ds {
			if ds[i].class == part.class {
				addFlag(flags, &ds[i], c, nil)
			}
		}
		if part.class == works {
			flags.BoolP("help", "h", false, "Print this help")
			flags.BoolP("version", "v", false, "Print the version")
		}
		fmt.Fprintf(&b, "\n%s:\n%s", part.title, flags.FlagUsages())
	}
	var differ []string
	for _, d := range ds {
		if d.flag != "" && d.key != "" && d.flag != d.key && d.class == works {
			differ = append(differ, d.flag+" is "+d.key)
		}
	}
	fmt.Fprintf(&b, "\nIn %s the keys are the flags' names; only %s.\nHUP reloads from there: %s.\n",
		DefaultFile, strings.Join(differ, ", "), strings.Join(reloadable(ds), ", "))
	return b.String()
}

func reloadable(ds []directive) []string {
	var keys []string
	for _, d := range ds {
		if d.reload {
			keys = append(keys, d.key)
		}
	}
	return keys
}
