package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dns"
)

// TestKilledKeeper: SIGKILL of the keeper. What it costs is measured: until the next
// one is there, until names are answered and until ports are held again.
func TestKilledKeeper(t *testing.T) {
	k, cfg := newProcess(t)
	const sandboxes = 20
	var all []*sandbox
	for i := range sandboxes {
		sb := newSandbox(t, fmt.Sprintf("sb%d", i))
		closeSockets(sb.sockets)
		sb.sockets = nil
		all = append(all, sb)
	}
	var reqs []PortRequest
	for i := range 100 {
		reqs = append(reqs, req("o", "tcp", "0.0.0.0", uint16(7100+i)))
	}
	// declare is what the controller does after a death.
	declare := func(ctx context.Context) {
		k.must(k.Reserve(ctx, reqs))
		k.must(k.SetNames(ctx, "z", []dns.Record{record("e", "10.0.0.1", "a")}, true))
		for _, sb := range all {
			s := sb.open(t)
			k.must(k.SetView(ctx, dns.View{Sandbox: sb.id, Zones: []string{"z"}, Closed: true}, s))
			closeSockets(s)
		}
	}
	declare(ctxT(t))
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Logger = slog.New(slog.DiscardHandler)
	var work sync.WaitGroup
	began := make(chan time.Time, 1)
	over := make(chan struct{}, 1)
	work.Go(func() {
		k.Supervise(ctx, cfg, func(ctx context.Context) {
			began <- time.Now()
			declare(ctx)
			over <- struct{}{}
		})
	})
	defer work.Wait()
	defer cancel()
	for range 3 {
		before, err := k.Info(ctxT(t))
		k.must(err)
		killed := time.Now()
		k.must(syscall.Kill(before.PID, syscall.SIGKILL))
		there := <-began
		<-over
		t.Logf("the next keeper was there after %v; %d resolvers and %d ports after %v", there.Sub(killed), sandboxes, len(reqs), time.Since(killed))
		if took := time.Since(killed); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		all[0].knows(t, "a", "10.0.0.1")
		all[sandboxes-1].knows(t, "a", "10.0.0.1")
		taken(t, unix.SOCK_STREAM, "0.0.0.0:7150")
		if got, err := k.Views(ctxT(t)); err != nil || len(got) != sandboxes {
			t.Errorf("%d views, %v", len(got), err)
		}
	}
	for _, sb := range all {
		k.must(k.RemoveView(ctxT(t), sb.id))
	}
}
