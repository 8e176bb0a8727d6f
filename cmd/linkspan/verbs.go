package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

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

// question is one of our verbs that asks the daemon and writes its answer.
type question struct {
	name string
	// usage is what follows the verb ("A B[:PORT[/PROTO]]"), about what it does with
	// its exit codes, and example a worked one: command and output. The manual page has
	// all three.
	usage, about, example string
	// args are how many it takes, at least and at most; most below zero: any number.
	least, most int
	// flags adds its own, besides -H and --json.
	flags func(*pflag.FlagSet)
	// ask does it. Its code is the exit code; an error is written and is 1.
	ask func(ctx context.Context, c admin.Client, args []string) (code int, err error)
	// noJSON: there is no --json.
	noJSON bool
	// json is set when --json was said.
	json bool
}

// run is a verb's.
func (q *question) run(args []string) int {
	flags := pflag.NewFlagSet(q.name, pflag.ContinueOnError)
	host := flags.StringP("host", "H", "", "Daemon socket to connect to")
	if !q.noJSON {
		flags.BoolVar(&q.json, "json", false, "Write the answer as JSON")
	}
	if q.flags != nil {
		q.flags(flags)
	}
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "Usage: %s\n\n%s\n\n%s", strings.TrimSpace("linkspan "+q.name+" [flags] "+q.usage), q.about, flags.FlagUsages())
		if q.example != "" {
			fmt.Fprintf(os.Stderr, "\nExample:\n\n%s\n", strings.Trim(q.example, "\n"))
		}
	}
	if code, ok := parsed(flags.Parse(args)); !ok {
		return code
	}
	if n := flags.NArg(); n < q.least || q.most >= 0 && n > q.most {
		fmt.Fprintf(os.Stderr, "linkspan %s: %s; say: %s\n", q.name, counted(n, q.least, q.most), strings.TrimSpace("linkspan "+q.name+" "+q.usage))
		return 1
	}
	ctx, stop := signalContext(context.Background())
	defer stop()
	client, err := daemonClient(ctx, flags, *host)
	if err != nil {
		return failed(err)
	}
	code, err := q.ask(ctx, admin.Client{HTTP: client}, flags.Args())
	if err != nil {
		return failed(err)
	}
	return code
}

func counted(n, least, most int) string {
	switch {
	case most == 0:
		return "it takes no argument"
	case n < least:
		return fmt.Sprintf("something is missing: it takes %d", least)
	}
	return fmt.Sprintf("there are %d arguments, and it takes at most %d", n, most)
}

// write prints an answer: as JSON if that was asked for, else as text.
func (q *question) write(v interface{ WriteText(io.Writer) error }) error {
	if !q.json {
		return v.WriteText(os.Stdout)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// runReconcile is `linkspan reconcile`.
func runReconcile(args []string) int {
	dry := false
	q := &question{name: "reconcile", about: "Compare the kernel with what is declared, and put the difference right.\nExit code: 0 done, or nothing to do; 2 there is a difference (--dry-run); 1 something failed.",
		flags: func(f *pflag.FlagSet) {
			f.BoolVar(&dry, "dry-run", false, "Print the difference as ip and nft lines and change nothing")
		},
		example: `
  # nft delete table inet linkspan_3c52f1
  # linkspan reconcile --dry-run | head -3
  # create page inet linkspan_3c52f1 for host
  # the whole firewall of Linkspan
  nft -f linkspan_3c52f1.nft
`,
	}
	q.ask = func(ctx context.Context, c admin.Client, _ []string) (int, error) {
		r, err := c.Reconcile(ctx, dry)
		if err != nil {
			return 1, err
		}
		switch err := q.write(r); {
		case err != nil || len(r.Failures) > 0:
			return 1, err
		case dry && len(r.Ops) > 0:
			return 2, nil
		}
		return 0, nil
	}
	return q.run(args)
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
