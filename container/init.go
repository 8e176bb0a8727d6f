package container

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"

	apicontainer "github.com/moby/moby/api/types/container"

	"linkspan/cnm"
	"linkspan/container/mounts"
	"linkspan/container/spec"
)

// initNames are the programs that are taken for an init process, the first first.
// What they are is one and the same: tini.
var initNames = []string{"docker-init", "tini-static", "tini"}

// withInit says whether a container has an init process. One that shares the
// processes of another, or the host's, is not their first: there is nothing to reap.
func (e *Engine) withInit(hc *apicontainer.HostConfig) bool {
	if hc.PidMode.IsHost() || hc.PidMode.IsContainer() {
		return false
	}
	if hc.Init != nil {
		return *hc.Init
	}
	return e.defaults.Load().Init
}

// initProgram finds the host's program.
func (e *Engine) initProgram() (string, error) {
	if p := e.defaults.Load().InitPath; p != "" {
		return p, usableInit(p)
	}
	var why error
	for _, n := range initNames {
		p, err := exec.LookPath(n)
		if err != nil {
			continue
		}
		if err := usableInit(p); err != nil {
			why = err
			continue
		}
		return p, nil
	}
	if why != nil {
		return "", why
	}
	return "", cnm.Errorf(cnm.ErrUnavailable, "--init needs an init program on the host, and there is none: install the package tini (Debian, Ubuntu: apt install tini; Fedora: dnf install tini-static), or name one with the daemon's --init-path")
}

// usableInit refuses a program that would not run in a container: whatever it is
// linked with is not there.
func usableInit(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "the init program of --init: %w", err)
	}
	if st.IsDir() || st.Mode()&0o111 == 0 {
		return cnm.Errorf(cnm.ErrUnavailable, "the init program of --init, %s, is not executable", path)
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil //nolint:nilerr // a script perhaps: the person chose it
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return cnm.Errorf(cnm.ErrUnavailable, "the init program %s is linked dynamically: its libraries are not in the container; install tini-static, or name a static one with the daemon's --init-path", path)
		}
	}
	return nil
}

// addInit puts the init process before the container's command, as Docker does.
func (e *Engine) addInit(c *Container, in *spec.Input) error {
	if !e.withInit(c.HostConfig) {
		return nil
	}
	p, err := e.initProgram()
	if err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	in.Args = append([]string{spec.InitPath, "--"}, in.Args...)
	in.Files = append(in.Files, spec.Mount{Type: mounts.Bind, Source: p, Destination: spec.InitPath, ReadOnly: true})
	return nil
}
