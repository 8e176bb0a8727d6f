package image

import (
	"context"
	"log/slog"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"linkspan/events"
)

// Config is what New needs. Client and Namespace are required.
type Config struct {
	Client    *containerd.Client
	Namespace string
	// Snapshotter is containerd's; default "overlayfs".
	Snapshotter string
	// Mirrors are asked before the Docker Hub, in order: URLs with http or https.
	Mirrors []string
	// Insecure are registries whose certificate is not verified and that may
	// speak plain http: host, host:port or CIDR. Loopback addresses always are.
	Insecure []string
	// CertsDir holds HOST[:PORT]/{*.crt,*.cert,*.key}; default /etc/docker/certs.d.
	CertsDir string
	// MaxDownloads is how many layers are fetched at a time; default 3.
	MaxDownloads int
	// UserAgent names us to registries; default "linkspan".
	UserAgent string

	Events *events.Bus
	// Hook is called at every fail point, with its name; nil in production.
	Hook   func(point string)
	Logger *slog.Logger // default: slog's
}

// upstream is where docker.io really is.
const upstream = "registry-1.docker.io"

// Store implements [Service] on containerd's image, content and snapshot
// services. What it knows is in containerd; memory only caches what never
// changes. Safe for concurrent use.
type Store struct {
	cfg      Config
	log      *slog.Logger
	liblog   *log.Entry
	slots    *semaphore.Weighted // downloads
	hub      string              // host of docker.io; tests replace it
	pulling  keyed               // by the digest of what is pulled
	applying keyed               // by chain id

	// names guards the image records: whoever writes them holds it.
	names sync.RWMutex

	mu       sync.Mutex // what follows
	registry registries
	users    Users
	parsed   map[digest.Digest]*parsed // by manifest
	usage    map[string]int64          // bytes of one layer, by chain id
}

var _ Service = (*Store)(nil)

// New makes the service. It does not talk to containerd.
func New(cfg Config) *Store {
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = "overlayfs"
	}
	if cfg.MaxDownloads <= 0 {
		cfg.MaxDownloads = 3 // as dockerd
	}
	if cfg.CertsDir == "" {
		cfg.CertsDir = "/etc/docker/certs.d"
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "linkspan"
	}
	if cfg.Hook == nil {
		cfg.Hook = func(string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger, liblog: resolverLog(cfg.Logger), hub: upstream,
		slots:  semaphore.NewWeighted(int64(cfg.MaxDownloads)),
		parsed: map[digest.Digest]*parsed{}, usage: map[string]int64{},
	}
	s.SetRegistries(cfg.Mirrors, cfg.Insecure)
	return s
}

// SetUsers says who knows which containers use an image. It is asked while image
// names are locked: it must not ask us back, nor wait for someone who does.
func (s *Store) SetUsers(u Users) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = u
}

func (s *Store) usersOf(id string) []User {
	s.mu.Lock()
	u := s.users
	s.mu.Unlock()
	if u == nil {
		return nil
	}
	return u.ImageUsers(id)
}

// ns puts containerd's namespace, and our log for its library, into a context.
func (s *Store) ns(ctx context.Context) context.Context {
	return namespaces.WithNamespace(log.WithLogger(ctx, s.liblog), s.cfg.Namespace)
}

func (s *Store) content() content.Store { return contents{s.cfg.Client.ContentStore()} }
func (s *Store) snapshotter() snapshots.Snapshotter {
	return s.cfg.Client.SnapshotService(s.cfg.Snapshotter)
}

func (s *Store) publish(action, id, name string, labels map[string]string) {
	if s.cfg.Events == nil {
		return
	}
	a := map[string]string{}
	for k, v := range labels {
		a[k] = v
	}
	a["name"] = name
	s.cfg.Events.Publish(events.Event{Type: "image", Action: action, ID: id, Attributes: a})
}

const (
	// leaseLabel says what a lease of ours is for.
	leaseLabel = "linkspan/image"
	// leaseTime ends a lease that a crash left; containerd's client uses the same.
	leaseTime = 24 * time.Hour
)

// lease keeps what is made under the returned context from containerd's garbage
// collection until done is called. A crash in between leaves the lease to
// Recover, or to its time.
func (s *Store) lease(ctx context.Context, what string) (_ context.Context, done func(), err error) {
	ls := s.cfg.Client.LeasesService()
	s.cfg.Hook("lease.create.before")
	l, err := ls.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseTime), leases.WithLabel(leaseLabel, what))
	s.cfg.Hook("lease.create.after")
	if err != nil {
		return nil, nil, classify(err, "a lease for the %s", what)
	}
	return leases.WithLease(ctx, l.ID), func() { s.endLease(ctx, l) }, nil
}

func (s *Store) endLease(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	s.cfg.Hook("lease.delete.before")
	err := s.cfg.Client.LeasesService().Delete(ctx, l, opts...)
	s.cfg.Hook("lease.delete.after")
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.Warn("a lease on image content could not be ended; containerd ends it after a day", "lease", l.ID, "error", err)
	}
}

// collect has containerd free what nothing needs any more, and waits for it: who
// removes an image to make room wants the room. It is done without our locks.
func (s *Store) collect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	ls := s.cfg.Client.LeasesService()
	s.cfg.Hook("image.collect.before")
	l, err := ls.Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Minute), leases.WithLabel(leaseLabel, "collect"))
	if err == nil {
		err = ls.Delete(ctx, l, leases.SynchronousDelete)
	}
	s.cfg.Hook("image.collect.after")
	if err != nil {
		s.log.Warn("containerd frees the space of removed images later", "error", err)
	}
}

// Recover ends what a daemon that died left: leases of loads, imports and
// unpackings. Those of pulls stay, so that the next pull of the same image goes
// on where the last one stopped; they end by themselves after a day. Call it
// once, before the first request.
func (s *Store) Recover(ctx context.Context) error {
	ctx = s.ns(ctx)
	list, err := s.cfg.Client.LeasesService().List(ctx, `labels."`+leaseLabel+`"`)
	if err != nil {
		return classify(err, "leases on image content")
	}
	for _, l := range list {
		if l.Labels[leaseLabel] != leasePull {
			s.endLease(ctx, l)
		}
	}
	return nil
}

// keyed is a mutex per key.
type keyed struct {
	mu sync.Mutex
	m  map[string]chan struct{}
}

// lock waits for the key until ctx ends.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		unlock, held := k.take(key)
		if unlock != nil {
			return unlock, nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryLock takes the key if it is free.
func (k *keyed) tryLock(key string) (unlock func(), ok bool) {
	unlock, _ = k.take(key)
	return unlock, unlock != nil
}

// take returns unlock, or what closes when the key becomes free.
func (k *keyed) take(key string) (unlock func(), held chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if held, ok := k.m[key]; ok {
		return nil, held
	}
	if k.m == nil {
		k.m = map[string]chan struct{}{}
	}
	mine := make(chan struct{})
	k.m[key] = mine
	return func() {
		k.mu.Lock()
		delete(k.m, key)
		k.mu.Unlock()
		close(mine)
	}, nil
}
