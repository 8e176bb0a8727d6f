// Command images builds and serves the test images.
//
//	images build [-force]                   make what is not cached
//	images list                             names, tags, sizes, digests
//	images serve [-addr A] [-netns PATH]    docker-registry until interrupted
//	images tarball NAME... > FILE           for `docker load` or `ctr images import`
//	images prune [-keep 720h]               drop what was not used for that long
//	images key                              a name of the catalogue's state, for CI caches
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"linkspan/test/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("say build, list, serve, tarball, prune or key")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(errs)
	cache := flags.String("cache", "", "cache folder (default "+images.DefaultCache+", or "+images.CacheEnv+")")
	force := flags.Bool("force", false, "build: also what is cached")
	addr := flags.String("addr", "127.0.0.1:5000", "serve: where to listen")
	netns := flags.String("netns", "", "serve: the network namespace to listen in")
	keep := flags.Duration("keep", 30*24*time.Hour, "prune: how long what is unused stays")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "key" {
		key, err := images.Key()
		fmt.Fprintln(out, key)
		return err
	}
	log := slog.New(slog.NewTextHandler(errs, nil))
	set, err := images.Build(ctx, images.Options{Cache: *cache, Log: log, Force: *force && args[0] == "build"})
	if err != nil {
		return err
	}
	switch args[0] {
	case "build":
		fmt.Fprintf(out, "%d images ready, %d parts made now\n", len(set.Images), len(set.Made))
	case "list":
		return list(out, set)
	case "serve":
		url, stop, err := set.Serve(ctx, *netns, *addr)
		if err != nil {
			return err
		}
		defer stop()
		fmt.Fprintln(out, url)
		<-ctx.Done()
	case "tarball":
		var chosen []images.Built
		for _, name := range flags.Args() {
			image, err := set.Find(name)
			if err != nil {
				return err
			}
			chosen = append(chosen, image)
		}
		if len(chosen) == 0 {
			return fmt.Errorf("tarball: name one image or more")
		}
		return images.Archive(out, chosen...)
	case "prune":
		removed, err := set.Prune(*keep)
		for _, r := range removed {
			fmt.Fprintln(out, "removed", r)
		}
		return err
	default:
		return fmt.Errorf("unknown verb %q", args[0])
	}
	return nil
}

func list(out io.Writer, set *images.Set) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tTAGS\tMB (COMPRESSED)\tDIGEST")
	for _, image := range set.Images {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\n", image.Name, strings.Join(image.Tags, ","), float64(image.Size())/1e6, image.Digest)
	}
	return w.Flush()
}
