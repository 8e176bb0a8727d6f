package main

import (
	"fmt"
	"strings"

	"github.com/docker/cli/cli"
	pluginmanager "github.com/docker/cli/cli-plugins/manager"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/commands"
	"github.com/docker/cli/cli/context/store"
	cliflags "github.com/docker/cli/cli/flags"
	"github.com/docker/cli/cli/version"
	"github.com/spf13/cobra"

	"linkspan/config"
)

// ownVerb marks Linkspan's verbs in the command tree.
const ownVerb = "linkspan"

// newRoot makes docker's root command under the given name. Called as linkspan,
// it has our verbs too.
func newRoot(dockerCLI *command.DockerCli, name string) (*cli.TopLevelCommand, *cliflags.ClientOptions) {
	root := &cobra.Command{
		Use:                   name + " [OPTIONS] COMMAND [ARG...]",
		Short:                 "A self-sufficient runtime for containers",
		Version:               fmt.Sprintf("%s, build %s", version.Version, version.GitCommit),
		SilenceUsage:          true,
		SilenceErrors:         true,
		TraverseChildren:      true,
		RunE:                  command.ShowHelp(dockerCLI.Err()),
		PersistentPreRunE:     func(c *cobra.Command, _ []string) error { return supported(c, dockerCLI) },
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetIn(dockerCLI.In())
	root.SetOut(dockerCLI.Out())
	root.SetErr(dockerCLI.Err())

	opts, _ := cli.SetupRootCommand(root)
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	_ = root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names, _ := store.Names(dockerCLI.ContextStore())
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(
		[]string{"debug", "info", "warn", "error", "fatal"}, cobra.ShellCompDirectiveNoFileComp))

	commands.AddCommands(root, dockerCLI)
	guard(root, dockerCLI)
	explainPorts(root)
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if err := pluginmanager.AddPluginCommandStubs(dockerCLI, c.Root()); err != nil {
			c.Println(err)
			return
		}
		if err := supported(c, dockerCLI); err != nil {
			c.Println(err)
			return
		}
		hideUnsupported(c, dockerCLI)
		help(c, args)
	})
	if name == "linkspan" {
		addVerbs(root, dockerCLI)
		forceNetworks(root, dockerCLI)
	}
	return cli.NewTopLevelCommand(root, dockerCLI, opts, root.Flags()), opts
}

// addVerbs puts our verbs beside docker's, in a group of their own that stands
// first in the help.
func addVerbs(root *cobra.Command, dockerCLI *command.DockerCli) {
	root.Short = "Container networking that repairs and explains itself; docker's verbs are all here"
	root.Annotations["additionalHelp"] = "Docker's verbs talk to any Docker engine; the others need Linkspan."
	for n, v := range verbs() {
		// A docker command of the same name gives way.
		if c, _, err := root.Find([]string{n}); err == nil && c != root {
			root.RemoveCommand(c)
		}
		root.AddCommand(asVerb(dockerCLI, n, v))
	}
	cobra.AddTemplateFunc("ownVerbs", ownVerbs)
	cobra.AddTemplateFunc("dockerVerbs", dockerVerbs)
	root.SetUsageTemplate(withOwnGroup(root.UsageTemplate()))
}

// withOwnGroup inserts our group into docker's usage template, before its first
// group, and keeps our verbs out of docker's. The golden test of the help tells
// when a newer docker/cli has changed the places this holds on to.
func withOwnGroup(template string) string {
	const first = "{{- if hasTopCommands .}}"
	group := `{{- if ownVerbs .}}

Linkspan Commands:
{{- range ownVerbs .}}
  {{rpad .Name (add .NamePadding 1)}} {{.Short}}
{{- end}}
{{- end}}
`
	template = strings.Replace(template, first, group+first, 1)
	return strings.ReplaceAll(template, "{{- range operationSubCommands . }}", "{{- range dockerVerbs . }}")
}

func ownVerbs(c *cobra.Command) []*cobra.Command {
	return pick(c, func(s *cobra.Command) bool { return s.Annotations[ownVerb] != "" })
}

// dockerVerbs are the commands without subcommands that no other group lists.
func dockerVerbs(c *cobra.Command) []*cobra.Command {
	return pick(c, func(s *cobra.Command) bool {
		_, top := s.Annotations["category-top"]
		return s.Annotations[ownVerb] == "" && !pluginmanager.IsPluginCommand(s) &&
			!s.HasSubCommands() && !(top && c.Parent() == nil)
	})
}

func pick(c *cobra.Command, want func(*cobra.Command) bool) []*cobra.Command {
	var out []*cobra.Command
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() && want(s) {
			out = append(out, s)
		}
	}
	return out
}

// unknownVerb begins with docker's words, and adds what was probably meant.
func unknownVerb(root *cobra.Command, word string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	n := root.Name()
	hint := ""
	if near := config.Nearest(word, names); near != "" {
		hint = fmt.Sprintf("\nDid you mean '%s %s'?\n", n, near)
	}
	return fmt.Errorf("%s: unknown command: %s %s\n%s\nRun '%s --help' for more information", n, n, word, hint, n)
}
