package main

import (
	"errors"
	"fmt"

	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/client/pkg/versions"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Docker's commands and flags say in annotations which server they need: an API
// version, an operating system, experimental features, or a swarm role. The
// server is asked (a ping) only when an annotation makes it necessary, so that
// commands that need no daemon do not wait for one.

// server is what the answers depend on.
type server interface {
	CurrentVersion() string
	ServerInfo() command.ServerInfo
}

// need is one annotation that the server does not meet.
func need(annotations map[string]string, s server) (unmet string) {
	if v, ok := annotations["version"]; ok && versions.LessThan(s.CurrentVersion(), v) {
		return fmt.Sprintf("requires API version %s, but the Docker daemon API version is %s", v, s.CurrentVersion())
	}
	if v, ok := annotations["ostype"]; ok {
		if os := s.ServerInfo().OSType; os != "" && os != v {
			return fmt.Sprintf("is only supported on a Docker daemon running on %s, but the Docker daemon is running on %s", v, os)
		}
	}
	if _, ok := annotations["experimental"]; ok && !s.ServerInfo().HasExperimental {
		return "is only supported on a Docker daemon with experimental features enabled"
	}
	return ""
}

// ofFlag turns a flag's annotations into the form of a command's.
func ofFlag(f *pflag.Flag) map[string]string {
	out := map[string]string{}
	for k, v := range f.Annotations {
		out[k] = ""
		if len(v) > 0 {
			out[k] = v[0]
		}
	}
	return out
}

// supported says whether the server has the command with the flags that were given.
func supported(c *cobra.Command, s server) error {
	for at := c; at != nil; at = at.Parent() {
		if unmet := need(at.Annotations, s); unmet != "" {
			return fmt.Errorf("%s %s", c.CommandPath(), unmet)
		}
	}
	var errs []error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed || len(f.Annotations) == 0 {
			return
		}
		if unmet := need(ofFlag(f), s); unmet != "" {
			errs = append(errs, fmt.Errorf(`"--%s" %s`, f.Name, unmet))
		}
	})
	return errors.Join(errs...)
}

// guard makes every command check the server before it complains about its
// arguments or flags: "this daemon cannot" beats "you typed it wrong".
func guard(root *cobra.Command, s server) {
	flagError := root.FlagErrorFunc()
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if unmet := supported(c, s); unmet != nil {
			return unmet
		}
		return flagError(c, err)
	})
	guardArgs(root, s, false)
}

func guardArgs(c *cobra.Command, s server, tagged bool) {
	tagged = tagged || len(c.Annotations) > 0
	for _, sub := range c.Commands() {
		guardArgs(sub, s, tagged)
	}
	check := c.Args
	if check == nil || !tagged {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := supported(c, s); err != nil {
			return err
		}
		return check(c, args)
	}
}

// hideUnsupported leaves out of the help what this server does not have.
func hideUnsupported(c *cobra.Command, s server) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations) > 0 && need(ofFlag(f), s) != "" {
			f.Hidden = true
		}
	})
	for _, sub := range c.Commands() {
		if need(sub.Annotations, s) != "" || outOfSwarm(sub.Annotations, s) {
			sub.Hidden = true
		}
	}
}

// outOfSwarm: the command needs a swarm role that the server says it has not.
func outOfSwarm(annotations map[string]string, s server) bool {
	role, ok := annotations["swarm"]
	if !ok || role == "" {
		return false
	}
	st := s.ServerInfo().SwarmStatus
	if st == nil {
		return false
	}
	switch role {
	case "manager":
		return !st.ControlAvailable
	case "active":
		return st.NodeState == "inactive"
	}
	return false
}
