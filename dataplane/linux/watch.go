package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// Watch is news of the host, as the kernel tells it. On each channel one token stands
// for any number of changes; all are closed at the end.
type Watch struct {
	// Bridges: one that is not ours came or went, so who needs bridge-nf may have
	// changed.
	Bridges <-chan struct{}
	// Routes: HostRoutes may answer something else, since an address or a route came or
	// went on a link that is not ours.
	Routes <-chan struct{}

	touched chan struct{}
	mu      sync.Mutex
	touch   dataplane.Touch
}

// Touched has a token when Take has news.
func (w *Watch) Touched() <-chan struct{} { return w.touched }

// Take returns what somebody else may have changed of ours since it was last asked.
func (w *Watch) Take() dataplane.Touch {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.touch
	w.touch = dataplane.Touch{}
	return t
}

func (w *Watch) tell(t dataplane.Touch) {
	if t.Empty() {
		return
	}
	w.mu.Lock()
	w.touch.Add(t)
	w.mu.Unlock()
	token(w.touched)
}

func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Watch listens to the kernel until the context ends: one socket for what rtnetlink
// tells, each message of which is parsed once for all who judge it, and one for
// nftables. What raises no notification, sysctls, is polled (see poll.go). What this
// Kernel does itself is no news.
func (k *Kernel) Watch(ctx context.Context) (*Watch, error) {
	bridges, routes := make(chan struct{}, 1), make(chan struct{}, 1)
	w := &Watch{Bridges: bridges, Routes: routes, touched: make(chan struct{}, 1)}
	links := &linkWatch{k: k, bridges: bridges, routes: routes, tell: w.tell}
	tables := &tableWatch{k: k, tell: w.tell}
	poll := &poller{k: k, tell: w.tell}
	if err := k.inHost(func() error { return errors.Join(links.open(), tables.open(), poll.open()) }); err != nil {
		links.close()
		tables.close()
		return nil, fmt.Errorf("watch the kernel: %w", err)
	}
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() {
		links.close()
		tables.close()
		close(ended)
	})
	var all sync.WaitGroup
	for _, run := range []func(){links.run, tables.run, func() { poll.run(ended) }} {
		all.Go(run)
	}
	go func() {
		all.Wait()
		close(bridges)
		close(routes)
		close(w.touched)
	}()
	return w, nil
}

// hear reads a listener until it is closed. due is when tick wants to be called, zero
// when there is nothing to wait for; lost is called when the kernel had to drop
// something.
func (k *Kernel) hear(what string, l *listener, each func(unix.NlMsghdr, []byte), lost func(), due func() time.Time, tick func()) {
	for {
		err := l.receive(due(), each)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, os.ErrDeadlineExceeded):
			// A deadline that has passed keeps what has come from being read.
			if errors.Is(l.drain(each), unix.ENOBUFS) {
				lost()
			}
			tick()
		case errors.Is(err, unix.ENOBUFS):
			lost()
		case errors.Is(err, os.ErrClosed):
			return
		default:
			k.log.Error("the kernel is heard no more: what somebody changes is found by the next full check only", "of", what, "err", err)
			return
		}
	}
}
