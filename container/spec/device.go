package spec

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func upper(s string) string { return strings.ToUpper(s) }

// deviceRules are the cgroup's: nothing, but mknod of anything (what it makes
// cannot be opened), and the devices that every program expects. Docker's.
func deviceRules() []specs.LinuxDeviceCgroup {
	allow := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		return d
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		allow("c", 1, 5, "rwm"),    // zero
		allow("c", 1, 3, "rwm"),    // null
		allow("c", 1, 9, "rwm"),    // urandom
		allow("c", 1, 8, "rwm"),    // random
		allow("c", 5, 0, "rwm"),    // tty
		allow("c", 5, 1, "rwm"),    // console
		allow("c", 5, 2, "rwm"),    // ptmx
		allow("c", 136, -1, "rwm"), // pts/*
		allow("c", -1, -1, "m"),
		allow("b", -1, -1, "m"),
	}
}

// ParseDevicePermissions checks the last part of --device.
func ParseDevicePermissions(p string) (string, bool) {
	if p == "" {
		return "rwm", true
	}
	for i, r := range p {
		if !strings.ContainsRune("rwm", r) || strings.ContainsRune(p[:i], r) {
			return "", false
		}
	}
	return p, true
}
