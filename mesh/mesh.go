package mesh

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// Store is the common store: it can be out of reach at any time.
type Store interface {
	store.Store
	store.Leaser
}

// Sink is who hears what the mesh tells: the network's controller (network.Sink). Calls
// come one at a time.
type Sink interface {
	// Networks are all global networks there are now.
	Networks(ctx context.Context, all []*cnm.Network)
	// Peers says that the underlay, or any peer, is another than before.
	Peers(ctx context.Context)
	// Remote says what changed on a network that is followed. Blocks of this host's own
	// are among the blocks.
	Remote(ctx context.Context, network string, c cnm.RemoteChange)
	// Ask is another host's request for an address of a block of ours: grant it, so that
	// it is never handed out here until Unask, or say who has it. Asked again of what was
	// granted to the same host, it grants again.
	Ask(ctx context.Context, network string, addr netip.Addr, host string) error
	Unask(ctx context.Context, network string, addr netip.Addr)
}

// Way is what this host's kernel knows of the way to an address.
type Way struct {
	// Dev is the device that packets leave by; OnLink: without a router.
	Dev    string
	OnLink bool
	// MTU is that of the route, in bytes, what was learned of the path included.
	MTU int
}

// Place is this host's end of what connects it with the others: facts that others
// find out. Zero is "not known yet".
type Place struct {
	// Dev has the host's address; its MTU is in bytes.
	Dev string
	MTU int
	// PathMTU is the largest packet, in bytes, that every peer's path takes; 0: as MTU.
	PathMTU int
	// Secure is the WireGuard device, once it is up, and SecureMTU what fits into it.
	Secure    string
	SecureMTU int
	// SecureUserSpace: that device is a program's (cnm.Underlay). SoftChecksums: checksum
	// offload was found broken on the way.
	SecureUserSpace, SoftChecksums bool
}

// Config of New.
type Config struct {
	// Store is the common store; Local this host's own, in which what is known is cached
	// below "mesh/". Local may be nil: then a restart needs the common store.
	Store Store
	Local store.Store
	// Mesh is the id of the mesh that was joined. A store that holds another is not
	// listened to. Empty: that of the first record seen.
	Mesh string
	// Self is this host, as Enroll returned it. Its Version, Prefixes and Key may be newer
	// than what is stored: they are written.
	Self Host
	// Sink may be set later, with SetSink, before Run.
	Sink Sink
	// Place and Way are facts of the kernel's; Way is called for each peer when something
	// changes, and may be nil.
	Place Place
	Way   func(peer netip.Addr) Way
	// OnSelf hears, one call at a time, when this host's own record is another than before
	// (its role), or gone: then it was forgotten, and has fenced itself.
	OnSelf func(h Host, fenced bool)
	// From says where this machine is at the moment, in words for people who look for two
	// machines of one identity; nil: it is not told.
	From func() string
	Log  *slog.Logger

	// TTL is how long the liveness key outlives this process (10 s), Resync how often
	// everything is compared with the store (10 min), AskWait how long another host has to
	// answer (3 s), Timeout how long one call of the store may take (5 s), Jitter up to
	// how long to wait before listing again after a watch ended (500 ms).
	TTL, Resync, AskWait, Timeout, Jitter time.Duration
	// BatchOps is the most operations of one commit (128, etcd's default limit).
	BatchOps int
	// Hook is a fail point: it is called with the name of each step that must survive a
	// kill in its middle.
	Hook func(point string)
}

