// Command bench measures Linkspan beside Debian's dockerd 20.10, in one run on
// one machine, and says of each number whether it is where it should be.
//
//	go run ./bench [-only REGEXP] [-pairs 15] [-seconds 1] [-rounds 5]
//
// Both engines run at once, each in a network namespace of its own with a wire to
// another machine, on one containerd. Every measurement alternates between them,
// so that the noise of the machine hits both. As root.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// limit bounds the whole run.
const limit = 15 * time.Minute

type options struct {
	only    *regexp.Regexp
	pairs   int
	seconds float64
	rounds  int
	repairs int
	// of the mesh's control plane
	hosts, endpoints int
	binary           string // of Linkspan; empty: built
	dockerd          string // folder of script/fetch-dockerd.sh
	keep             bool
}

func main() {
	if dir := os.Getenv(membersEnv); dir != "" {
		if err := runMembers(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	only := flag.String("only", "", "the measurements whose names match this")
	flag.IntVar(&o.pairs, "pairs", 15, "how many pairs per measurement of a start, for one port twice as many of ours")
	flag.Float64Var(&o.seconds, "seconds", 1, "how long one load lasts")
	flag.IntVar(&o.rounds, "rounds", 5, "how many times each load runs per engine, in turns; the best counts")
	flag.IntVar(&o.hosts, "hosts", 300, "how many hosts of a mesh are simulated")
	flag.IntVar(&o.endpoints, "endpoints", 10_000, "how many endpoints they have together")
	flag.IntVar(&o.repairs, "repairs", 5, "how many repairs per kind of damage")
	flag.StringVar(&o.binary, "linkspan", "", "the linkspan to measure (default: built from this tree)")
	flag.StringVar(&o.dockerd, "dockerd", "/var/cache/linkspan/dockerd", "folder with dockerd 20.10, which is fetched there if missing; \"none\": Linkspan alone")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder with the engines' logs")
	flag.Parse()
	re, err := regexp.Compile(*only)
	if err == nil {
		o.only = re
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(ctx, limit)
		err = run(ctx, o)
		cancel()
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("namespaces and daemons need root")
	}
	start := time.Now()
	b := &bench{options: o, table: &table{out: os.Stdout}, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := b.attach(ctx); err != nil {
		return err
	}
	if err := b.drops(ctx); err != nil {
		return err
	}
	if err := b.mesh(ctx); err != nil {
		return err
	}
	if strings.HasPrefix(strings.TrimPrefix(o.only.String(), "^"), "mesh") { // no engine has part in it
		b.table.end(time.Since(start))
		return nil
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	b.world = w
	for _, step := range []func(context.Context) error{b.life, b.ports, b.networks, b.traffic, b.spanned, b.dns, b.restart, b.repair} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if avg, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.table.note("load average now: %s on %d CPUs, of which the bench's own part is about 1.5; what else runs makes all times longer", strings.Fields(string(avg))[0], runtime.NumCPU())
	}
	b.table.end(time.Since(start))
	return nil
}

// bench is one run.
type bench struct {
	options
	world *world
	table *table
	log   *slog.Logger
}

// wanted says whether any of the names is asked for.
func (b *bench) wanted(names ...string) bool {
	for _, n := range names {
		if b.only.MatchString(n) {
			return true
		}
	}
	return false
}
