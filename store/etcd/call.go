package etcd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/stats"

	"linkspan/store"
)

// call is what is known of one request to a server.
type call struct{ sent atomic.Bool }

type callKey struct{}

// sentHandler notes that a request has left: gRPC says so, its errors do not. A request
// waits for a connection first, and one that ends there was never sent.
type sentHandler struct{}

func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); ok {
		if c, ok := ctx.Value(callKey{}).(*call); ok {
			c.sent.Store(true)
		}
	}
}
func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentHandler) HandleConn(context.Context, stats.ConnStats)                       {}

// try does what may be done twice (a read), until it is answered or the time of a call
// is over. A member that does not answer gets half of that: the next attempt goes to the
// next member.
func (s *Store) try(ctx context.Context, do func(context.Context) error) error {
	begun := time.Now()
	ctx, cancel := context.WithDeadline(ctx, begun.Add(s.o.CallTimeout))
	defer cancel()
	defer context.AfterFunc(s.base, cancel)()
	var last error
	for {
		// Without a leader a member answers at once, instead of when its own time is over.
		one, stop := context.WithTimeout(clientv3.WithRequireLeader(ctx), s.o.CallTimeout/2)
		err := do(one)
		stop()
		if err == nil {
			s.heard()
			return nil
		}
		if !isAway(err) {
			if isAnswer(err) {
				s.heard()
			}
			return err
		}
		if last == nil || !isContext(err) { // "deadline exceeded" says less than the error before it
			last = err
		}
		if !pause(ctx, 100*time.Millisecond) {
			break
		}
	}
	switch {
	case s.base.Err() != nil:
		return store.ErrClosed
	case ctx.Err() != nil && time.Since(begun) < s.o.CallTimeout:
		return context.Cause(ctx) // the caller's own end
	}
	s.missed(begun, last)
	return last
}

// read is a linearizable read of etcd.
func (s *Store) read(ctx context.Context, key string, opts ...clientv3.OpOption) (resp *clientv3.GetResponse, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if key == "" {
		key = "\x00" // etcd has no empty key
	}
	err = s.try(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Get(ctx, key, opts...)
		return err
	})
	return resp, err
}

// entry takes the prefix off; the memory is the answer's own.
func (s *Store) entry(kv *mvccpb.KeyValue) store.Entry {
	e := store.Entry{Key: string(kv.Key[len(s.o.Prefix):]), Value: kv.Value, Rev: kv.ModRevision}
	if e.Value == nil {
		e.Value = []byte{}
	}
	return e
}

// connected says whether any member is.
func (s *Store) connected() bool {
	return s.client.ActiveConnection().GetState() == connectivity.Ready
}

// heard and missed keep the health, and tell of its turns.
func (s *Store) heard() {
	s.notes.clear()
	if since, was := s.health.good(); was {
		s.o.Log.Info("the common store can be reached again", "etcd", s.Endpoints(), "away", time.Since(since).Round(time.Second))
	}
}

func (s *Store) missed(begun time.Time, err error) {
	if s.health.bad(begun, err) {
		s.o.Log.Warn("the common store cannot be reached", "etcd", s.Endpoints(), "error", s.cause(err))
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func isCompacted(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
}
