package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/version"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// terminated is the cause of a context that a signal ended. It has no words: the
// exit code (128 + signal) says it all.
type terminated struct{ signal syscall.Signal }

func (terminated) Error() string { return "" }

// verbExit carries the exit code of one of our own verbs through cobra.
type verbExit int

func (verbExit) Error() string { return "" }

// runDocker is docker's command line under the given name.
func runDocker(name string, args []string) int {
	version.Version = dockerVersion()
	version.GitCommit = "linkspan-" + buildVersion
	version.BuildTime = "" // the library's default is the word "unknown-buildtime"
	version.PlatformName = "Linkspan " + buildVersion

	ctx, stop := signalContext(context.Background())
	defer stop()
	dockerCLI, err := command.NewDockerCli(command.WithBaseContext(ctx))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	logrus.SetOutput(dockerCLI.Err())
	err = execute(ctx, dockerCLI, name, args)
	// A person who presses ctrl-C knows it: canceled is not worth a line.
	if msg := message(err); msg != "" && !errdefs.IsCanceled(err) {
		fmt.Fprintln(dockerCLI.Err(), msg)
	}
	return exitCode(err)
}

func execute(ctx context.Context, dockerCLI *command.DockerCli, name string, args []string) error {
	top, opts := newRoot(dockerCLI, name)
	top.SetArgs(args)
	root, rest, err := top.HandleGlobalFlags()
	if err != nil {
		return err
	}
	host := ""
	if name == "linkspan" {
		if host = ownHost(root.Flags(), opts.ConfigDir, ownSocket); host != "" {
			top.SetFlag("host", host)
		}
	}
	if err := top.Initialize(); err != nil {
		return err
	}
	// Cobra adds these only when it executes.
	late := []string{"help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}
	if len(rest) > 0 && !slices.Contains(late, rest[0]) {
		if _, _, err := root.Find(rest); err != nil {
			err := runPlugin(ctx, dockerCLI, root, rest[0], host)
			if !errdefs.IsNotFound(err) {
				return err
			}
			// Here, not in the root's RunE: there the verb's flags would be complained
			// about before the verb.
			return unknownVerb(root, rest[0])
		}
	}
	go exitOnThirdSignal(ctx, dockerCLI)
	// The global flags are parsed; what is left belongs to the verb.
	root.SetArgs(rest)
	return root.ExecuteContext(ctx)
}

// message is what the person reads of an error.
func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// exitCode follows docker: a StatusError carries its own (125, 126, 127, or the
// container's), a signal is 128 + its number, all else is 1.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if t, ok := errors.AsType[terminated](err); ok {
		return 128 + int(t.signal)
	}
	if v, ok := errors.AsType[verbExit](err); ok {
		return int(v)
	}
	if errdefs.IsCanceled(err) {
		return 0 // as docker: the person ended it, and nothing failed
	}
	if s, ok := errors.AsType[cli.StatusError](err); ok && s.StatusCode != 0 {
		return s.StatusCode
	}
	return 1
}

// signalContext ends the context at the first SIGTERM or SIGINT, with that
// signal as the cause.
func signalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		defer signal.Stop(ch)
		select {
		case <-ctx.Done():
		case s := <-ch:
			cancel(terminated{s.(syscall.Signal)})
		}
	}()
	return ctx, func() { cancel(nil) }
}

// exitOnThirdSignal is for commands that do not end with their context: the
// third SIGTERM or SIGINT ends the process, with the terminal put right.
func exitOnThirdSignal(ctx context.Context, s command.Streams) {
	<-ctx.Done()
	if _, ok := errors.AsType[terminated](context.Cause(ctx)); !ok {
		return
	}
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	<-ch
	<-ch
	fmt.Fprintln(s.Err(), "\ngot 3 SIGTERM/SIGINTs, forcefully exiting")
	s.In().RestoreTerminal()
	s.Out().RestoreTerminal()
	s.Err().RestoreTerminal()
	os.Exit(1)
}

func trimModuleVersion(v string) string {
	return strings.TrimSuffix(strings.TrimPrefix(v, "v"), "+incompatible")
}

// asVerb makes one of our verbs a command of the tree, so that it is found after
// global flags too (`linkspan -H unix://… plan run …`) and by completion. The
// host that was asked for reaches the verb as DOCKER_HOST.
func asVerb(dockerCLI *command.DockerCli, name string, v verb) *cobra.Command {
	c := &cobra.Command{
		Use:                name,
		Short:              v.help,
		Hidden:             v.hidden,
		Annotations:        map[string]string{ownVerb: "true"},
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.Setenv("DOCKER_HOST", dockerCLI.DockerEndpoint().Host); err != nil {
				return err
			}
			if code := v.run(args); code != 0 {
				return verbExit(code)
			}
			return nil
		},
	}
	c.SetHelpFunc(func(*cobra.Command, []string) { v.run([]string{"--help"}) })
	return c
}
