package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/term"
	"github.com/spf13/pflag"

	"linkspan/api/admin"
	"linkspan/diagnose/capture"
)

const captureAbout = `Copy a container's packets as pcapng to standard output, or to a file: at the container's
own interfaces, and at the host's uplinks on the other side of NAT, where conntrack tells
which packets are the container's. Every packet that is translated has a comment that
names its flow, the same on both sides.

FILTER is of tcpdump's common words: host, net, port, portrange, src, dst, ip, ip6, arp,
tcp, udp, sctp, icmp, icmp6, and, or, not, ( ). A host may be a container's name. Of a
packet that is translated, addresses and ports may be those of either side of NAT (with
--side inside, only those inside).

It ends with ^C, after -c packets, or --for a time, and leaves nothing behind. How many
packets there were, and how many were lost because they came too fast, is told at the end
on standard error. Not joined: fragments without ports, ICMP errors, and what does not
leave by an uplink (the host's own connections to the container).

Exit code: 0 captured; 1 it could not be, or it broke off.`

const captureExample = `
  # linkspan capture web 'tcp port 80' -c 4 | tcpdump -nqr -
  12:22:12.221162 IP 192.168.99.50.33030 > 192.168.99.31.8080: tcp 0
  12:22:12.221220 IP 192.168.99.50.33030 > 172.17.0.2.80: tcp 0
  12:22:12.221236 IP 172.17.0.2.80 > 192.168.99.50.33030: tcp 0
  12:22:12.221249 IP 192.168.99.31.8080 > 192.168.99.50.33030: tcp 0
  4 packets captured, 0 lost
`

// runCapture is `linkspan capture`.
func runCapture(args []string) int {
	var wish capture.Wish
	file := ""
	q := &question{name: "capture", usage: "CONTAINER [FILTER…]", about: captureAbout, example: captureExample, least: 1, most: -1, noJSON: true, flags: func(f *pflag.FlagSet) {
		f.StringVar(&wish.Side, "side", capture.Both, "inside (the container's interfaces), host (the uplinks) or both")
		f.IntVarP(&wish.Count, "count", "c", 0, "End after so many packets")
		f.DurationVar(&wish.For, "for", 0, "End after this time (30s)")
		f.IntVarP(&wish.Snap, "snapshot-length", "s", 0, "Bytes to copy of each packet (default all)")
		f.StringVarP(&file, "write", "w", "-", "File to write; - is standard output")
	}}
	q.ask = func(ctx context.Context, c admin.Client, args []string) (int, error) {
		wish.Container, wish.Filter = args[0], strings.Join(args[1:], " ")
		out, done, err := captureFile(file)
		if err != nil {
			return 1, err
		}
		started := func() {
			if term.IsTerminal(os.Stderr.Fd()) {
				fmt.Fprintf(os.Stderr, "linkspan: capturing at %s; ^C ends it\n", wish.Container)
			}
		}
		s, err := c.Capture(ctx, wish, started, out)
		if cerr := done(s.Packets > 0 || err == nil); err == nil {
			err = cerr
		}
		if err != nil {
			return 1, err
		}
		for _, n := range s.Notes {
			note(n)
		}
		fmt.Fprintf(os.Stderr, "%d packets captured, %d lost\n", s.Packets, s.Dropped)
		if !s.Whole {
			return 1, errors.New("the capture broke off: the daemon was stopped or restarted; what is written is whole")
		}
		return 0, nil
	}
	return q.run(args)
}

// captureFile opens where packets go; done closes it, and takes a new file away again of
// which nothing is to be kept.
func captureFile(name string) (out io.Writer, done func(keep bool) error, err error) {
	if name == "-" {
		if term.IsTerminal(os.Stdout.Fd()) {
			return nil, nil, errors.New("packets are binary and would spoil the terminal: write them to a file (-w web.pcapng), or have them read: linkspan capture … | tcpdump -nr -")
		}
		return os.Stdout, func(bool) error { return nil }, nil
	}
	_, serr := os.Lstat(name)
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return f, func(keep bool) error {
		if !keep && errors.Is(serr, os.ErrNotExist) {
			_ = os.Remove(name)
		}
		return f.Close()
	}, nil
}
