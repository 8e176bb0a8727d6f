package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"linkspan/packaging/manual"
)

// runManual is `linkspan manual DIR`: it writes the man pages of all verbs below
// DIR/man1 and DIR/man8. make install calls it.
func runManual(args []string) int {
	if len(args) != 1 || args[0] == "--help" {
		fmt.Println("Usage: linkspan manual DIR\n\nWrite the man pages below DIR.")
		return len(args) - 1
	}
	if err := writeManual(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func writeManual(dir string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	dockerCLI, err := command.NewDockerCli()
	if err != nil {
		return err
	}
	top, _ := newRoot(dockerCLI, "linkspan")
	root, _, err := top.HandleGlobalFlags()
	if err != nil {
		return err
	}
	src := manual.Source{Version: buildVersion, Title: "Linkspan", Section: sectionOf}
	own := verbs()
	return manual.Walk(root, func(c *cobra.Command) error {
		v, ours := own[c.Name()]
		if !ours || c.Annotations[ownVerb] == "" {
			return page(dir, sectionOf(c), manual.Name(c), func(f *os.File) error { return manual.Page(f, src, c) })
		}
		// Our verbs have their own help, which is not cobra's. As a process: what a
		// verb prints goes to its own streams.
		help, err := exec.Command(exe, c.Name(), "--help").CombinedOutput()
		if err != nil {
			return fmt.Errorf("linkspan %s --help: %w", c.Name(), err)
		}
		return page(dir, sectionOf(c), manual.Name(c), func(f *os.File) error {
			return manual.Plain(f, src, manual.Name(c), sectionOf(c), v.help, string(help))
		})
	})
}

// sectionOf follows man-pages(7): 8 is the administrator's.
func sectionOf(c *cobra.Command) string {
	if c.Annotations[ownVerb] != "" && slices.Contains([]string{"daemon", "uninstall", "reconcile", "doctor", "gc", "mesh"}, c.Name()) {
		return "8"
	}
	return "1"
}

func page(dir, section, name string, write func(*os.File) error) error {
	at := filepath.Join(dir, "man"+section)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(at, name+"."+section))
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
