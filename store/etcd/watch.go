package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"linkspan/store"
)

// grace is how long watches wait for a connection to come back: a server that starts
// again is followed on without a list. With what it takes to find a cut, a watch that is
// stale ends within cut+grace.
const grace = 2 * time.Second

// Watch implements [store.Store]. The channel closes when its member has no leader, when
// none can be reached for some seconds, when the revision is compacted, and when the
// reader is too far behind: who lists again misses nothing.
func (s *Store) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	// Whether rev is still known, and the cluster there, is asked first: a watch is told
	// later, and would wait for a server as long as it takes. A revision yet to come is
	// one of another life of the cluster, before a restore.
	_, err := s.read(ctx, s.o.Prefix, clientv3.WithCountOnly(), clientv3.WithRev(max(rev, 1)))
	if err != nil {
		s.calls.Done()
		return nil, s.describe(err, "watch "+prefix)
	}
	wctx, cancel := context.WithCancel(ctx)
	from, end := s.bounds(prefix)
	out := make(chan store.Event, 64)
	go func() {
		defer s.calls.Done()
		defer close(out)
		defer cancel()
		defer context.AfterFunc(s.base, cancel)()
		go s.endWhenAway(wctx, cancel)
		in := s.client.Watch(clientv3.WithRequireLeader(wctx), from, clientv3.WithRange(end), clientv3.WithRev(max(rev, 0)+1))
		if err := s.pump(wctx, in, out); err != nil && wctx.Err() == nil {
			s.o.Log.Debug("a watch of the common store ended", "prefix", prefix, "error", plain(err))
		}
	}()
	return out, nil
}

var errBehind = errors.New("its reader is too far behind")

// pump hands events over, never waiting for the reader: what it has not taken is kept,
// up to a bound. (The client would keep it without one.)
func (s *Store) pump(ctx context.Context, in clientv3.WatchChan, out chan<- store.Event) error {
	var queue []store.Event
	for {
		var to chan<- store.Event
		var first store.Event
		if len(queue) > 0 {
			to, first = out, queue[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case to <- first:
			queue[0] = store.Event{}
			queue = queue[1:]
		case resp, ok := <-in:
			if !ok {
				return rpctypes.ErrNoLeader
			}
			if err := resp.Err(); err != nil {
				return err
			}
			for _, e := range resp.Events {
				queue = append(queue, s.event(e))
			}
			if len(queue) > s.o.Queue {
				return errBehind
			}
		}
	}
}

func (s *Store) event(e *clientv3.Event) store.Event {
	ev := store.Event{Key: string(e.Kv.Key[len(s.o.Prefix):]), Rev: e.Kv.ModRevision}
	if e.Type != clientv3.EventTypeDelete {
		if ev.Value = e.Kv.Value; ev.Value == nil {
			ev.Value = []byte{}
		}
	}
	return ev
}

// endWhenAway ends a watch when no member has been connected for the grace. The client
// itself would try for ever without a word. That a connection is dead is found by the
// kernel (see dial) and by gRPC's pings.
func (s *Store) endWhenAway(ctx context.Context, end context.CancelFunc) {
	conn := s.client.ActiveConnection()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
			continue
		}
		begun := time.Now()
		wait, cancel := context.WithTimeout(ctx, grace)
		for state != connectivity.Ready && conn.WaitForStateChange(wait, state) {
			state = conn.GetState()
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case state != connectivity.Ready:
			s.missed(begun, context.DeadlineExceeded)
			end()
			return
		}
	}
}
