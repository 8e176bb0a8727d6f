package main

import (
	"fmt"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/opts"
	"github.com/spf13/cobra"

	"linkspan/publish"
)

// explainPorts makes every command with -p say in our words what is wrong with a
// port specification. Docker's parser looks at the pieces ("invalid IP address:
// 1:2"); ours tells how many there are, and what was probably meant.
func explainPorts(root *cobra.Command) {
	for _, c := range root.Commands() {
		explainPorts(c)
	}
	run, f := root.RunE, root.Flags().Lookup("publish")
	if run == nil || f == nil {
		return
	}
	list, ok := f.Value.(*opts.ListOpts)
	if !ok {
		return
	}
	root.RunE = func(c *cobra.Command, args []string) error {
		err := run(c, args)
		if err == nil {
			return nil
		}
		for _, spec := range list.GetSlice() {
			if _, bad := publish.Parse(spec); bad != nil {
				return cli.StatusError{StatusCode: 125, Status: fmt.Sprintf("%s: %v\n\nRun '%s --help' for more information", c.Root().Name(), bad, c.CommandPath())}
			}
		}
		return err
	}
}
