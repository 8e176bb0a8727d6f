package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/client"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestMain lets the scripts call this very binary by each of its names.
func TestMain(m *testing.M) {
	as := func(name string) func() {
		return func() { os.Exit(run(append([]string{"/usr/bin/" + name}, os.Args[1:]...))) }
	}
	testscript.Main(m, map[string]func(){
		"linkspan": as("linkspan"), "docker": as("docker"), "dockerd": as("dockerd"),
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true})
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{cli.StatusError{StatusCode: 125}, 125},
		{fmt.Errorf("wrapped: %w", cli.StatusError{StatusCode: 127}), 127},
		{cli.StatusError{Status: "no code"}, 1},
		{terminated{syscall.SIGTERM}, 143},
		{fmt.Errorf("wrapped: %w", terminated{syscall.SIGINT}), 130},
		{verbExit(3), 3},
		{context.Canceled, 0},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestSignalEndsTheContext(t *testing.T) {
	ctx, stop := signalContext(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got := exitCode(context.Cause(ctx)); got != 143 {
		t.Errorf("exit code after SIGTERM = %d, want 143", got)
	}
}

func TestOwnHost(t *testing.T) {
	dir := t.TempDir()
	sock, plain := filepath.Join(dir, "s.sock"), filepath.Join(dir, "plain")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write(t, plain, "")
	chosen, broken, none := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(chosen, "config.json"), `{"currentContext":"elsewhere"}`)
	write(t, filepath.Join(broken, "config.json"), `{`)

	for _, c := range []struct {
		name, socket, config string
		args                 []string
		env                  [2]string
		want                 string
	}{
		{name: "our socket is there", socket: sock, want: "unix://" + sock},
		{name: "no socket", socket: filepath.Join(dir, "absent")},
		{name: "a file, not a socket", socket: plain},
		{name: "-H", socket: sock, args: []string{"-H", "unix:///x"}},
		{name: "--context", socket: sock, args: []string{"--context", "x"}},
		{name: "DOCKER_HOST", socket: sock, env: [2]string{"DOCKER_HOST", "unix:///x"}},
		{name: "DOCKER_CONTEXT", socket: sock, env: [2]string{"DOCKER_CONTEXT", "x"}},
		{name: "docker context use", socket: sock, config: chosen},
		{name: "a broken config file", socket: sock, config: broken, want: "unix://" + sock},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", "")
			t.Setenv("DOCKER_CONTEXT", "")
			if c.env[0] != "" {
				t.Setenv(c.env[0], c.env[1])
			}
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags.StringP("host", "H", "", "")
			flags.String("context", "", "")
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			if c.config == "" {
				c.config = none
			}
			if got := ownHost(flags, c.config, c.socket); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// fakeServer answers what the annotations ask for, and counts the questions.
type fakeServer struct {
	version string
	info    command.ServerInfo
	asked   int
}

func (f *fakeServer) CurrentVersion() string         { f.asked++; return f.version }
func (f *fakeServer) ServerInfo() command.ServerInfo { f.asked++; return f.info }

func TestSupported(t *testing.T) {
	tree := func() (root, sub *cobra.Command) {
		root = &cobra.Command{Use: "docker"}
		parent := &cobra.Command{Use: "network", Annotations: map[string]string{"version": "1.30"}}
		sub = &cobra.Command{Use: "create", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {}}
		sub.Flags().Bool("new", false, "")
		_ = sub.Flags().SetAnnotation("new", "version", []string{"1.50"})
		sub.Flags().Bool("windows", false, "")
		_ = sub.Flags().SetAnnotation("windows", "ostype", []string{"windows"})
		sub.Flags().Bool("try", false, "")
		_ = sub.Flags().SetAnnotation("try", "experimental", nil)
		parent.AddCommand(sub)
		root.AddCommand(parent)
		return root, sub
	}
	linux := command.ServerInfo{OSType: "linux"}
	for _, c := range []struct {
		name, version string
		info          command.ServerInfo
		flag          string
		want          string
	}{
		{"new enough", "1.52", linux, "", ""},
		{"command too new", "1.24", linux, "", "docker network create requires API version 1.30, but the Docker daemon API version is 1.24"},
		{"flag too new", "1.44", linux, "new", `"--new" requires API version 1.50, but the Docker daemon API version is 1.44`},
		{"flag new enough", "1.50", linux, "new", ""},
		{"flag of another system", "1.52", linux, "windows", `"--windows" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux`},
		{"system unknown", "1.52", command.ServerInfo{}, "windows", ""},
		{"experimental off", "1.52", linux, "try", `"--try" is only supported on a Docker daemon with experimental features enabled`},
		{"experimental on", "1.52", command.ServerInfo{HasExperimental: true}, "try", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, sub := tree()
			if c.flag != "" {
				_ = sub.Flags().Set(c.flag, "true")
			}
			got := message(supported(sub, &fakeServer{version: c.version, info: c.info}))
			if got != c.want {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}

	t.Run("nothing is asked without need", func(t *testing.T) {
		s := &fakeServer{}
		if err := supported(&cobra.Command{Use: "context"}, s); err != nil || s.asked != 0 {
			t.Errorf("err %v, asked %d times", err, s.asked)
		}
	})
	t.Run("before arguments", func(t *testing.T) {
		root, _ := tree()
		guard(root, &fakeServer{version: "1.24", info: linux})
		root.SetArgs([]string{"network", "create", "surplus"})
		root.SilenceErrors, root.SilenceUsage = true, true
		if got := message(root.Execute()); got != "docker network create requires API version 1.30, but the Docker daemon API version is 1.24" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHideUnsupported(t *testing.T) {
	c := &cobra.Command{Use: "docker"}
	for name, a := range map[string]map[string]string{
		"plain":   nil,
		"later":   {"version": "9.99"},
		"node":    {"swarm": "manager"},
		"leave":   {"swarm": "active"},
		"swarm":   {"swarm": ""},
		"curious": {"swarm": "observer"},
	} {
		c.AddCommand(&cobra.Command{Use: name, Annotations: a})
	}
	hideUnsupported(c, &fakeServer{version: "1.52", info: command.ServerInfo{
		SwarmStatus: &client.SwarmStatus{NodeState: "inactive"},
	}})
	want := map[string]bool{"later": true, "node": true, "leave": true}
	for _, s := range c.Commands() {
		if s.Hidden != want[s.Name()] {
			t.Errorf("%s: hidden %v, want %v", s.Name(), s.Hidden, want[s.Name()])
		}
	}
}

func TestTrimModuleVersion(t *testing.T) {
	for in, want := range map[string]string{"v29.9.3+incompatible": "29.9.3", "v1.2.3": "1.2.3", "": ""} {
		if got := trimModuleVersion(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
