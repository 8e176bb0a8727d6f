package main

import (
	"io"
	"os"

	cliconfig "github.com/docker/cli/cli/config"
	"github.com/spf13/pflag"
)

// ownSocket is where a daemon with default flags listens.
const ownSocket = "/run/linkspan/linkspan.sock"

// ownHost is the host that `linkspan` talks to when nobody said which: our own
// socket if it is there, else "" (docker's default). "Said" is -H, --context,
// DOCKER_HOST, DOCKER_CONTEXT, or a context chosen with `docker context use`.
func ownHost(flags *pflag.FlagSet, configDir, socket string) string {
	if flags.Changed("host") || flags.Changed("context") || os.Getenv("DOCKER_HOST") != "" || os.Getenv("DOCKER_CONTEXT") != "" {
		return ""
	}
	if st, err := os.Stat(socket); err != nil || st.Mode()&os.ModeSocket == 0 {
		return ""
	}
	cliconfig.SetDir(configDir)
	// A broken file is complained about when the command line is initialized.
	if c := cliconfig.LoadDefaultConfigFile(io.Discard).CurrentContext; c != "" && c != "default" {
		return ""
	}
	return "unix://" + socket
}
