package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Exec is what decides an exec's process.
type Exec struct {
	Args, Env  []string
	Cwd        string
	User       specs.User
	Tty        bool
	Privileged bool
	// Size is height and width; nil: not told.
	Size *[2]uint
}

// ExecProcess makes an exec's process in the container of in: the container's
// capabilities, limits and environment, but for what the exec sets. Of in the
// namespaces and mounts are not read.
func ExecProcess(in *Input, e *Exec) (*specs.Process, error) {
	caps, err := Caps(in.Host.Caps, in.HostConfig.CapAdd, in.HostConfig.CapDrop, in.HostConfig.Privileged || e.Privileged)
	if err != nil {
		return nil, err
	}
	p := process(in, caps)
	p.Args = e.Args
	p.User = e.User
	p.Terminal = e.Tty
	p.Env = Env(in.Hostname, e.Tty, in.Config.Env, e.Env)
	if e.Cwd != "" {
		p.Cwd = e.Cwd
	}
	p.ConsoleSize = nil
	if e.Tty && e.Size != nil {
		p.ConsoleSize = &specs.Box{Height: e.Size[0], Width: e.Size[1]}
	}
	return p, nil
}
