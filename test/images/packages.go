package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// packages fetches what the layer needs. Package lists grow old, and archives
// drop what a security update replaced: one more try with new lists.
func (b *builder) packages(ctx context.Context, l Layer, work string) ([]string, error) {
	if len(l.Packages) == 0 {
		return nil, nil
	}
	b.fetch.Lock()
	defer b.fetch.Unlock()
	base := ""
	for _, other := range b.layers {
		if other.Base {
			base = b.cache.path("base", b.keys[other.Name])
		}
	}
	scratch := filepath.Join(b.cache.path("tmp"), "apt")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	s := solver{
		root: filepath.Join(base, "rootfs"), lists: filepath.Join(base, "lists"),
		work: scratch, debs: b.cache.path("debs"), arch: b.arch,
	}
	if l.From == "" {
		// Nothing below: no package is there already.
		s.root = filepath.Join(work, "nothing")
		if err := emptyStatus(s.root); err != nil {
			return nil, err
		}
	}
	debs, err := s.fetch(ctx, l.Packages, l.Without)
	if err != nil && ctx.Err() == nil {
		b.log.Info("test image: package lists are old, fetching them again", "layer", l.Name, "why", err)
		if err := s.update(ctx); err != nil {
			return nil, err
		}
		debs, err = s.fetch(ctx, l.Packages, l.Without)
	}
	if l.From == "" {
		debs = only(debs, l.Packages)
	}
	return debs, err
}

func emptyStatus(root string) error {
	if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "var/lib/apt"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644)
}

// only keeps the files of the packages named: on an empty root static programs
// stand without what Debian says they depend on.
func only(debs, packages []string) []string {
	var out []string
	for _, deb := range debs {
		name, _, _ := strings.Cut(filepath.Base(deb), "_")
		for _, p := range packages {
			if name == p {
				out = append(out, deb)
			}
		}
	}
	return out
}
