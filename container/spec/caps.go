package spec

import (
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"

	"linkspan/cnm"
)

// DefaultCaps are what a container has unless told otherwise: Docker's set.
func DefaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
		"CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

const allCaps = "ALL"

// NormalizeCaps turns "net_admin" into "CAP_NET_ADMIN" and refuses what no
// kernel knows.
func NormalizeCaps(names []string) ([]string, error) {
	known := cap.Known()
	var out []string
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != allCaps {
			if !strings.HasPrefix(c, "CAP_") {
				c = "CAP_" + c
			}
			if !slices.Contains(known, c) {
				return nil, cnm.Invalid("invalid capability: %q (see capabilities(7) for the names)", n)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// Caps applies --privileged, --cap-add and --cap-drop to the defaults, as
// Docker does: ALL in add means all but the dropped; ALL in drop means only the
// added.
func Caps(all, add, drop []string, privileged bool) ([]string, error) {
	adds, err := NormalizeCaps(add)
	if err != nil {
		return nil, err
	}
	drops, err := NormalizeCaps(drop)
	if err != nil {
		return nil, err
	}
	switch {
	case privileged:
		return slices.Clone(all), nil
	case slices.Contains(adds, allCaps):
		return without(all, drops), nil
	case slices.Contains(drops, allCaps):
		return compact(adds), nil
	}
	return compact(append(without(DefaultCaps(), drops), adds...)), nil
}

func without(list, drop []string) []string {
	out := []string{}
	for _, c := range list {
		if !slices.Contains(drop, c) {
			out = append(out, c)
		}
	}
	return out
}

// compact removes repetitions and keeps the order.
func compact(list []string) []string {
	out := []string{}
	for _, c := range list {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
