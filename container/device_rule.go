package container

import (
	"regexp"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"linkspan/cnm"
	"linkspan/container/spec"
)

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseRule decodes --device-cgroup-rule: "c 13:* rwm".
func parseRule(s string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule.FindStringSubmatch(s)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, cnm.Invalid("invalid device cgroup rule format: '%s'", s)
	}
	perm, ok := spec.ParseDevicePermissions(m[4])
	if !ok {
		return specs.LinuxDeviceCgroup{}, cnm.Invalid("invalid device cgroup rule format: '%s'", s)
	}
	d := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: perm}
	for i, to := range []**int64{&d.Major, &d.Minor} {
		if m[i+2] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[i+2], 10, 64)
		if err != nil {
			return d, cnm.Invalid("invalid device cgroup rule format: '%s': %w", s, err)
		}
		*to = &n
	}
	return d, nil
}
