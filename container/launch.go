package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/container/mounts"
	"linkspan/container/rootfs"
	"linkspan/container/spec"
)

// input collects what a container's specification is built from, but for the
// sandbox and the user.
func (e *Engine) input(c *Container) (*spec.Input, error) {
	hc := c.HostConfig
	linked, err := e.linkedEnv(c)
	if err != nil {
		return nil, err
	}
	if len(linked) > 0 {
		with := *c
		with.Config = new(apicontainer.Config)
		*with.Config = *c.Config
		with.Config.Env = slices.Concat(linked, c.Config.Env) // of two, the later counts
		c = &with
	}
	in := &spec.Input{
		ID: c.ID, Host: e.host, Config: c.Config, HostConfig: hc,
		Args:     append([]string{c.Path}, c.Args...),
		Hostname: c.Config.Hostname, Domainname: c.Config.Domainname,
		Files: e.fileMounts(c), CgroupsPath: e.cgroupPath(c), Ulimits: e.ulimits(hc),
	}
	if hc.Privileged {
		// As they are now: devices come and go. Without a /dev there are none.
		in.Host.Devices, _ = oci.HostDevices()
	}
	if in.Security, err = spec.ParseSecurity(hc.SecurityOpt, e.security); err != nil {
		return nil, err
	}
	if in.Devices, in.DeviceRules, err = devices(&hc.Resources); err != nil {
		return nil, err
	}
	if in.BlockIO, err = blockIO(&hc.Resources); err != nil {
		return nil, err
	}
	if in.Mounts, err = specMounts(c); err != nil {
		return nil, err
	}
	return in, e.addInit(c, in)
}

func specMounts(c *Container) ([]spec.Mount, error) {
	var out []spec.Mount
	for _, m := range c.Mounts {
		out = append(out, spec.Mount{
			Type: m.Type, Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW, Propagation: m.Propagation,
			NonRecursive: m.NonRecursive, ROTopOnly: m.ROTopOnly, Options: m.Options,
		})
	}
	for _, d := range slices.Sorted(maps.Keys(c.HostConfig.Tmpfs)) {
		p, err := mounts.FromTmpfs(d, c.HostConfig.Tmpfs[d])
		if err != nil {
			return nil, err
		}
		out = append(out, spec.Mount{Type: mounts.Tmpfs, Destination: p.Destination, Options: p.Options})
	}
	return out, nil
}

// cgroupPath is where cgroupfs has the container.
func (e *Engine) cgroupPath(c *Container) string {
	parent := c.HostConfig.CgroupParent
	if parent == "" {
		parent = e.cfg.Defaults.CgroupParent
	}
	return path.Join("/", parent, c.ID)
}

// ulimits puts the container's over the daemon's defaults.
func (e *Engine) ulimits(hc *apicontainer.HostConfig) []*apicontainer.Ulimit {
	all := maps.Clone(e.cfg.Defaults.Ulimits)
	if all == nil {
		all = map[string]*apicontainer.Ulimit{}
	}
	for _, u := range hc.Ulimits {
		all[u.Name] = u
	}
	var out []*apicontainer.Ulimit
	for _, n := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[n])
	}
	return out
}

// joins fills in the namespaces of other containers, which must run.
func (e *Engine) joins(c *Container, in *spec.Input) error {
	hc := c.HostConfig
	if hc.PidMode.IsContainer() {
		t, err := e.runningTarget(hc.PidMode.Container(), "join PID namespace of")
		if err != nil {
			return err
		}
		in.PidNS = fmt.Sprintf("/proc/%d/ns/pid", t.State.Pid)
	}
	switch {
	case hc.IpcMode.IsContainer():
		t, err := e.runningTarget(hc.IpcMode.Container(), "join IPC namespace of")
		if err != nil {
			return err
		}
		if m := t.HostConfig.IpcMode; !m.IsShareable() {
			return cnm.Conflict("cannot join IPC namespace of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", t.ID)
		}
		in.IpcNS, in.ShmSource = fmt.Sprintf("/proc/%d/ns/ipc", t.State.Pid), e.shmDir(t.ID)
	case hc.IpcMode.IsShareable():
		if err := e.mountShm(c); err != nil {
			return err
		}
		in.ShmSource = e.shmDir(c.ID)
	}
	return nil
}

func (e *Engine) runningTarget(ref, verb string) (*Container, error) {
	t, err := e.Get(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case t.State.Phase == Restarting:
		return nil, cnm.Conflict("Container %s is restarting, wait until the container is running", t.ID)
	case !t.State.Phase.running():
		return nil, cnm.Conflict("cannot %s a non running container: %s", verb, t.ID)
	}
	return t, nil
}

// mountShm makes the tmpfs that a shareable container and those who join it
// have at /dev/shm.
func (e *Engine) mountShm(c *Container) error {
	d := e.shmDir(c.ID)
	e.unmountShm(c.ID)
	if err := os.MkdirAll(d, 0o700); err != nil {
		return err
	}
	opts := fmt.Sprintf("mode=1777,size=%d", c.HostConfig.ShmSize)
	if err := e.step("shm.mount", func() error { return unix.Mount("shm", d, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, opts) }); err != nil {
		return &fs.PathError{Op: "mount /dev/shm at", Path: d, Err: err}
	}
	return nil
}

// unmountShm is success when nothing is mounted.
func (e *Engine) unmountShm(id string) {
	d := e.shmDir(id)
	if _, err := os.Stat(d); errors.Is(err, fs.ErrNotExist) {
		return
	}
	for e.step("shm.unmount", func() error { return unix.Unmount(d, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }) == nil {
	}
	if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("a container's /dev/shm stays", "container", id, "error", err)
	}
}

// identity looks the user up in the container's own files.
func (e *Engine) identity(c *Container, layers []mount.Mount) (specs.User, error) {
	v, err := rootfs.Stopped(rootfs.ReadOnly(layers), nil, e.viewDir())
	if err != nil {
		return specs.User{}, fmt.Errorf("container %s: %w", c.Name, err)
	}
	defer v.Close()
	return v.User(c.Config.User, c.HostConfig.GroupAdd)
}

// specification builds the whole of it, in parallel with the network's work.
func (e *Engine) specification(ctx context.Context, c *Container) (*spec.Input, []mount.Mount, error) {
	in, err := e.input(c)
	if err != nil {
		return nil, nil, err
	}
	if err := e.step("mounts.sources", func() error { return bindSources(c) }); err != nil {
		return nil, nil, err
	}
	layers, err := e.ctd.rootfs(ctx, c.ID)
	if err != nil {
		return nil, nil, err
	}
	in.User, err = e.identity(c, layers)
	return in, layers, err
}
