package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// listen starts the servers in a namespace.
func (s *span) listen(ctx context.Context, ns string) error {
	for _, cmd := range [][]string{{s.probe, "serve", fmt.Sprintf("tcp/0.0.0.0:%d", probePort)}, {"iperf3", "-s"}} {
		c := exec.Command("nsenter", append([]string{"--net=" + ns, "--"}, cmd...)...)
		if err := c.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		s.world.later(func() { _ = c.Process.Kill(); <-ended })
	}
	e := s.engines[0]
	for _, port := range []int{probePort, iperfPort} {
		if err := e.listening(place{ns: "/proc/" + pidIn(ns) + "/ns/net"}, port, 10*time.Second); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pidIn is a process whose network namespace that is (proc(5) tells its listeners).
func pidIn(ns string) string {
	want, err := os.Stat(ns)
	if err != nil {
		return "self"
	}
	for range 100 {
		all, _ := filepath.Glob("/proc/[0-9]*/ns/net")
		for _, p := range all {
			if have, err := os.Stat(p); err == nil && os.SameFile(want, have) {
				return strings.Split(p, "/")[2]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "self"
}

// carried is what one TCP connection carries, in Gbit/s.
func (b *bench) carried(ctx context.Context, l line) (v float64, err error) {
	for try := range 5 {
		if v, err = b.iperfTo(ctx, l.from, netip.AddrPortFrom(l.to, iperfPort)); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Duration(try+1) * 200 * time.Millisecond)
	}
	return v, err
}

func (b *bench) echoed(ctx context.Context, l line) (v float64, err error) {
	err = within(l.from, func() error {
		v, err = echoes(ctx, netip.AddrPortFrom(l.to, probePort), b.load()/3)
		return err
	})
	return v, err
}
