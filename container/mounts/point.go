// Package mounts decodes what a person wishes to be mounted: -v, --mount,
// --tmpfs and an image's volumes. It looks at nothing on the host.
package mounts

import (
	"path"
	"slices"
	"strings"

	"linkspan/cnm"
)

// The types of a mount.
const (
	Bind   = "bind"
	Volume = "volume"
	Tmpfs  = "tmpfs"
)

// Point is one wish for a mount, decoded.
type Point struct {
	Type string
	// Name of a volume; empty: an anonymous one is made.
	Name string
	// Subpath is the part of a volume that is mounted; empty: all of it.
	Subpath string
	// Source is a bind's path on the host.
	Source      string
	Destination string
	RW          bool
	// Mode is the flags as they were written, for inspect.
	Mode        string
	Propagation string
	// NoCopy: a new volume stays empty, whatever the image holds there.
	NoCopy bool
	// NonRecursive binds one mount only; ROTopOnly makes only the topmost mount
	// read-only; ROForce insists that all below it are too.
	NonRecursive, ROTopOnly, ROForce bool
	// CreateSource: a missing source is made, as -v does.
	CreateSource bool
	// Driver, DriverOpts and Labels of a volume that has to be made.
	Driver             string
	DriverOpts, Labels map[string]string
	// Options of a tmpfs, merged over Docker's defaults.
	Options []string
}

// Parse decodes one -v value: DEST, SOURCE:DEST or SOURCE:DEST:MODE, where a
// source that is no absolute path is a volume's name.
func Parse(raw string) (Point, error) {
	part := strings.Split(raw, ":")
	if slices.Contains(part, "") || len(part) > 3 {
		return Point{}, badSpec(raw)
	}
	p := Point{Type: Volume, RW: true}
	switch len(part) {
	case 1:
		p.Destination = part[0]
	case 2:
		// DEST:MODE would be a volume with a mode but without a name.
		if _, err := parseMode(part[1], Bind); err == nil {
			return Point{}, badSpec(raw)
		}
		p.Source, p.Destination = part[0], part[1]
	case 3:
		p.Source, p.Destination, p.Mode = part[0], part[1], part[2]
	}
	if path.IsAbs(p.Source) {
		p.Type, p.Source, p.CreateSource = Bind, path.Clean(p.Source), true
	} else {
		p.Name, p.Source = p.Source, ""
	}
	m, err := parseMode(p.Mode, p.Type)
	if err != nil {
		return Point{}, err
	}
	p.RW, p.NoCopy, p.Propagation = m.rw, m.nocopy, m.propagation
	if p.Type == Bind && p.Propagation == "" {
		p.Propagation = "rprivate"
	}
	// Docker shows a named volume's empty mode as z.
	if p.Type == Volume && p.Name != "" && p.Mode == "" {
		p.Mode = "z"
	}
	if p.Destination, err = destination(p.Destination); err != nil {
		return Point{}, cnm.Invalid("invalid volume specification: '%s': invalid mount config for type %q: %w", raw, p.Type, err)
	}
	if p.Name != "" {
		if err := ValidName(p.Name); err != nil {
			return Point{}, err
		}
	}
	return p, nil
}

func badSpec(raw string) error { return cnm.Invalid("invalid volume specification: '%s'", raw) }

// destination checks and cleans a place inside the container.
func destination(d string) (string, error) {
	if !path.IsAbs(d) {
		return "", cnm.Invalid("invalid mount path: '%s' mount path must be absolute", d)
	}
	if d = path.Clean(d); d == "/" {
		return "", cnm.Invalid("invalid specification: destination can't be '/'")
	}
	return d, nil
}

// ValidName refuses what cannot be a volume's name, in Docker's words.
func ValidName(n string) error {
	ok := len(n) >= 2
	for i, r := range n {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case i > 0 && strings.ContainsRune("_.-", r):
		default:
			ok = false
		}
	}
	if ok {
		return nil
	}
	if len(n) == 1 {
		return cnm.Invalid("volume name is too short, names should be at least two alphanumeric characters: %q", n)
	}
	return cnm.Invalid(`%q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, n)
}

type mode struct {
	rw, nocopy  bool
	propagation string
}

// parseMode decodes the flags behind the second colon. One of each kind.
func parseMode(raw, kind string) (mode, error) {
	m := mode{rw: true}
	if raw == "" {
		return m, nil
	}
	seen := map[string]bool{}
	once := func(what string) bool { was := seen[what]; seen[what] = true; return !was }
	for _, f := range strings.Split(raw, ",") {
		ok := false
		switch f {
		case "ro", "rw":
			m.rw, ok = f == "rw", once("rw")
		case "z", "Z": // SELinux labels: taken and, where there is no SELinux, idle
			ok = once("label")
		case "nocopy":
			m.nocopy, ok = true, kind == Volume && once(f)
		case "consistent", "cached", "delegated", "default": // of Docker Desktop
			ok = once("consistency")
		case "shared", "rshared", "slave", "rslave", "private", "rprivate":
			m.propagation, ok = f, kind == Bind && once("propagation")
		}
		if !ok {
			return mode{}, cnm.Invalid("invalid mode: %s", raw)
		}
	}
	return m, nil
}
