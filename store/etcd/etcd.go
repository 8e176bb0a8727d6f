// Package etcd is the store of many hosts: keys below a prefix of an etcd cluster, one
// that this engine runs itself or one that exists already.
//
// Nothing here waits for a server. Open succeeds with all of etcd down; each call has a
// deadline of its own (Options.CallTimeout) and answers within it, whatever the context
// allows; connections are made and made again in the background. A cut wire is found
// within seconds on each connection (TCP keepalive and TCP_USER_TIMEOUT), not when TCP
// gives up.
//
// What a Commit answers is true. An error other than [store.ErrUnclear] says that nothing
// was written and nothing will be. What was surely not sent, or surely refused before it
// was proposed, is tried again until the deadline; what was sent and not answered is not,
// guarded or not: it may be written, or yet be written by a server that is slow. See
// [store.ErrUnclear] for what a caller does then.
//
// A revision is etcd's: Entry.Rev is the key's ModRevision, and the revision of a List or
// Commit is the cluster's at that moment.
package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"linkspan/cnm"
	"linkspan/store"
)

// MaxOps is how many operations one commit may have: etcd's default for --max-txn-ops,
// which whoever set up an external cluster can lower but rarely does.
const MaxOps = 128

// maxBytes is etcd's default for --max-request-bytes: how much one commit may weigh.
const maxBytes = 1536 << 10

// page is how many entries List asks for at a time, so that a large answer is many small
// messages, each with a deadline of its own.
const page = 500

// Options of Open.
type Options struct {
	// Endpoints are the members' client addresses, as HOST:PORT (port 2379 if none), with
	// or without http:// or https://.
	Endpoints []string
	// TLS is how to speak to them; nil is plain text, or the system's roots for https://.
	// Certificates that change are given by its callbacks (GetClientCertificate,
	// VerifyConnection).
	TLS *tls.Config
	// Login is this host's user, where the cluster has users; nil: it has none, or knows
	// hosts by their certificates.
	Login *Login
	// Prefix comes before every key; callers never see it.
	Prefix string
	// Log is told when the cluster goes away and comes back; nil means slog.Default.
	Log *slog.Logger
	// DialTimeout is how long one attempt to connect may take; 0 means 2 s.
	DialTimeout time.Duration
	// CallTimeout is how long a call may take in all; 0 means 3 s. A List has it for each
	// 500 entries.
	CallTimeout time.Duration
	// SyncEvery is how often the cluster is asked for its members, whose client addresses
	// then take the place of the endpoints. 0 never: members behind other addresses than
	// they know of would be lost. See also [Store.SetEndpoints].
	SyncEvery time.Duration
	// Queue is how many events a reader of a watch may be behind; 0 means 100,000. Then
	// its channel closes.
	Queue int
}

// Store implements [store.Store] and [store.Leaser]. See Open.
type Store struct {
	o      Options
	client *clientv3.Client
	health health
	notes  notes

	base context.Context // ends with Close
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	eps    []string // HOST:PORT
	secure bool

	calls sync.WaitGroup // calls under way, watches and holds
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Leaser = (*Store)(nil)
)

// window is how many bytes of answers may be under way to this host.
const window = 1 << 20

// Open makes a store on the cluster at the endpoints, whether or not any of them answers
// now. Its error is cnm.ErrInvalid: for endpoints that cannot be any.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	eps, scheme, err := parseEndpoints(o.Endpoints)
	if err != nil {
		return nil, err
	}
	switch {
	case scheme == "http" && o.TLS != nil:
		return nil, cnm.Invalid("etcd at %s: plain http:// is asked for, and certificates are given; say https://", strings.Join(eps, ", "))
	case scheme == "https" && o.TLS == nil:
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.fill()
	s := &Store{o: o, eps: eps, secure: o.TLS != nil}
	s.base, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.client, err = clientv3.New(clientv3.Config{
		Context:   s.base,
		Endpoints: eps,
		TLS:       o.TLS,
		Logger:    zap.NewNop(), // what goes wrong is in the errors, or told once by health
		// The server forbids pings more often than each 5 s, gRPC those more often than
		// each 10 s: they find members that hang; the wire's own probes find cuts.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxUnaryRetries:      1, // call does it, knowing what was sent
		DialOptions: append([]grpc.DialOption{
			grpc.WithTransportCredentials(s.credentials()),
			grpc.WithContextDialer(s.dial),
			grpc.WithStatsHandler(sentHandler{}),
			// Fixed windows: gRPC's search for the best ones answers each event of a watch that
			// comes alone with a ping, which costs as much again as the event.
			grpc.WithInitialWindowSize(window),
			grpc.WithInitialConnWindowSize(window),
			// gRPC's own backoff goes up to two minutes: a mesh heals in seconds.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 2 * time.Second},
				MinConnectTimeout: o.DialTimeout,
			}),
		}, o.Login.DialOptions()...),
	})
	if err != nil {
		s.end()
		return nil, cnm.Invalid("etcd at %s: %w", strings.Join(eps, ", "), err)
	}
	if o.SyncEvery > 0 {
		s.calls.Go(s.follow)
	}
	return s, nil
}

