package keeper

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
)

func TestHold(t *testing.T) {
	k := newKeeper(t)
	fd, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:7002", false, true)
	k.must(err)
	reqs := []PortRequest{req("a", "tcp", "0.0.0.0", 7001), req("a", "tcp", "0.0.0.0", 7002), req("a", "udp", "0.0.0.0", 7002)}
	for range 2 { // again is the same
		lost, err := Hold(ctxT(t), k, reqs)
		if err != nil || len(lost) != 1 || lost[0].Request != reqs[1] || lost[0].Err.Errno != int(unix.EADDRINUSE) {
			t.Fatalf("%v %v", lost, err)
		}
	}
	if got, _ := k.Ports(ctxT(t)); len(got) != 2 {
		t.Errorf("held %v", got)
	}
	unix.Close(fd)
	if lost, err := Hold(ctxT(t), k, reqs); err != nil || lost != nil {
		t.Errorf("%v %v", lost, err)
	}
	if _, err := Hold(ctxT(t), k, []PortRequest{{}}); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("nonsense: %v", err)
	}
}

// TestHolder: a port lost while no keeper was there comes back by itself, told once
// each way; who is forgotten meanwhile gets nothing.
func TestHolder(t *testing.T) {
	k := newKeeper(t)
	var said lockedBuffer
	h := NewHolder(k, slog.New(slog.NewTextHandler(&said, nil)))
	h.first, h.most = 5*time.Millisecond, 20*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { h.Run(ctx) })
	defer run.Wait()
	defer cancel()
	one, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:7012", false, true)
	k.must(err)
	two, err := stranger(t, unix.SOCK_STREAM, "0.0.0.0:7022", false, true)
	k.must(err)
	k.must(h.Hold(ctxT(t), "a", "web", []PortRequest{req("a", "tcp", "0.0.0.0", 7011), req("a", "tcp", "0.0.0.0", 7012)}))
	k.must(h.Hold(ctxT(t), "b", "db", []PortRequest{req("b", "tcp", "0.0.0.0", 7022)}))
	k.must(h.Hold(ctxT(t), "c", "free", []PortRequest{req("c", "tcp", "0.0.0.0", 7031)}))
	if lost := h.Lost(); len(lost) != 2 || len(lost["a"]) != 1 || lost["a"][0].Port != 7012 {
		t.Errorf("lost: %v", lost)
	}
	time.Sleep(100 * time.Millisecond)
	h.Forget("b")
	k.must(k.Release(ctxT(t), "b"))
	unix.Close(two)
	unix.Close(one)
	eventually(t, "the port comes back", func() bool { return len(h.Lost()) == 0 })
	time.Sleep(50 * time.Millisecond)
	ports, err := k.Ports(ctxT(t))
	k.must(err)
	var owners []string
	for _, p := range ports {
		owners = append(owners, p.Owner)
	}
	if strings.Join(owners, "") != "aac" {
		t.Errorf("held %v", ports)
	}
	eventually(t, "it is told", func() bool { return strings.Contains(said.String(), "reserved again\" container=web") })
	if n := strings.Count(said.String(), "WARN"); n != 2 {
		t.Errorf("told %d times: %s", n, said.String())
	}
	// Asked for again, as after the next death, it starts over.
	k.must(k.Release(ctxT(t), "a"))
	k.must(h.Hold(ctxT(t), "a", "web", []PortRequest{req("a", "tcp", "0.0.0.0", 7012)}))
	if len(h.Lost()) != 0 {
		t.Errorf("lost: %v", h.Lost())
	}
	k.must(k.Client.Close())
	if err := h.Hold(ctxT(t), "a", "web", []PortRequest{req("a", "tcp", "0.0.0.0", 7013)}); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("a keeper that is away: %v", err)
	}
}
