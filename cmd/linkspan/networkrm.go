package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

// forceNetworks makes `linkspan network rm --force` remove a network whoever is on it.
// Docker's own flag of that name only says nothing about networks that are not there,
// which it goes on to do when the binary is called as docker.
func forceNetworks(root *cobra.Command, dockerCLI *command.DockerCli) {
	rm, _, err := root.Find([]string{"network", "rm"})
	if err != nil || rm.Name() != "rm" {
		return
	}
	f := rm.Flags().Lookup("force")
	if f == nil {
		return
	}
	f.Usage = "Take containers off the network first; do not error if the network does not exist"
	docker := rm.RunE
	rm.RunE = func(c *cobra.Command, args []string) error {
		if force, err := c.Flags().GetBool("force"); err != nil || !force {
			return docker(c, args)
		}
		failed := false
		for _, name := range args {
			switch err := forceNetwork(c.Context(), dockerCLI, name); {
			case err != nil:
				failed = true
				fmt.Fprintln(dockerCLI.Err(), err)
			default:
				fmt.Fprintln(dockerCLI.Out(), name)
			}
		}
		if failed {
			return cli.StatusError{StatusCode: 1, Status: "exit status 1"}
		}
		return nil
	}
}

// forceNetwork asks the daemon. A network that is not there is as wished.
func forceNetwork(ctx context.Context, dockerCLI *command.DockerCli, name string) error {
	dial := dockerCLI.Client().Dialer()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://linkspan/networks/"+url.PathEscape(name)+"?force=1", nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusNotFound || resp.StatusCode < 300 {
		return err
	}
	var said struct{ Message string }
	if json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = strings.TrimSpace(string(b))
	}
	return fmt.Errorf("Error response from daemon: %s", said.Message) //nolint:staticcheck // as docker's own commands say it
}
