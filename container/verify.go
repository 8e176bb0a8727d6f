package container

import (
	"path"
	"strings"
	"unicode"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/container/spec"
)

// verify refuses what can never work, before anything is made, in Docker's
// words where Docker has some.
func (e *Engine) verify(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	for _, check := range []func(*apicontainer.Config, *apicontainer.HostConfig) error{
		verifyConfig, verifyModes, verifyNetMode, e.verifyRuntime, e.verifyResources, verifyLater,
	} {
		if err := check(c, hc); err != nil {
			return err
		}
	}
	return nil
}

// maxHostname is the kernel's (__NEW_UTS_LEN, uname(2)).
const maxHostname = 64

func verifyConfig(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	if c.Image == "" {
		return cnm.Invalid("no image specified: name one to create a container from")
	}
	if c.WorkingDir != "" {
		if !path.IsAbs(c.WorkingDir) {
			return cnm.Invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
		}
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	for _, v := range c.Env {
		if k, _, _ := strings.Cut(v, "="); k == "" {
			return cnm.Invalid("invalid environment variable: %s", v)
		}
		if strings.ContainsRune(v, 0) {
			return cnm.Invalid("invalid environment variable: %q has a null byte", v)
		}
	}
	if len(c.Hostname) > maxHostname {
		return cnm.Invalid("invalid hostname format: %s: it has %d characters, the kernel takes %d", c.Hostname, len(c.Hostname), maxHostname)
	}
	if err := verifyLines(c, hc); err != nil {
		return err
	}
	if c.StopSignal != "" {
		if _, err := stopSignal(nil, c.StopSignal); err != nil {
			return err
		}
	}
	if c.StopTimeout != nil && *c.StopTimeout < -1 {
		return cnm.Invalid("invalid stop timeout: %d: seconds, 0 for none to wait, or -1 to wait for ever", *c.StopTimeout)
	}
	if err := verifyHealth(c.Healthcheck); err != nil {
		return err
	}
	if err := apicontainer.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return cnm.Invalid("%w", err)
	}
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return cnm.Invalid("can't create 'AutoRemove' container with restart policy")
	}
	if hc.ShmSize < 0 {
		return cnm.Invalid("SHM size can not be less than 0")
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return cnm.Invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if _, err := spec.NormalizeCaps(append(append([]string{}, hc.CapAdd...), hc.CapDrop...)); err != nil {
		return err
	}
	return nil
}

// verifyLines refuses what would make lines of its own in the container's hosts and
// resolv.conf, which have one entry to a line (hosts(5), resolv.conf(5)).
func verifyLines(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	for _, f := range []struct {
		what   string
		values []string
	}{
		{"hostname", []string{c.Hostname}}, {"domainname", []string{c.Domainname}}, {"link", hc.Links},
		{"add-host", hc.ExtraHosts}, {"dns-search", hc.DNSSearch}, {"dns-option", hc.DNSOptions},
	} {
		for _, v := range f.values {
			if i := strings.IndexFunc(v, unicode.IsControl); i >= 0 {
				return cnm.Invalid("invalid %s %q: character %q is not allowed in it; write it on one line", f.what, v, []rune(v[i:])[0])
			}
		}
	}
	return nil
}

func verifyModes(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	if !hc.IpcMode.Valid() {
		return cnm.Invalid("invalid IPC mode: %v", hc.IpcMode)
	}
	if !hc.PidMode.Valid() {
		return cnm.Invalid("invalid PID mode: %v", hc.PidMode)
	}
	if !hc.UTSMode.Valid() {
		return cnm.Invalid("invalid UTS mode: %v", hc.UTSMode)
	}
	if !hc.UsernsMode.Valid() {
		return cnm.Invalid("invalid user namespace mode: %v", hc.UsernsMode)
	}
	if !hc.CgroupnsMode.Valid() {
		return cnm.Invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	}
	if hc.UTSMode.IsHost() && c.Hostname != "" {
		return cnm.Invalid("conflicting options: hostname and the UTS mode")
	}
	if !hc.Isolation.IsDefault() {
		return cnm.Invalid("invalid isolation: %s: it is a matter of Windows", hc.Isolation)
	}
	return nil
}

// verifyNetMode refuses what a container without a network stack of its own
// cannot have.
func verifyNetMode(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	m := hc.NetworkMode
	if m.IsHost() && len(hc.Links) > 0 {
		return cnm.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	if !m.IsContainer() {
		return nil
	}
	switch {
	case m.ConnectedContainer() == "":
		return cnm.Invalid("Invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return cnm.Invalid("conflicting options: hostname and the network mode")
	case len(hc.Links) > 0:
		return cnm.Invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(hc.DNS) > 0:
		return cnm.Invalid("conflicting options: dns and the network mode")
	case len(hc.ExtraHosts) > 0:
		return cnm.Invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(hc.PortBindings) > 0 || hc.PublishAllPorts:
		return cnm.Invalid("conflicting options: port publishing and the container type network mode")
	case len(c.ExposedPorts) > 0:
		return cnm.Invalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

func (e *Engine) verifyRuntime(_ *apicontainer.Config, hc *apicontainer.HostConfig) error {
	_, err := e.runtimeBinary(hc.Runtime)
	return err
}

// SetDefaultRuntime says which runtime containers get that name none; empty:
// runc. One that the daemon does not know is cnm.ErrInvalid and changes nothing.
func (e *Engine) SetDefaultRuntime(name string) error {
	if name == "" {
		name = "runc"
	}
	if _, err := e.runtimeBinary(name); err != nil {
		return noRuntime(name, err)
	}
	e.defaultRuntime.Store(&name)
	return nil
}

func noRuntime(name string, err error) error {
	return cnm.Invalid("default runtime: %w; name its binary with --add-runtime %s=PATH, or in \"runtimes\" of the configuration file", err, name)
}

// runtimeBinary is the OCI runtime that the shim shall run; "" its own default.
func (e *Engine) runtimeBinary(name string) (string, error) {
	if b, ok := e.cfg.Runtimes[name]; ok {
		return b, nil
	}
	if name == "" || name == "runc" || name == e.cfg.Runtime {
		return "", nil
	}
	return "", cnm.Invalid("unknown or invalid runtime name: %s", name)
}

// deviceRequest is what a person calls it: CDI devices come with --device, too.
func deviceRequest(hc *apicontainer.HostConfig) string {
	if len(hc.DeviceRequests) > 0 && hc.DeviceRequests[0].Driver == "cdi" {
		return "a CDI device (" + strings.Join(hc.DeviceRequests[0].DeviceIDs, ", ") + ")"
	}
	return "--gpus"
}

// verifyLater names what is known and not granted yet.
func verifyLater(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	for _, x := range []struct {
		asked bool
		what  string
		why   string
	}{
		{len(hc.DeviceRequests) > 0, deviceRequest(hc), "devices are only given by path (--device); NVIDIA's own runtime can be used (daemon: --add-runtime, docker run: --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all)"},
		{len(hc.StorageOpt) > 0, "--storage-opt", "writable layers have no size limit"},
		{hc.Cgroup != "", "the cgroup of another container", "each container has its own; --cgroup-parent groups them"},
		{hc.Umask != nil, "a umask", "the image's program sets its own"},
	} {
		if x.asked {
			return cnm.Unsupported("not yet: %s is not supported by Linkspan: %s", x.what, x.why)
		}
	}
	return nil
}
