package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/docker/cli/cli/command"
	cliconfig "github.com/docker/cli/cli/config"
	cliflags "github.com/docker/cli/cli/flags"
	"github.com/spf13/pflag"

	"linkspan/api/admin"
)

// daemonClient reaches the daemon that the flags, the environment or the docker
// context name, as docker's verbs do.
func daemonClient(ctx context.Context, flags *pflag.FlagSet, host string) (*http.Client, error) {
	cli, err := command.NewDockerCli(command.WithBaseContext(ctx))
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = ownHost(flags, cliconfig.Dir(), ownSocket)
	}
	opts := cliflags.NewClientOptions()
	if host != "" {
		opts.Hosts = []string{host}
	}
	if err := cli.Initialize(opts); err != nil {
		return nil, err
	}
	dial := cli.Client().Dialer()
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}, nil
}

// runReconcile is `linkspan reconcile`.
func runReconcile(args []string) int {
	flags := pflag.NewFlagSet("reconcile", pflag.ContinueOnError)
	host := flags.StringP("host", "H", "", "Daemon socket to connect to")
	dry := flags.Bool("dry-run", false, "Print the difference as ip and nft lines and change nothing")
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "Usage: linkspan reconcile [--dry-run]\n\nCompare the kernel with what is declared, and put the difference right.\nExit code: 0 done, or nothing to do; 2 there is a difference (--dry-run); 1 something failed.\n\n%s", flags.FlagUsages())
	}
	if code, ok := parsed(flags.Parse(args)); !ok {
		return code
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "linkspan reconcile: unexpected argument %q: it always looks at the whole host\n", flags.Arg(0))
		return 1
	}
	ctx, stop := signalContext(context.Background())
	defer stop()
	client, err := daemonClient(ctx, flags, *host)
	if err != nil {
		return failed(err)
	}
	r, err := admin.Client{HTTP: client}.Reconcile(ctx, *dry)
	if err != nil {
		return failed(err)
	}
	if err := r.WriteText(os.Stdout); err != nil {
		return failed(err)
	}
	switch {
	case len(r.Failures) > 0:
		return 1
	case *dry && len(r.Ops) > 0:
		return 2
	}
	return 0
}

// parsed turns a flag parser's answer into an exit code; ok means go on.
func parsed(err error) (code int, ok bool) {
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0, false
	case err != nil:
		return failed(err), false
	}
	return 0, true
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