func (o *Options) fill() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 2 * time.Second
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 3 * time.Second
	}
	if o.Queue <= 0 {
		o.Queue = 100_000
	}
}

// enter begins a call; done ends it.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// Get implements [store.Store]. It is linearizable: what any host's Commit answered
// before is seen.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	if err := s.enter(); err != nil {
		return store.Entry{}, false, err
	}
	defer s.calls.Done()
	resp, err := s.read(ctx, s.o.Prefix+key)
	if err != nil {
		return store.Entry{}, false, s.describe(err, "read "+key)
	}
	if len(resp.Kvs) == 0 || key == "" {
		return store.Entry{}, false, nil
	}
	return s.entry(resp.Kvs[0]), true, nil
}

// List implements [store.Store]. All pages are of one revision.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	if err := s.enter(); err != nil {
		return nil, 0, err
	}
	defer s.calls.Done()
	for attempt := 0; ; attempt++ {
		entries, rev, err := s.list(ctx, prefix)
		if err == nil {
			return entries, rev, nil
		}
		// Compacted between two pages: begin anew, but not for ever.
		if !isCompacted(err) || attempt == 3 {
			return nil, 0, s.describe(err, "list "+prefix)
		}
	}
}

func (s *Store) list(ctx context.Context, prefix string) (entries []store.Entry, rev int64, err error) {
	from, end := s.bounds(prefix)
	for {
		resp, err := s.read(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(rev))
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
			entries = slices.Grow(entries, int(min(resp.Count, 1<<20)))
		}
		for _, kv := range resp.Kvs {
			entries = append(entries, s.entry(kv))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return entries, rev, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// bounds are the range of keys under a prefix, as etcd takes it: "\x00" is the first key
// there can be, and as an end says "all from there".
func (s *Store) bounds(prefix string) (from, end string) {
	p := s.o.Prefix + prefix
	if p == "" {
		return "\x00", "\x00"
	}
	return p, clientv3.GetPrefixRangeEnd(p)
}

// SetEndpoints puts other members' addresses in place of those known. What is connected
// to an address that stays, stays.
func (s *Store) SetEndpoints(endpoints []string) error {
	eps, scheme, err := parseEndpoints(endpoints)
	if err != nil {
		return err
	}
	if scheme != "" && (scheme == "https") != s.secure {
		return cnm.Invalid("etcd at %s: %s:// is another scheme than the store was opened with", strings.Join(eps, ", "), scheme)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if slices.Equal(s.eps, eps) {
		return nil
	}
	s.eps = eps
	s.client.SetEndpoints(eps...)
	s.notes.keep(eps)
	return nil
}

// Endpoints are the addresses in use, as HOST:PORT.
func (s *Store) Endpoints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.eps)
}

// Health says whether the last call reached the cluster.
func (s *Store) Health() Health {
	h := s.health.get()
	if h.Err != nil {
		h.Err = s.away(h.Err, "reach it", false)
	}
	return h
}

// Close implements [store.Store]. Commits under way are waited for, which the deadline of
// a call bounds; what is held is given back, if that can be done at once. Closing twice is
// success.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.calls.Wait()
	_ = s.client.Close() // it answers the end of its own context
	return nil
}
