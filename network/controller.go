package network

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/events"
	"linkspan/ipam"
	"linkspan/keeper"
	"linkspan/publish"
	"linkspan/store"
)

// Config is what New needs.
type Config struct {
	Store   store.Store
	Kernel  dataplane.Kernel
	Drivers driver.Registry
	// Ports reserves host ports; the keeper does.
	Ports  keeper.Keeper
	Events *events.Bus
	// Table is our nftables table's name.
	Table string
	// PinDir holds the sandboxes' pins; HostPath is where the daemon's own
	// namespace is pinned, outside of PinDir so that no sweep can meet it.
	PinDir, HostPath string
	// Env gives the host's facts at this moment.
	Env func() driver.Env
	// HostPrefixes are the host's addresses and routes, which pools must avoid.
	HostPrefixes func(ctx context.Context) ([]netip.Prefix, error)
	// BindIP is what -p without an address means; zero: every address.
	BindIP netip.Addr
	Bridge DefaultBridge
	// Predefined networks exist besides bridge, host and none.
	Predefined []cnm.Network
	Log        *slog.Logger
}

// DefaultBridge is what the daemon's flags say about the network "bridge". Zero
// fields are chosen by us.
type DefaultBridge struct {
	// BIP is the bridge's address with its subnet (--bip).
	BIP netip.Prefix
	// Range bounds dynamic addresses (--fixed-cidr).
	Range netip.Prefix
	// Gateway is the containers' default gateway when it is not the bridge itself.
	Gateway netip.Addr
	MTU     int // bytes
}

// Controller implements Service. Methods are safe for concurrent use.
type Controller struct {
	cfg     Config
	log     *slog.Logger
	chooser *publish.Chooser

	// world is held shared while a fragment is committed and applied, and
	// exclusively by Reconcile, so that what is wanted and what is there are
	// compared while neither is half-made.
	world sync.RWMutex
	locks keyed // one change of a sandbox at a time, by its owner's id

	mu        sync.RWMutex
	networks  map[string]*cnm.Network // by id
	sandboxes map[string]*cnm.Sandbox // by id
	member    map[string]string       // container id → sandbox id
	revs      map[string]int64        // store key → revision
	pools     map[string][]*ipam.Pool // network id → its pools
	shared    map[string]string       // host-wide sysctls we changed → prior value
}

// Keys in the store.
const (
	networkKeys = "networks/"
	sandboxKeys = "sandboxes/"
	sharedKeys  = "shared/"
)

// New loads the committed state. Call Start before the first request.
func New(ctx context.Context, cfg Config) (*Controller, error) {
	c := &Controller{cfg: cfg, log: cfg.Log,
		networks: map[string]*cnm.Network{}, sandboxes: map[string]*cnm.Sandbox{}, member: map[string]string{},
		revs: map[string]int64{}, pools: map[string][]*ipam.Pool{}, shared: map[string]string{}}
	c.chooser = publish.NewChooser((*reserver)(c), publish.Options{Publisher: c.publisher})
	if err := load(ctx, c, networkKeys, func(n *cnm.Network) { c.networks[n.ID] = n }); err != nil {
		return nil, err
	}
	if err := load(ctx, c, sandboxKeys, func(s *cnm.Sandbox) { c.remember(s) }); err != nil {
		return nil, err
	}
	entries, _, err := cfg.Store.List(ctx, sharedKeys)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		c.shared[strings.TrimPrefix(e.Key, sharedKeys)] = string(e.Value)
	}
	for _, n := range c.networks {
		if err := c.openPools(n); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func load[T any](ctx context.Context, c *Controller, prefix string, each func(*T)) error {
	entries, _, err := c.cfg.Store.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, e := range entries {
		v := new(T)
		if err := json.Unmarshal(e.Value, v); err != nil {
			return fmt.Errorf("store: %s is damaged: %w", e.Key, err)
		}
		c.revs[e.Key] = e.Rev
		each(v)
	}
	return nil
}

// openPools makes a network's pools and marks what its endpoints hold.
func (c *Controller) openPools(n *cnm.Network) error {
	var pools []*ipam.Pool
	for _, p := range n.Pools {
		pool, err := c.pool(n, p)
		if err != nil {
			return err
		}
		pools = append(pools, pool)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pools[n.ID] = pools
	return nil
}

// pool makes one pool with everything marked that the sandboxes hold. The caller
// does not hold mu: pools ask describe.
func (c *Controller) pool(n *cnm.Network, p cnm.Pool) (*ipam.Pool, error) {
	pool, err := ipam.New(p, ipam.Options{Network: n.Name, NetworkID: n.ID, Describe: c.describe})
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	for _, s := range c.Sandboxes() {
		for _, e := range s.Endpoints {
			if e.NetworkID != n.ID {
				continue
			}
			for _, a := range e.Addrs {
				if p.Subnet.Contains(a.Addr()) {
					if err := pool.MarkUsed(a.Addr(), s.ID); err != nil {
						return nil, fmt.Errorf("network %s: %w", n.Name, err)
					}
				}
			}
		}
	}
	return pool, nil
}

// describe names the holder of an address for errors. Pools call it while mu is
// free.
func (c *Controller) describe(sandboxID string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s, ok := c.sandboxes[sandboxID]; ok {
		return "container " + s.OwnerName
	}
	return "a container that is starting"
}

// remember puts a committed sandbox in memory. The caller holds mu, or is New.
func (c *Controller) remember(s *cnm.Sandbox) {
	if old, ok := c.sandboxes[s.ID]; ok {
		for _, m := range old.Members {
			delete(c.member, m)
		}
	}
	c.sandboxes[s.ID] = s
	for _, m := range s.Members {
		c.member[m] = s.ID
	}
}

// commit writes a sandbox (nil: deletes the one of that id) and then remembers.
func (c *Controller) commit(ctx context.Context, id string, s *cnm.Sandbox) error {
	op := store.Op{Key: sandboxKeys + id, Guard: true}
	if s != nil {
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		op.Value = b
	}
	c.mu.RLock()
	op.IfRev = c.revs[op.Key]
	c.mu.RUnlock()
	rev, err := c.cfg.Store.Commit(ctx, op)
	if err != nil {
		return fmt.Errorf("sandbox %.12s: %w", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.revs[op.Key] = rev
		c.remember(s)
		return nil
	}
	delete(c.revs, op.Key)
	for _, m := range c.sandboxes[id].Members {
		delete(c.member, m)
	}
	delete(c.sandboxes, id)
	return nil
}

// clone makes a copy that may be handed out or changed.
func clone(s *cnm.Sandbox) *cnm.Sandbox {
	t := *s
	t.Members, t.Ports, t.Endpoints = slices.Clone(s.Members), slices.Clone(s.Ports), slices.Clone(s.Endpoints)
	return &t
}
