package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"time"
)

// nameReachable is the time from a container's start on one host, as its API answers,
// until a container on another has its address by its name.
const nameReachable = "started on one host, known by name on another"

// reachable measures it over and over.
func (s *span) reachable(ctx context.Context) error {
	if _, err := s.line(ctx, "overlay"); err != nil {
		return err
	}
	asker, err := s.engines[1].member(ctx, "overlay")
	if err != nil {
		return err
	}
	var took []float64
	for range 2 * s.pairs {
		id, err := s.engines[0].create(ctx, "pause", "overlay", nil)
		if err != nil {
			return err
		}
		start := make(chan time.Time, 1)
		known := make(chan time.Time, 1)
		go func() {
			_ = within(asker.ns(), func() error {
				known <- resolved(ctx, id[:12], 10*time.Second)
				return nil
			})
		}()
		if err := s.engines[0].run(ctx, id); err != nil {
			return err
		}
		start <- time.Now()
		k := <-known
		if k.IsZero() {
			return fmt.Errorf("%s is not known on the other host after 10 s", id[:12])
		}
		// The name may be there before the start has answered.
		took = append(took, max(0, ms(k.Sub(<-start))))
		if err := s.engines[0].remove(ctx, id); err != nil {
			return err
		}
	}
	slices.Sort(took)
	s.table.row(nameReachable, milliseconds, median(took), math.NaN(), goal{value: 20})
	s.table.row("  p99", milliseconds, took[len(took)*99/100], math.NaN(), goal{value: 300})
	return nil
}

// resolved asks the namespace's resolver for a name until it has an address; the zero
// time if it never does.
func resolved(ctx context.Context, name string, within time.Duration) time.Time {
	c, err := net.Dial("udp", "127.0.0.11:53")
	if err != nil {
		return time.Time{}
	}
	defer c.Close()
	question := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name))}
	question = append(append(question, name...), 0, 0, 1, 0, 1)
	answer := make([]byte, 512)
	for deadline := time.Now().Add(within); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write(question); err != nil {
			continue
		}
		if n, err := c.Read(answer); err == nil && n > 12 && answer[7] > 0 { // ANCOUNT (RFC 1035, 4.1.1)
			return time.Now()
		}
	}
	return time.Time{}
}
