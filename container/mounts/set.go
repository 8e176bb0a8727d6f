package mounts

import (
	"maps"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
)

// Set decodes everything that a container wishes to be mounted: inherited are
// the points of --volumes-from, which every other wish overrides; volumes are
// the places that the image or -v DEST wants an anonymous volume at.
func Set(hc *apicontainer.HostConfig, volumes map[string]struct{}, inherited []Point) ([]Point, error) {
	at := map[string]Point{}
	for _, p := range inherited {
		at[p.Destination] = p
	}
	own := map[string]bool{}
	add := func(p Point, err error) error {
		if err != nil {
			return err
		}
		if own[p.Destination] {
			return cnm.Invalid("Duplicate mount point: %s", p.Destination)
		}
		own[p.Destination] = true
		at[p.Destination] = p
		return nil
	}
	for _, b := range hc.Binds {
		p, err := Parse(b)
		if err == nil && hc.VolumeDriver != "" && p.Type == Volume {
			p.Driver = hc.VolumeDriver
		}
		if err := add(p, err); err != nil {
			return nil, err
		}
	}
	for _, m := range hc.Mounts {
		if err := add(FromMount(m)); err != nil {
			return nil, err
		}
	}
	for _, d := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		if err := add(FromTmpfs(d, hc.Tmpfs[d])); err != nil {
			return nil, err
		}
	}
	for _, v := range slices.Sorted(maps.Keys(volumes)) {
		// Old images and clients put a whole -v value here.
		p, err := Parse(v)
		if err != nil {
			return nil, err
		}
		if _, taken := at[p.Destination]; !taken {
			p.Driver = hc.VolumeDriver
			at[p.Destination] = p
		}
	}
	points := slices.Collect(maps.Values(at))
	slices.SortFunc(points, func(a, b Point) int { return strings.Compare(a.Destination, b.Destination) })
	return points, nil
}

// ParseVolumesFrom splits --volumes-from: CONTAINER[:ro|rw|z|Z].
func ParseVolumesFrom(v string) (container string, rw bool, err error) {
	container, raw, _ := strings.Cut(v, ":")
	if container == "" {
		return "", false, cnm.Invalid("malformed volumes-from specification: %s", v)
	}
	m, err := parseMode(raw, Volume)
	return container, m.rw, err
}
