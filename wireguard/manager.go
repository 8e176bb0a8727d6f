package wireguard

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/probe"
)

// ManagerConfig of NewManager.
type ManagerConfig struct {
	// Dir is where the key is kept (<data-root>/mesh).
	Dir string
	// Device is the network device's name.
	Device string
	// Port is UDP; 0: DefaultPort.
	Port uint16
	// Kernel and UserSpace are the two kinds. The kernel's is taken if Probe, which is
	// probe.WireGuard's when nil, finds it.
	Kernel, UserSpace Device
	Probe             func() error
	// Publish has this host's public key written into its record, for the others; it
	// does not wait for that. Update tells when it is there.
	Publish func(PublicKey)
	// Changed is called, in a goroutine of the manager's, when what Ready answers is
	// another than before; may be nil.
	Changed func()
	// RotateEvery is how old a key gets (24 h).
	RotateEvery time.Duration
	// CheckEvery is how often the device is compared with what it should be (15 s).
	CheckEvery time.Duration
	Log        *slog.Logger
}

// Manager keeps the device as the mesh says, and changes the key from time to time.
// Methods are safe for concurrent use.
type Manager struct {
	cfg    ManagerConfig
	log    *slog.Logger
	chosen sync.Once
	dev    Device
	kind   string
	bell   chan struct{}

	applying sync.Mutex // one Set at a time

	mu      sync.Mutex
	keys    *Keys
	wanted  Wanted
	asked   PublicKey // what Publish was last called with, and when
	askedAt time.Time
	allowed map[string]map[string][]netip.Prefix
	ready   bool
	err     error           // why it is not
	skipped map[string]bool // what was said of hosts that cannot be peers
	settled chan struct{}   // closed when a change of the key came to its end; nil: none
}

// The kinds.
const (
	KindKernel    = "kernel"
	KindUserSpace = "user space"
)

// NewManager makes nothing before Run, which chooses the kind. That there is neither is said
// by Ready.
func NewManager(cfg ManagerConfig) *Manager {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Probe == nil {
		cfg.Probe = probe.WireGuard.Check
	}
	if cfg.RotateEvery == 0 {
		cfg.RotateEvery = 24 * time.Hour
	}
	if cfg.CheckEvery == 0 {
		cfg.CheckEvery = 15 * time.Second
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	return &Manager{
		cfg: cfg, log: cfg.Log.With("device", cfg.Device), bell: make(chan struct{}, 1),
		allowed: map[string]map[string][]netip.Prefix{}, skipped: map[string]bool{},
		err: cnm.Errorf(cnm.ErrUnavailable, "the encrypted tunnels are not set up yet"),
	}
}

// choose chooses the kind, once: not before there is a mesh, since most hosts are in none
// and trying costs a namespace.
func (m *Manager) choose() {
	m.chosen.Do(func() {
		missing := error(cnm.Unsupported("no kernel device was offered"))
		if m.cfg.Kernel != nil {
			missing = m.cfg.Probe()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case missing == nil:
			m.dev, m.kind = m.cfg.Kernel, KindKernel
		case m.cfg.UserSpace == nil:
			m.err = cnm.Errorf(cnm.ErrUnavailable, "packets cannot be encrypted: %w", missing)
		default:
			m.log.Info("encrypted tunnels run in user space", "because", missing)
			m.dev, m.kind = m.cfg.UserSpace, KindUserSpace
		}
	})
}

// Update says what is wanted. It returns at once.
func (m *Manager) Update(w Wanted) {
	m.mu.Lock()
	m.wanted = w
	m.wanted.Hosts = slices.Clone(w.Hosts)
	m.mu.Unlock()
	m.Kick()
}

// Allow says which addresses of an encrypted routed network are on which host: blocks, and
// single addresses outside of them. It replaces what was said of the network; nil ends it.
func (m *Manager) Allow(network string, byHost map[string][]netip.Prefix) {
	m.mu.Lock()
	if len(byHost) == 0 {
		delete(m.allowed, network)
	} else {
		m.allowed[network] = maps.Clone(byHost)
	}
	m.mu.Unlock()
	m.Kick()
}

// Kick has the device compared with what is wanted now: the keeper was replaced, or the
// data plane has made the device.
func (m *Manager) Kick() {
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// Ready says whether the device can be used by the data plane, or why not. The kernel's
// is made by the data plane, after this.
func (m *Manager) Ready() (device string, userSpace bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cfg.Device, m.kind == KindUserSpace, m.err
}

// PublicKey is this host's; zero before the first Run.
func (m *Manager) PublicKey() PublicKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		return PublicKey{}
	}
	return m.keys.Current().Public()
}

// open reads the key, which is made at first use. A host that has left its mesh lost it,
// and gets another with the next.
func (m *Manager) open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dev == nil {
		return false
	}
	keys, err := OpenKeys(m.cfg.Dir)
	if err != nil {
		if m.err == nil || m.err.Error() != err.Error() {
			m.log.Error("the encrypted tunnels cannot be set up", "err", err)
		}
		m.err = err
		return false
	}
	m.keys = keys
	return true
}

// Run keeps the device right until ctx ends. The device then stays as it is. It may be run
// again afterwards, for another mesh.
func (m *Manager) Run(ctx context.Context) {
	m.choose()
	if m.dev == nil {
		m.log.Warn("networks with -o encrypted do not work on this host", "err", m.err)
	}
	tick := time.NewTicker(m.cfg.CheckEvery)
	defer tick.Stop()
	for opened := false; ; {
		if opened = opened || m.open(); opened {
			m.settle()
			m.apply(ctx)
			m.renew(time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.bell:
		}
	}
}

// Remove ends the tunnels, when this host leaves its mesh, after Run. The key's file is
// the caller's, with its folder.
func (m *Manager) Remove(ctx context.Context) error {
	m.choose()
	m.applying.Lock()
	defer m.applying.Unlock()
	m.mu.Lock()
	m.wanted, m.asked = Wanted{}, PublicKey{}
	clear(m.allowed)
	if m.dev != nil {
		m.ready, m.err = false, cnm.Errorf(cnm.ErrUnavailable, "the encrypted tunnels were removed")
	}
	m.mu.Unlock()
	if m.dev == nil {
		return nil
	}
	return m.dev.Remove(ctx, m.cfg.Device)
}

// apply sets the device.
func (m *Manager) apply(ctx context.Context) {
	m.applying.Lock()
	defer m.applying.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m.mu.Lock()
	c := m.config()
	m.mu.Unlock()
	if c.MTU == 0 {
		return // the mesh has said nothing yet
	}
	err := m.dev.Set(ctx, c)
	if m.kind == KindKernel && errors.Is(err, cnm.ErrNotFound) {
		err = nil // the data plane makes it once it hears of it, and until then nothing is sent
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	m.mu.Lock()
	was, wasReady := m.err, m.ready
	m.ready, m.err = err == nil, err
	m.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		m.log.Error("the encrypted tunnels cannot be set up", "err", err)
	case err == nil && !wasReady:
		m.log.Info("encrypted tunnels", "kind", m.kind, "port", c.Port, "key", c.PrivateKey.Public().Short(), "peers", len(c.Peers))
	}
	if wasReady != (err == nil) {
		m.cfg.Changed()
	}
}
