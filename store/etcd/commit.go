package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"linkspan/cnm"
	"linkspan/store"
)

// Commit implements [store.Store]. A ctx that ends before the request left takes it back;
// later the answer is waited for, within the deadline of a call.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if err := check(ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.calls.Done()
	if len(ops) == 0 {
		resp, err := s.read(ctx, s.o.Prefix, clientv3.WithCountOnly())
		if err != nil {
			return 0, s.describe(err, "read the revision")
		}
		return resp.Header.Revision, nil
	}
	return s.commit(ctx, 0, ops...)
}

func check(ops []store.Op) error {
	if err := store.CheckOps(ops); err != nil {
		return err
	}
	if len(ops) > MaxOps {
		return cnm.Invalid("store: a commit of %d operations; etcd takes %d in one transaction: write them in several", len(ops), MaxOps)
	}
	size := 0
	for i := range ops {
		size += len(ops[i].Key) + len(ops[i].Value)
	}
	if size > maxBytes {
		return cnm.Invalid("store: a commit of %d bytes; etcd takes %d in one transaction: write it in several", size, maxBytes)
	}
	return nil
}

// commit writes ops, what is put with a lease (0: none).
func (s *Store) commit(ctx context.Context, lease clientv3.LeaseID, ops ...store.Op) (int64, error) {
	what := "write " + ops[0].Key
	if len(ops) > 1 {
		what = fmt.Sprintf("write %s and %d more", ops[0].Key, len(ops)-1)
	}
	var conditions []clientv3.Cmp
	writes := make([]clientv3.Op, 0, len(ops))
	for i := range ops {
		op := &ops[i]
		key := s.o.Prefix + op.Key
		if op.Guard {
			// A key that does not exist has the ModRevision 0.
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", op.IfRev))
		}
		switch {
		case op.Keep: // a condition alone
		case op.Value == nil:
			writes = append(writes, clientv3.OpDelete(key))
		default:
			writes = append(writes, clientv3.OpPut(key, string(op.Value), clientv3.WithLease(lease)))
		}
	}
	begun := time.Now()
	deadline := begun.Add(s.o.CallTimeout)
	for {
		var c call
		resp, err := s.txn(ctx, &c, deadline, conditions, writes)
		if err == nil {
			s.heard()
			if !resp.Succeeded {
				return 0, store.ErrCompare
			}
			return resp.Header.Revision, nil
		}
		if c.sent.Load() && !refused(err) {
			s.missed(begun, err)
			return 0, s.away(err, what, true)
		}
		if isAnswer(err) && !isAway(err) {
			s.heard()
			return 0, s.describe(err, what)
		}
		if !isAway(err) {
			return 0, s.describe(err, what)
		}
		// Surely not written, now or later.
		if e := ctx.Err(); e != nil {
			return 0, e
		}
		wait, cancel := context.WithDeadline(ctx, deadline)
		again := pause(wait, 100*time.Millisecond)
		cancel()
		if !again {
			if e := ctx.Err(); e != nil {
				return 0, e
			}
			s.missed(begun, err)
			return 0, s.describe(err, what)
		}
	}
}

// txn sends once. The end of ctx is heeded as long as the request waits for a connection.
func (s *Store) txn(ctx context.Context, c *call, deadline time.Time, conditions []clientv3.Cmp, writes []clientv3.Op) (*clientv3.TxnResponse, error) {
	one, cancel := context.WithDeadline(context.WithValue(context.WithoutCancel(ctx), callKey{}, c), deadline)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if !c.sent.Load() && !s.connected() {
			cancel()
		}
	})()
	// A member without a leader refuses at once what it could only keep for later.
	return s.client.Txn(clientv3.WithRequireLeader(one)).If(conditions...).Then(writes...).Commit()
}

// refused says of the error of a request that was sent that it was not, and will not be,
// written: the member said so before it proposed it, or all members when it was applied.
func refused(err error) bool {
	for _, e := range []error{
		rpctypes.ErrNoLeader, rpctypes.ErrTooManyRequests, errLearner, rpctypes.ErrNotCapable,
		rpctypes.ErrNoSpace, rpctypes.ErrCorrupt, rpctypes.ErrLeaseNotFound,
		rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrDuplicateKey, rpctypes.ErrEmptyKey,
		rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	// gRPC's own: the message is too large, for this side or the other.
	return status.Code(err) == codes.ResourceExhausted
}
