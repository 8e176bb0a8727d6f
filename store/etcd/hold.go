package etcd

import (
	"context"
	"errors"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"linkspan/cnm"
	"linkspan/store"
)

// minTTL is the shortest lease that members grant with their default election timeout:
// shorter ones they make longer.
const minTTL = 2 * time.Second

// held is one key that is kept alive.
type held struct {
	key   string // with the prefix
	lease clientv3.LeaseID
	ttl   time.Duration
	// until is when the servers may have taken the key, counted from before the last
	// renewal was sent: by our clock never later than by theirs.
	until time.Time
}

// Hold implements [store.Leaser] with a lease of its own. When the first write's outcome
// is unclear, the lease is given back, and with it the key; the answer is an error.
func (s *Store) Hold(ctx context.Context, op store.Op, ttl time.Duration) (<-chan struct{}, error) {
	if err := check([]store.Op{op}); err != nil {
		return nil, err
	}
	if op.Value == nil || op.Keep {
		return nil, cnm.Invalid("store: the key %q is to be held without a value", op.Key)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	h, err := s.hold(ctx, op, ttl)
	if err != nil {
		s.calls.Done()
		return nil, err
	}
	lost := make(chan struct{})
	go func() {
		defer s.calls.Done()
		if s.renew(ctx, h) {
			close(lost)
		}
		s.release(ctx, h)
	}()
	return lost, nil
}

func (s *Store) hold(ctx context.Context, op store.Op, ttl time.Duration) (*held, error) {
	h := &held{key: s.o.Prefix + op.Key}
	var grant *clientv3.LeaseGrantResponse
	// A lease granted twice, the first unheard of, runs out by itself: nothing has it.
	err := s.try(ctx, func(ctx context.Context) (err error) {
		h.until = time.Now()
		grant, err = s.client.Grant(ctx, int64((max(ttl, minTTL)+time.Second-1)/time.Second))
		return err
	})
	if err != nil {
		return nil, s.describe(err, "hold "+op.Key)
	}
	h.lease, h.ttl = grant.ID, time.Duration(grant.TTL)*time.Second
	h.until = h.until.Add(h.ttl)
	if _, err := s.commit(ctx, h.lease, op); err != nil {
		s.release(ctx, h)
		return nil, err
	}
	return h, nil
}

// renew keeps the key until ctx or the store ends (false), or until it is gone (true).
func (s *Store) renew(ctx context.Context, h *held) (lost bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.base, cancel)()
	every := h.ttl / 3
	next := time.Now().Add(every)
	for {
		if !pause(ctx, time.Until(next)) {
			return false
		}
		sent := time.Now()
		gone, err := s.renewOnce(ctx, h)
		switch {
		case ctx.Err() != nil:
			return false
		case gone:
			return true
		case err == nil:
			h.until = sent.Add(h.ttl)
			next = sent.Add(every)
		case !time.Now().Before(h.until):
			return true // by now the servers have deleted it, or will without another word of ours
		default:
			next = time.Now().Add(min(every/4, 500*time.Millisecond))
		}
	}
}

// renewOnce renews the lease and looks whether the key is still on it: another can have
// deleted or overwritten it.
func (s *Store) renewOnce(ctx context.Context, h *held) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(s.o.CallTimeout, h.ttl/3))
	defer cancel()
	begun := time.Now()
	ttl, err := s.keepAlive(ctx, h.lease)
	switch {
	case err == nil && ttl <= 0:
		s.heard()
		return true, nil
	case err != nil:
		if ctx.Err() != context.Canceled {
			s.missed(begun, err)
		}
		return false, err
	}
	h.ttl = ttl
	get, err := s.client.Get(clientv3.WithRequireLeader(ctx), h.key, clientv3.WithKeysOnly())
	if err != nil {
		return false, nil // the lease is renewed; the next time tells
	}
	s.heard()
	return len(get.Kvs) == 0 || clientv3.LeaseID(get.Kvs[0].Lease) != h.lease, nil
}

// keepAlive renews a lease once, and returns for how long; 0: there is none any more. The
// client's own KeepAliveOnce tries again without a pause when a member refuses.
func (s *Store) keepAlive(ctx context.Context, lease clientv3.LeaseID) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil && !errors.Is(err, io.EOF) {
		return 0, err // io.EOF: Recv says why
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// release gives the lease back, which deletes the key. It is tried for as long as a call
// may take; the ttl does it otherwise.
func (s *Store) release(ctx context.Context, h *held) {
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(s.o.CallTimeout, 2*time.Second))
	defer cancel()
	for {
		_, err := s.client.Revoke(one, h.lease)
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) || !pause(one, 100*time.Millisecond) {
			return
		}
	}
}
