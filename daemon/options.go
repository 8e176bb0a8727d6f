package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"linkspan/config"
)

// parse reads the daemon's command line and file. ok is false when there
// is nothing more to do (help, version, validation, or an error that was
// printed); code is then the exit code.
func parse(o Options, args []string) (r *config.Result, code int, ok bool) {
	name := "linkspan"
	if filepath.Base(os.Args[0]) == "dockerd" {
		name = "dockerd"
	}
	r, err := config.Parse(name, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return nil, 1, false
	}
	switch r.Ask {
	case config.ShowHelp:
		fmt.Print(config.Help(name))
	case config.ShowVersion:
		fmt.Printf("Linkspan version %s\n", o.Version)
	case config.Validate:
		// What the words mean is known to who uses them.
		e := engine{Options: o, cfg: r.Config}
		if err := errors.Join(e.checkNetworkOpts(r.Config), containerDefaults(r.Config).Check()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return nil, 1, false
		}
		for _, w := range r.Warnings {
			fmt.Fprintln(os.Stderr, w)
		}
		fmt.Println("configuration OK")
	default:
		return r, 0, true
	}
	return nil, 0, false
}
