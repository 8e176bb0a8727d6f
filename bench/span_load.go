package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"time"
)

// listen starts the servers in a namespace; server is the process that echoes.
func (s *span) listen(ctx context.Context, ns string) (server int, err error) {
	for port, cmd := range map[int][]string{
		probePort: {s.probe, "serve", fmt.Sprintf("tcp/0.0.0.0:%d", probePort)},
		iperfPort: {"iperf3", "-s"},
	} {
		c := exec.Command("nsenter", append([]string{"--net=" + ns, "--"}, cmd...)...)
		if err := c.Start(); err != nil {
			return 0, err
		}
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		s.world.later(func() { _ = c.Process.Kill(); <-ended })
		if port == probePort {
			server = c.Process.Pid // nsenter(1) becomes the program
		}
		if err := listening(proc(c.Process.Pid), port, 10*time.Second); err != nil {
			return 0, err
		}
	}
	return server, ctx.Err()
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
		return oneCPU(l.server, func() error {
			v, err = echoes(ctx, netip.AddrPortFrom(l.to, probePort), b.load()/3)
			return err
		})
	})
	return v, err
}
