package flows

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"linkspan/dataplane/reading"
	"linkspan/diagnose"
	"linkspan/internal/worldtest"
)

// kernel has flows besides what worldtest's has.
type kernel struct {
	*worldtest.Kernel
	flows []reading.Flow
	err   error
}

func (k *kernel) Flows(context.Context, string, reading.FlowFilter) ([]reading.Flow, error) {
	return k.flows, k.err
}

// made is worldtest's host with gateways on its bridges.
func made() (*worldtest.World, *kernel, *diagnose.World) {
	w := worldtest.New()
	links := w.Live.Links[""]
	for i := range links {
		switch links[i].Name {
		case "docker0":
			links[i].Addrs = append(links[i].Addrs, netip.MustParsePrefix("172.17.0.1/16"))
		case "br-vault":
			links[i].Addrs = append(links[i].Addrs, netip.MustParsePrefix("172.19.0.1/16"))
		}
	}
	k := &kernel{Kernel: w.Live}
	d := w.Diagnose()
	d.Kernel = k
	return w, k, d
}

// fakeTap gives what a test puts in.
type fakeTap struct {
	mu      sync.Mutex
	log     func([]reading.Logged, int)
	changes func([]reading.FlowChange, int)
	fails   []error
	conns   map[string][]reading.Connection
}

func (f *fakeTap) next() (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fails) > 0 {
		err, f.fails = f.fails[0], f.fails[1:]
	}
	return err
}

func (f *fakeTap) Log(ctx context.Context, _ string, _ uint16, fn func([]reading.Logged, int)) error {
	if err := f.next(); err != nil {
		return err
	}
	f.mu.Lock()
	f.log = fn
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (f *fakeTap) Changes(ctx context.Context, _ string, _ []string, fn func([]reading.FlowChange, int)) error {
	if err := f.next(); err != nil {
		return err
	}
	f.mu.Lock()
	f.changes = fn
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (f *fakeTap) Connections(_ context.Context, ns string) ([]reading.Connection, error) {
	c, ok := f.conns[ns]
	if !ok && f.conns != nil {
		return nil, fs.ErrNotExist
	}
	return c, nil
}

func (*fakeTap) Capture(context.Context, string, reading.CaptureWish, func(), func([]reading.Frame)) (reading.CaptureCount, error) {
	return reading.CaptureCount{}, nil
}

func ap(s string) netip.AddrPort {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p
	}
	return netip.AddrPortFrom(netip.MustParseAddr(s), 0)
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	time.Local = time.UTC // what people read is in their own time
	os.Exit(m.Run())
}
