// Command netprobe answers one question about a packet's way: who does the
// server see, and at which of its addresses.
//
//	netprobe serve tcp/0.0.0.0:9000 udp/[::]:9000 sctp/:9000 ...
//	netprobe dial [-timeout 3s] [-bind IP[:PORT]] [-n 1] [-interval 1s] tcp/10.0.0.1:9000
//
// A server first answers "src=IP:PORT dst=IP:PORT host=NAME", then echoes what
// it reads. The client prints each answer as a line. Exit codes of the client:
// 0 answered, 2 wrong usage, 3 refused, 4 no answer in time, 5 unreachable or
// any other failure; the word is printed on stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) < 2 {
		fmt.Fprintln(errs, "usage: netprobe serve PROTO/ADDR:PORT... | netprobe dial [flags] PROTO/ADDR:PORT")
		return 2
	}
	switch args[0] {
	case "serve":
		if err := serve(ctx, args[1:], out); err != nil {
			fmt.Fprintln(errs, "netprobe:", err)
			return 5
		}
		return 0
	case "dial":
		var d dialer
		flags := flag.NewFlagSet("dial", flag.ContinueOnError)
		flags.SetOutput(errs)
		flags.DurationVar(&d.timeout, "timeout", 3*time.Second, "how long to wait for the connection and for each answer")
		flags.StringVar(&d.bind, "bind", "", "local address, IP or IP:PORT")
		flags.IntVar(&d.count, "n", 1, "messages over one connection")
		flags.DurationVar(&d.interval, "interval", time.Second, "between two messages")
		if flags.Parse(args[1:]) != nil || flags.NArg() != 1 {
			return 2
		}
		err := d.dial(ctx, flags.Arg(0), out)
		if err != nil {
			fmt.Fprintf(errs, "netprobe: %s: %v\n", verdict(err), err)
		}
		return exitCode(err)
	}
	fmt.Fprintf(errs, "netprobe: unknown verb %q\n", args[0])
	return 2
}

// split takes PROTO/ADDR apart; an address without host means every address.
func split(target string) (proto, addr string, err error) {
	proto, addr, ok := strings.Cut(target, "/")
	if !ok {
		return "", "", fmt.Errorf("%q is not PROTO/ADDR:PORT", target)
	}
	switch proto {
	case "tcp", "udp", "sctp":
	default:
		return "", "", fmt.Errorf("protocol %q is none of tcp, udp, sctp", proto)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", "", err
	}
	return proto, addr, nil
}

// verdict is the one word by which tests tell the failures apart.
func verdict(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "unreachable"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "closed"
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.ESOCKTNOSUPPORT):
		return "unsupported"
	}
	return "failed"
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	switch verdict(err) {
	case "refused":
		return 3
	case "timeout":
		return 4
	}
	return 5
}
