package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// member is one run of etcd, from its start to its end.
type member struct {
	dir    string
	listen []netip.AddrPort
	etcd   *embed.Etcd
	ready  <-chan struct{}
	// stopping ends the streams of clients, and a moment later what else they have asked:
	// etcd waits for them for 7 s otherwise, as long as other hosts watch, or as there is
	// no majority to answer.
	stopping chan struct{}
	stop     sync.Once
	shutting sync.Once
	shutdown <-chan struct{} // closed when etcd has closed itself
	fail     sync.Once
	failed   chan struct{} // closed when err is set
	removed  atomic.Bool
	raft     sync.Once
	quiet    chan struct{} // closed when raft's loop has ended
	err      error
}

// OnWrite is what zap calls at a fatal line or a panic. The goroutine ends here, with its
// deferred calls, instead of the process: a full disk under etcd must not end the daemon.
// What it held stays held, so that nothing goes on from a state that etcd calls
// impossible; sever takes the files away from what is left.
func (m *member) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(e.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", e.Message, cause)
		}
	}
	if e.Message == lost {
		time.AfterFunc(leaving, func() { m.end(err) })
		runtime.Goexit()
	}
	m.end(err)
	if strings.Contains(e.Message, "Raft") { // those of raft's own loop (etcdserver/raft.go)
		m.raft.Do(func() { close(m.quiet) })
	}
	runtime.Goexit()
}

// lost is what etcd panics with when it is asked something (membership.RaftCluster,
// IsLocalMemberLearner) after its removal was applied and before it has stopped, which it
// does by itself. It says so to who asks, and all locks are undone: nothing else has failed.
// Of a member that is not removed, and yet not among its own, it is true after leaving too.
const (
	lost    = "failed to find local ID in cluster members"
	leaving = 10 * time.Second
)

var errLost = errors.New("this host's member is not, or no longer, one of the cluster's")

// apart calls f, which asks etcd something, in a goroutine of its own: what etcd calls
// impossible ends the goroutine that it is said in (OnWrite), and that must not be one of
// the daemon's. The error is why the member failed meanwhile; f may go on then.
func (m *member) apart(f func()) error {
	through := make(chan bool, 1)
	go func() {
		ok := false
		defer func() { through <- ok }()
		f()
		ok = true
	}()
	select {
	case ok := <-through:
		if ok {
			return nil
		}
	case <-m.failed:
	}
	select {
	case <-m.failed:
		return m.err
	default:
		return errLost
	}
}

// hear notes that this member was removed, which it may be told by the others without
// ever seeing the entry that says so.
func (m *member) hear(line string) {
	if line == gone {
		m.removed.Store(true)
	}
}

func (m *member) end(err error) {
	m.fail.Do(func() {
		m.err = err
		close(m.failed)
	})
}

// begin starts etcd. It returns when etcd runs, which is before it knows the others.
func begin(c Config) (*member, error) {
	m := &member{dir: c.Dir, listen: []netip.AddrPort{c.Client, c.Peer}, stopping: make(chan struct{}), failed: make(chan struct{}), quiet: make(chan struct{})}
	ec := c.embed(logger(c.Log, m, m.hear))
	ec.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(m.stream), grpc.ChainUnaryInterceptor(m.unary)}
	type answer struct {
		etcd *embed.Etcd
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		e, err := embed.StartEtcd(ec)
		got <- answer{e, err}
	}()
	var a answer
	select {
	case a = <-got:
	case <-m.failed:
		// The goroutine above has ended, or is held by one that has.
		m.sever()
		return nil, m.err
	}
	if a.err != nil {
		return nil, a.err
	}
	m.etcd = a.etcd
	m.ready = a.etcd.Server.ReadyNotify()
	go func() {
		err := errStopped
		select {
		case e, ok := <-a.etcd.Err():
			if ok && e != nil {
				err = e
			}
		case <-a.etcd.Server.StopNotify():
		case <-m.failed:
			return
		}
		if m.removed.Load() || a.etcd.Server.IsIDRemoved(uint64(a.etcd.Server.MemberID())) {
			err = errRemoved
		}
		m.end(err)
	}()
	return m, nil
}

var (
	errRemoved = errors.New("this host's member was removed from the cluster")
	errStopped = errors.New("etcd stopped")
)

// patience is how long etcd may take to stop. It waits for requests under way, and for a
// second for each connection of a peer.
const patience = 12 * time.Second

// close stops etcd, whatever state it is in, and frees its folder and addresses.
func (m *member) close() {
	select {
	case <-m.failed:
		if !errors.Is(m.err, errRemoved) && !errors.Is(m.err, errStopped) {
			// Something in it has ended that others wait for.
			m.abandon()
			return
		}
	default:
	}
	m.stop.Do(func() { close(m.stopping) })
	done := m.shut()
	select {
	case <-done:
		return
	case <-time.After(patience):
	case <-m.failed:
		// It fails while it stops: a disk that is full.
		select {
		case <-done:
			return
		case <-time.After(2 * time.Second):
		}
	}
	m.abandon()
}

// stream serves a client's watches or leases until it has had enough, or the member stops.
func (m *member) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	go func() {
		select {
		case <-m.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := next(srv, stoppable{ss, ctx})
	select {
	case <-m.stopping:
		// Not "canceled", which etcd's answer is: the client goes on at another member.
		return status.Error(codes.Unavailable, "the etcd member stops")
	default:
		return err
	}
}

// lastAnswers is how long a member that stops still answers what it was asked before.
const lastAnswers = 300 * time.Millisecond

// unary serves one request of a client's, not for long when the member stops.
func (m *member) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-m.stopping:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lastAnswers):
			cancel()
		case <-ctx.Done():
		}
	}()
	resp, err := next(ctx, req)
	if err == nil {
		return resp, nil
	}
	select {
	case <-m.stopping: // as above
		return nil, status.Error(codes.Unavailable, "the etcd member stops")
	default:
		return nil, err
	}
}

type stoppable struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stoppable) Context() context.Context { return s.ctx }

// shut has etcd close itself, once: a second Close panics when the first is through.
func (m *member) shut() (done <-chan struct{}) {
	m.shutting.Do(func() {
		ended := make(chan struct{})
		m.shutdown = ended
		go func() {
			defer close(ended)
			select {
			case <-m.ready:
			default:
				// Close waits for what serves clients, and that begins when the member is
				// ready: one that never was, for want of a majority, has to be stopped first.
				m.etcd.Server.HardStop()
			}
			m.etcd.Close()
		}()
	})
	return m.shutdown
}
