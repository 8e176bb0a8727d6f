package container

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/moby/api/types/blkiodev"
	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/container/spec"
)

// devices looks up what --device names. A directory gives all devices below it.
func devices(r *apicontainer.Resources) (devs []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	for _, m := range r.Devices {
		perm, ok := spec.ParseDevicePermissions(m.CgroupPermissions)
		if !ok {
			return nil, nil, cnm.Invalid("invalid device mode: %s: it is made of r, w and m", m.CgroupPermissions)
		}
		inside := m.PathInContainer
		if inside == "" {
			inside = m.PathOnHost
		}
		found, err := devicesAt(m.PathOnHost, inside)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range found {
			devs = append(devs, d)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: perm})
		}
	}
	for _, rule := range r.DeviceCgroupRules {
		d, err := parseRule(rule)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, d)
	}
	return devs, rules, nil
}

func devicesAt(host, inside string) ([]specs.LinuxDevice, error) {
	// A link on the host is followed, and keeps its name in the container.
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return nil, cnm.Invalid("error gathering device information while adding custom device %q: %w", host, err)
	}
	d, err := oci.DeviceFromPath(real)
	if err == nil {
		d.Path = path.Clean(inside)
		return []specs.LinuxDevice{*d}, nil
	}
	st, serr := os.Stat(real)
	if !errors.Is(err, oci.ErrNotADevice) || serr != nil || !st.IsDir() {
		return nil, cnm.Invalid("error gathering device information while adding custom device %q: %w", host, err)
	}
	var all []specs.LinuxDevice
	err = filepath.WalkDir(real, func(p string, de fs.DirEntry, err error) error {
		if err != nil || de.IsDir() {
			return err
		}
		if d, err := oci.DeviceFromPath(p); err == nil {
			rel, _ := filepath.Rel(real, p)
			d.Path = path.Join(inside, rel)
			all = append(all, *d)
		}
		return nil
	})
	if err != nil {
		return nil, cnm.Invalid("error gathering device information while adding custom device %q: %w", host, err)
	}
	return all, nil
}

// blockIO looks up the devices that block I/O limits name.
func blockIO(r *apicontainer.Resources) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	set := false
	if r.BlkioWeight > 0 {
		b.Weight, set = &r.BlkioWeight, true
	}
	for _, w := range r.BlkioWeightDevice {
		major, minor, err := numbers(w.Path)
		if err != nil {
			return nil, err
		}
		d := specs.LinuxWeightDevice{Weight: &w.Weight}
		d.Major, d.Minor = major, minor
		b.WeightDevice, set = append(b.WeightDevice, d), true
	}
	for _, x := range []struct {
		in  []*blkiodev.ThrottleDevice
		out *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, t := range x.in {
			major, minor, err := numbers(t.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: t.Rate}
			d.Major, d.Minor = major, minor
			*x.out, set = append(*x.out, d), true
		}
	}
	if !set {
		return nil, nil
	}
	return b, nil
}

func numbers(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, cnm.Invalid("block I/O limit on %s: %w", path, err)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
