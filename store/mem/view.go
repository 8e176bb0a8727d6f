package mem

import (
	"context"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// View is one host's way to a store that several hosts share, and that can be cut: what
// etcd does to a host that the others cannot reach. While it is cut, calls answer
// cnm.ErrUnavailable, watches end, and what is held is not renewed: the store takes it
// back after its ttl. Closing a View leaves the store open.
type View struct {
	s *Store

	mu      sync.Mutex
	closed  bool
	cut     chan struct{} // closed by Cut
	healed  chan struct{} // closed by Heal, and while there is no cut
	unclear bool
}

var (
	_ store.Leaser = (*Store)(nil)
	_ store.Store  = (*View)(nil)
	_ store.Leaser = (*View)(nil)
)

// View makes a way to s.
func (s *Store) View() *View {
	v := &View{s: s, cut: make(chan struct{}), healed: make(chan struct{})}
	close(v.healed)
	return v
}

// Cut cuts the way. With unclear, the next commit still reaches the store, but its answer
// (store.ErrUnclear) does not come back.
func (v *View) Cut(unclear bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unclear = unclear
	if !isClosed(v.cut) {
		close(v.cut)
		v.healed = make(chan struct{})
	}
}

// Heal undoes Cut.
func (v *View) Heal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unclear = false
	if isClosed(v.cut) {
		v.cut = make(chan struct{})
		close(v.healed)
	}
}

// state is how the way is now.
func (v *View) state() (cut, healed <-chan struct{}, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed:
		err = store.ErrClosed
	case isClosed(v.cut):
		err = errCut
	}
	return v.cut, v.healed, err
}

var errCut = cnm.Errorf(cnm.ErrUnavailable, "the hosts' common store cannot be reached: this way to it is cut")

// Get implements [store.Store].
func (v *View) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	if _, _, err := v.state(); err != nil {
		return store.Entry{}, false, err
	}
	return v.s.Get(ctx, key)
}

// List implements [store.Store].
func (v *View) List(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	if _, _, err := v.state(); err != nil {
		return nil, 0, err
	}
	return v.s.List(ctx, prefix)
}

// Commit implements [store.Store].
func (v *View) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	v.mu.Lock()
	unclear := v.unclear && !v.closed
	if unclear {
		v.unclear = false
	}
	v.mu.Unlock()
	if unclear {
		_, _ = v.s.Commit(ctx, ops...)
		return 0, cnm.Errorf(cnm.ErrUnavailable, "%w: the way to it was cut before it answered", store.ErrUnclear)
	}
	if _, _, err := v.state(); err != nil {
		return 0, err
	}
	return v.s.Commit(ctx, ops...)
}

// Watch implements [store.Store].
func (v *View) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	cut, _, err := v.state()
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	in, err := v.s.Watch(ctx, prefix, rev)
	if err != nil {
		end()
		return nil, err
	}
	out := make(chan store.Event)
	go func() {
		defer end()
		defer close(out)
		for {
			select {
			case <-cut:
				return
			case e, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- e:
				case <-cut:
					return
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// Hold implements [store.Leaser].
func (v *View) Hold(ctx context.Context, op store.Op, ttl time.Duration) (<-chan struct{}, error) {
	if _, _, err := v.state(); err != nil {
		return nil, err
	}
	lost, rev, err := v.s.hold(ctx, op)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{})
	go func() {
		if v.keep(ctx, lost, ttl) {
			close(out)
		}
		v.s.giveBack(op.Key, rev)
	}()
	return out, nil
}

// keep waits for the end of a hold, and says whether it is a loss.
func (v *View) keep(ctx context.Context, lost <-chan struct{}, ttl time.Duration) bool {
	for {
		cut, _, err := v.state()
		if err == store.ErrClosed {
			return false
		}
		select {
		case <-ctx.Done():
			if !isClosed(cut) {
				return false
			}
		case <-lost:
			return ctx.Err() == nil
		case <-cut:
		}
		// From here on nothing that the holder does reaches the store.
		_, healed, _ := v.state()
		out := time.NewTimer(ttl)
		select {
		case <-out.C:
			return true
		case <-healed:
			out.Stop()
		}
	}
}

// Close implements [store.Store]: watches end.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	if !isClosed(v.cut) { // what is held is given back, unless the way is cut
		close(v.cut)
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