func (c *Config) fill() {
	for _, d := range []struct {
		d   *time.Duration
		std time.Duration
	}{{&c.TTL, 10 * time.Second}, {&c.Resync, 10 * time.Minute}, {&c.AskWait, 3 * time.Second}, {&c.Timeout, 5 * time.Second}, {&c.Jitter, 500 * time.Millisecond}} {
		if *d.d == 0 {
			*d.d = d.std
		}
	}
	if c.BatchOps == 0 {
		c.BatchOps = 128
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Self.MAC == "" {
		c.Self.MAC = VTEP(c.Self.ID)
	}
}

// Mesh is this host's part in the mesh. Its methods are safe for concurrent use; none
// of them calls the Sink.
type Mesh struct {
	cfg Config
	log *slog.Logger
	id  string // this host's
	// boot is this process's (see life).
	boot string

	mu      sync.Mutex
	sink    Sink
	onHosts []func()
	place   Place
	// record is the mesh's; zero: not known yet. recordRev guards that no restore came
	// between a look and a claim.
	record    Record
	recordRev int64
	// self is this host as it wishes to be known, stored as it is known; selfRev is
	// stored's, 0: not seen since this process began.
	self    Host
	stored  Host
	selfRev int64
	// set is what of self this process was told.
	set struct{ key, prefixes bool }
	// first is the store's revision when this process first held its liveness key, clone
	// the process that was found to have taken it away.
	first   int64
	clone   string
	fenced  string // why; empty: not
	left    bool
	foreign error // the store is not this mesh's: nothing of it counts
	health  health

	hosts     map[string]Host
	alive     map[string]bool
	seen      map[string]time.Time // last time a host was seen alive
	networks  map[string]*cnm.Network
	netRevs   map[string]int64
	asks      map[string]askEntry // by key
	ways      map[netip.Addr]Way
	paths     map[string]path // by peer
	base      map[string]*mirror
	follows   map[string]*follow
	own       map[string]*ownNet
	queue     queue
	telling   telling
	cache     cache
	waiters   map[string][]chan struct{} // by the key of an ask
	borrowing map[string]int             // how many are asking, by the key of the ask
	adopting  map[string]bool            // keys of blocks
	claims    map[string]bool            // keys of blocks that a Claim here is about to write

	checkBell bell // the steward looks at this host's own record
	writeBell bell
	tellBell  bell
	cacheBell bell
	aliveBell bell
	askBell   bell
	restored  time.Time // when the last restore was seen
	suspect   bool      // the store's revision went back
	confirmed bool      // this host's record was seen in the store since this process began
	auditAll  bool
	auditAlso map[string]bool // networks of which this host may have something unknown to it
	audited   bool            // once
	synced    bool            // Sync was called: what this host has is known

	ready chan struct{}
	runs  sync.WaitGroup
	ctx   context.Context // Run's, for what follows start and end
}

type askEntry struct {
	network string
	addr    netip.Addr
	ask     ask
	rev     int64
}

// New makes a mesh of what the cache knows, without asking the common store.
func New(cfg Config) (*Mesh, error) {
	if cfg.Self.ID == "" || cfg.Self.Name == "" || !cfg.Self.Addr.IsValid() {
		return nil, cnm.Invalid("this host has no id, name or address in a mesh; join one with linkspan mesh join")
	}
	cfg.fill()
	m := &Mesh{
		cfg: cfg, log: cfg.Log, id: cfg.Self.ID, boot: NewID(), sink: cfg.Sink, place: cfg.Place, self: cfg.Self,
		hosts: map[string]Host{}, alive: map[string]bool{}, seen: map[string]time.Time{},
		networks: map[string]*cnm.Network{}, netRevs: map[string]int64{}, asks: map[string]askEntry{}, ways: map[netip.Addr]Way{}, paths: map[string]path{},
		base: map[string]*mirror{}, follows: map[string]*follow{}, own: map[string]*ownNet{},
		waiters: map[string][]chan struct{}{}, borrowing: map[string]int{}, adopting: map[string]bool{}, claims: map[string]bool{}, auditAlso: map[string]bool{},
		checkBell: newBell(), writeBell: newBell(), tellBell: newBell(), cacheBell: newBell(), aliveBell: newBell(), askBell: newBell(),
		ready: make(chan struct{}),
	}
	m.queue.queued = map[string]bool{}
	m.queue.present = map[string]bool{}
	m.queue.releases = map[string]bool{}
	m.telling.remotes = map[string]*pendingRemote{}
	m.cache.dirty = map[string][]byte{}
	m.health.silent = make(chan struct{})
	for _, prefix := range basePrefixes {
		m.base[prefix] = newMirror(prefix, "")
	}
	if err := m.load(context.Background()); err != nil {
		return nil, err
	}
	return m, nil
}

var basePrefixes = []string{recordKey, hostKeys, aliveKeys, networkKeys, askKeys}

// SetSink says who hears. Before Run.
func (m *Mesh) SetSink(s Sink) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sink = s
}

// OnHosts has f called whenever any host's record (this one's too), liveness or way is
// another. It must not wait.
func (m *Mesh) OnHosts(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onHosts = append(m.onHosts, f)
}

// Run follows the common store until ctx ends. The first thing it does is to tell the
// sink what the cache knows; see Ready.
func (m *Mesh) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if m.ctx != nil {
		m.mu.Unlock()
		return cnm.Conflict("the mesh runs already")
	}
	m.ctx = ctx
	m.telling.networks = len(m.networks) > 0
	m.telling.peers = true
	for network, f := range m.follows {
		if f.active {
			m.startFollow(network, f)
		}
	}
	m.mu.Unlock()
	m.remindGrants()
	m.tellBell.ring()
	m.spawn(func() { m.tell(ctx) })
	for _, prefix := range basePrefixes {
		m.spawn(func() { m.follow(ctx, m.base[prefix]) })
	}
	m.spawn(func() { m.write(ctx) })
	m.spawn(func() { m.steward(ctx) })
	m.spawn(func() { m.live(ctx) })
	m.spawn(func() { m.answer(ctx) })
	m.spawn(func() { m.keep(ctx) })
	<-ctx.Done()
	m.runs.Wait()
	m.flush(context.WithoutCancel(ctx)) // the cache
	return nil
}

func (m *Mesh) spawn(f func()) {
	m.runs.Add(1)
	go func() {
		defer m.runs.Done()
		f()
	}()
}

// Ready is closed when the sink has heard all that was cached, granted addresses first.
func (m *Mesh) Ready() <-chan struct{} { return m.ready }
