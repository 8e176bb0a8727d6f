package mounts

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	apimount "github.com/moby/moby/api/types/mount"

	"linkspan/cnm"
)

// FromMount decodes one --mount.
func FromMount(m apimount.Mount) (Point, error) {
	p := Point{Type: string(m.Type), RW: !m.ReadOnly}
	bad := func(format string, args ...any) (Point, error) {
		return Point{}, cnm.Invalid("invalid mount config for type %q: %w", m.Type, fmt.Errorf(format, args...))
	}
	if m.Target == "" {
		return bad("field Target must not be empty")
	}
	var err error
	if p.Destination, err = destination(m.Target); err != nil {
		return bad("%w", err)
	}
	for _, x := range []struct {
		name string
		set  bool
		of   apimount.Type
	}{
		{"BindOptions", m.BindOptions != nil, apimount.TypeBind},
		{"VolumeOptions", m.VolumeOptions != nil, apimount.TypeVolume},
		{"TmpfsOptions", m.TmpfsOptions != nil, apimount.TypeTmpfs},
		{"ImageOptions", m.ImageOptions != nil, apimount.TypeImage},
	} {
		if x.set && m.Type != x.of {
			return bad("field %s must not be specified", x.name)
		}
	}
	switch m.Type {
	case apimount.TypeBind:
		return fromBind(p, m, bad)
	case apimount.TypeVolume:
		return fromVolume(p, m, bad)
	case apimount.TypeTmpfs:
		if m.Source != "" {
			return bad("field Source must not be specified")
		}
		return fromTmpfs(p, m)
	case apimount.TypeImage:
		return Point{}, cnm.Unsupported("a mount of type image is not supported yet: only bind, volume and tmpfs are")
	}
	return Point{}, cnm.Invalid("mount type unknown: %q (bind, volume and tmpfs are known)", m.Type)
}

type refuse func(format string, args ...any) (Point, error)

func fromBind(p Point, m apimount.Mount, bad refuse) (Point, error) {
	if m.Source == "" {
		return bad("field Source must not be empty")
	}
	if !path.IsAbs(m.Source) {
		return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	p.Source, p.Propagation = path.Clean(m.Source), "rprivate"
	o := m.BindOptions
	if o == nil {
		return p, nil
	}
	if o.Propagation != "" {
		if !slices.Contains(apimount.Propagations, o.Propagation) {
			return bad("invalid propagation mode: %s", o.Propagation)
		}
		p.Propagation = string(o.Propagation)
	}
	if o.ReadOnlyForceRecursive && (p.RW || o.ReadOnlyNonRecursive || o.NonRecursive || p.Propagation != "rprivate") {
		return bad("ReadOnlyForceRecursive needs a read-only, recursive mount with propagation rprivate, and excludes ReadOnlyNonRecursive")
	}
	p.NonRecursive, p.ROTopOnly, p.ROForce = o.NonRecursive, o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	p.CreateSource = o.CreateMountpoint
	return p, nil
}

func fromVolume(p Point, m apimount.Mount, bad refuse) (Point, error) {
	if m.Source != "" {
		if err := ValidName(m.Source); err != nil {
			return bad("%w", err)
		}
		p.Mode = "z"
	}
	p.Name = m.Source
	o := m.VolumeOptions
	if o == nil {
		return p, nil
	}
	p.NoCopy, p.Labels = o.NoCopy, o.Labels
	if o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return bad("subpath must be a relative path within the volume")
		}
		// What the image has at the place would go into the volume's root.
		p.Subpath, p.NoCopy = path.Clean(o.Subpath), true
	}
	if o.DriverConfig != nil {
		p.Driver, p.DriverOpts = o.DriverConfig.Name, o.DriverConfig.Options
	}
	return p, nil
}

func fromTmpfs(p Point, m apimount.Mount) (Point, error) {
	var opts []string
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	if o := m.TmpfsOptions; o != nil {
		if o.SizeBytes < 0 {
			return Point{}, cnm.Invalid("invalid mount config for type \"tmpfs\": the size must not be negative")
		}
		if o.SizeBytes > 0 {
			opts = append(opts, fmt.Sprintf("size=%d", o.SizeBytes))
		}
		if o.Mode != 0 {
			opts = append(opts, fmt.Sprintf("mode=%o", o.Mode))
		}
		for _, kv := range o.Options {
			if len(kv) == 0 || len(kv) > 2 {
				return Point{}, cnm.Invalid("invalid mount config for type \"tmpfs\": an option is a flag or a key with its value: %q", kv)
			}
			opts = append(opts, strings.Join(kv, "="))
		}
	}
	var err error
	p.Options, err = TmpfsOptions(opts)
	return p, err
}
