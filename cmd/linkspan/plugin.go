package main

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"github.com/docker/cli/cli"
	pluginmanager "github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli-plugins/socket"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

// runPlugin runs one of docker's CLI plugins (compose, buildx, …) as docker does:
// with all arguments, and with a socket whose closing tells it to stop. host,
// where not empty, is the host that was chosen for the person. An absent plugin
// is errdefs' not found.
func runPlugin(ctx context.Context, dockerCLI *command.DockerCli, root *cobra.Command, name, host string) error {
	c, err := pluginmanager.PluginRunCommand(dockerCLI, name, root)
	if err != nil {
		return err
	}
	if host != "" {
		c.Env = append(c.Env, "DOCKER_HOST="+host)
	}
	var server *socket.PluginServer
	if server, err = socket.NewPluginServer(nil); err == nil {
		defer server.Close()
		c.Env = append(c.Env, socket.EnvKey+"="+server.Addr().String())
	}
	if err := c.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
		case <-ctx.Done():
			// On a terminal the kernel has sent the signal to the whole foreground
			// group, the plugin too; elsewhere the socket is the only news.
			if !dockerCLI.Out().IsTerminal() {
				_ = server.Close()
				if server == nil {
					_ = c.Process.Signal(os.Interrupt)
				}
			}
			go exitOnThirdSignal(ctx, dockerCLI)
		}
	}()
	err = c.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return cli.StatusError{StatusCode: max(exit.ExitCode(), 1)}
	}
	return err
}
