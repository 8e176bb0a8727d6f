package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/internal/testlog"
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

// TestHoldRange: of a range in which someone has ports the others are held; they lead
// where the range leads, and what is free again fills the gaps.
func TestHoldRange(t *testing.T) {
	k := newKeeper(t)
	var fds []int
	for _, a := range []string{"0.0.0.0:7100", "127.0.0.1:7150", "0.0.0.0:7151", "0.0.0.0:7199"} {
		fd, err := stranger(t, unix.SOCK_STREAM, a, false, true)
		k.must(err)
		fds = append(fds, fd)
	}
	wide := PortRequest{Owner: "a", Proto: "tcp", Addr: netip.IPv4Unspecified(), Port: 7100, PortEnd: 7199, ForwardTo: netip.MustParseAddrPort("127.0.0.9:8100")}
	other := req("a", "udp", "0.0.0.0", 7100)
	hold := func(when string, wide PortRequest, want, missing string) {
		t.Helper()
		lost, err := Hold(ctxT(t), k, []PortRequest{wide, other})
		k.must(err)
		var gone, have []string
		for _, l := range lost {
			gone = append(gone, fmt.Sprint(l.Request.Port))
			if l.Request.Port != l.Request.PortEnd || l.Request.ForwardTo.Port() != wide.ForwardTo.Port()+l.Request.Port-wide.Port {
				t.Errorf("%s: lost %v", when, l)
			}
		}
		ports, err := k.Ports(ctxT(t))
		k.must(err)
		for _, p := range ports {
			have = append(have, fmt.Sprintf("%s %d-%d", p.Proto, p.Port, p.PortEnd))
			if p.Proto == "tcp" && (p.ForwardTo.Addr() != wide.ForwardTo.Addr() || p.ForwardTo.Port() != wide.ForwardTo.Port()+p.Port-wide.Port) {
				t.Errorf("%s: %v leads to %s", when, p, p.ForwardTo)
			}
		}
		slices.Sort(gone)
		if g, h := strings.Join(gone, " "), strings.Join(have, " "); g != missing || h != want {
			t.Errorf("%s: held %q, lost %q; want %q and %q", when, h, g, want, missing)
		}
	}
	parts := "tcp 7101-7149 tcp 7152-7198 udp 7100-7100"
	hold("first", wide, parts, "7100 7150 7151 7199")
	hold("again", wide, parts, "7100 7150 7151 7199")
	moved := wide
	moved.ForwardTo = netip.MustParseAddrPort("127.0.0.10:8100")
	hold("led elsewhere", moved, parts, "7100 7150 7151 7199")
	unix.Close(fds[1])
	unix.Close(fds[3])
	hold("two are free", moved, "tcp 7101-7149 tcp 7150-7150 tcp 7152-7198 tcp 7199-7199 udp 7100-7100", "7100 7151")
	unix.Close(fds[0])
	unix.Close(fds[2])
	hold("all are free", moved, "tcp 7100-7100 tcp 7101-7149 tcp 7150-7150 tcp 7151-7151 tcp 7152-7198 tcp 7199-7199 udp 7100-7100", "")
}

// TestHolder: a port lost while no keeper was there comes back by itself, told once
// each way; who is forgotten meanwhile gets nothing.
func TestHolder(t *testing.T) {
	k := newKeeper(t)
	var said testlog.Log
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
