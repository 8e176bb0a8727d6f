package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"linkspan/cnm"
)

// Ask is what the command line wants.
type Ask int

// Run starts the daemon; the others print something and exit.
const (
	Run Ask = iota
	ShowHelp
	ShowVersion
	// Validate: everything was checked and is good; print "configuration OK".
	Validate
)

// Result is a command line that was understood.
type Result struct {
	Ask Ask
	// Config is nil for ShowHelp and ShowVersion.
	Config *Config
	// Warnings are for the log, one line each: what was accepted and is done otherwise.
	Warnings []string
}

// Parse reads a daemon's command line (without its name) and the file that it
// names. name is what the daemon is called as. Errors are cnm.ErrInvalid, or
// cnm.ErrUnsupported for what belongs to later work; all refusals are in one error.
func Parse(name string, args []string) (*Result, error) {
	return parse(name, args, os.ReadFile)
}

func parse(name string, args []string, read func(string) ([]byte, error)) (*Result, error) {
	c, ds := defaults(name), directives()
	c.args = slices.Clone(args)
	flags, given := flagSet(c, ds)
	if err := flags.Parse(args); err != nil {
		return nil, flagError(name, err, flags)
	}
	if ok, _ := flags.GetBool("help"); ok {
		return &Result{Ask: ShowHelp}, nil
	}
	if ok, _ := flags.GetBool("version"); ok {
		return &Result{Ask: ShowVersion}, nil
	}
	if flags.NArg() > 0 {
		return nil, cnm.Invalid("%q accepts no arguments, and %q is none of its flags.\nSee '%s --help'.", command(name), flags.Arg(0), command(name))
	}

	b, err := read(c.ConfigFile)
	if err != nil && (flags.Changed("config-file") || !errors.Is(err, fs.ErrNotExist)) {
		return nil, cnm.Invalid("unable to configure the daemon with file %s: %w", c.ConfigFile, err)
	}
	entries, err := readFile(c.ConfigFile, b, ds)
	if err != nil {
		return nil, err
	}
	if err := conflicts(c.ConfigFile, given, entries); err != nil {
		return nil, err
	}
	r := &Result{Config: c}
	if err := judge(r, given, entries); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := apply(c, given, e); err != nil {
			return nil, sentence(err, "%q in %s: ", e.key, c.ConfigFile)
		}
	}
	c.GroupGiven = given["group"] != nil || slices.ContainsFunc(entries, func(e entry) bool { return e.key == "group" })
	c.TLSGiven = given["tls"] != nil || given["tlsverify"] != nil || slices.ContainsFunc(entries, func(e entry) bool { return e.key == "tls" || e.key == "tlsverify" })
	c.settle()
	if err := c.check(); err != nil {
		return nil, err
	}
	for _, h := range c.Hosts {
		if h.Proto == "tcp" && !c.TLS {
			who := "whoever reaches it"
			if h.Loopback() {
				who = "every user and program on this host"
			}
			r.Warnings = append(r.Warnings, fmt.Sprintf("the API is listening on %s without TLS: %s is root here; --tlsverify with certificates mends that", h, who))
		}
	}
	c.warned = slices.Clone(r.Warnings)
	if v := given["validate"]; v != nil {
		if on, _ := strconv.ParseBool(v.last()); on {
			r.Ask = Validate
		}
	}
	return r, nil
}

// apply takes an entry of the file over. Where flag and file add up, the file
// comes first and the flags win.
func apply(c *Config, given map[string]*flagValue, e entry) error {
	before := *c
	if err := e.val.decode(c, e.raw); err != nil {
		return err
	}
	if f := given[e.flag]; f != nil && e.merges {
		for k, v := range before.Runtimes {
			c.Runtimes[k] = v
		}
	}
	return nil
}

// judge gives every directive that was given its verdict: a warning, or a refusal.
func judge(r *Result, given map[string]*flagValue, entries []entry) error {
	var refusals []error
	one := func(d *directive, where, value string) {
		switch d.verdict(value) {
		case noted:
			r.Warnings = append(r.Warnings, where+": "+d.note)
		case refused:
			refusals = append(refusals, cnm.Unsupported("not yet: %s: %s", where, d.note))
		}
	}
	for _, f := range sorted(given) {
		// Of a list every item counts, of all else the last word.
		value := f.last()
		if at := slices.IndexFunc(f.seen, func(s string) bool { return f.d.verdict(s) != works }); at >= 0 && f.many() {
			value = f.seen[at]
		}
		one(f.d, "--"+f.d.flag, value)
	}
	for _, e := range entries {
		one(e.directive, fmt.Sprintf("%q in %s", e.key, r.Config.ConfigFile), plain(e.raw))
	}
	return errors.Join(refusals...)
}

// conflicts refuses what is given both as a flag and in the file, in dockerd's
// words, so that nobody has to guess which one wins.
func conflicts(path string, given map[string]*flagValue, entries []entry) error {
	var both []string
	for _, e := range entries {
		f := given[e.flag]
		if f == nil || e.merges {
			continue
		}
		var v any
		_ = json.Unmarshal(e.raw, &v)
		both = append(both, fmt.Sprintf("%s: (from flag: %s, from file: %s)", e.key, masked(e.key, f.String()), masked(e.key, fmt.Sprint(v))))
	}
	if len(both) == 0 {
		return nil
	}
	slices.Sort(both)
	return cnm.Invalid("unable to configure the daemon with file %s: the following directives are specified both as a flag and in the configuration file: %s",
		path, strings.Join(both, ", "))
}

// masked hides the password in a proxy's URL.
func masked(key, value string) string {
	if !strings.HasSuffix(key, "-proxy") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return value
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

// sentence puts words before an error without changing its class; an error of no
// class becomes cnm.ErrInvalid.
func sentence(err error, format string, args ...any) error {
	class := cnm.ErrInvalid
	if errors.Is(err, cnm.ErrUnsupported) {
		class = cnm.ErrUnsupported
	}
	return cnm.Errorf(class, "%s%s", fmt.Sprintf(format, args...), err)
}

// flagError is pflag's complaint with the nearest flag's name.
func flagError(name string, err error, flags *pflag.FlagSet) error {
	if cause, ok := errors.AsType[*pflag.InvalidValueError](err); ok && errors.Is(cause, cnm.ErrUnsupported) {
		return sentence(cause.Unwrap(), "")
	}
	hint := ""
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var names []string
		flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := Nearest(unknown.GetSpecifiedName(), names); near != "" && len(unknown.GetSpecifiedName()) > 1 {
			hint = fmt.Sprintf(" (did you mean --%s?)", near)
		}
	}
	return cnm.Invalid("%w%s\nSee '%s --help'.", err, hint, command(name))
}

// command is how a person calls the daemon.
func command(name string) string {
	if name == "dockerd" {
		return name
	}
	return "linkspan daemon"
}
