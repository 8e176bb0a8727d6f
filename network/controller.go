package network

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dns"
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
	// HostRoutes are the host's addresses and routes, which pools must avoid: all but
	// those on links of ours.
	HostRoutes func(ctx context.Context) ([]dataplane.HostRoute, error)
	// HostLink tells what a link of the host is, for networks on a device that a
	// person made; nil: there are none.
	HostLink func(ctx context.Context, name string) (dataplane.HostLink, error)
	// LinkStats are the counters of a sandbox's interfaces.
	LinkStats func(ctx context.Context, ns string) ([]dataplane.LinkStats, error)
	// Resolver opens the sockets of a sandbox's resolver in the namespace at path
	// (netns.ResolverSockets with dns.Addr and dns.Port); nil: sandboxes have none.
	Resolver func(path string) (*dns.Sockets, error)
	// ID is the data root's: networks' own IPv6 subnets come from it (ipam.ULA).
	ID string
	// AddressPools are --default-address-pool; families without one have
	// ipam.DefaultBases and ipam.ULA.
	AddressPools []ipam.Base
	// DefaultOptions are --default-network-opt: options of new networks by driver,
	// where the wish has none of that key.
	DefaultOptions map[string]map[string]string
	// HostGateway are --host-gateway-ip: what host.docker.internal means, instead of
	// the network's own gateway.
	HostGateway []netip.Addr
	// NoForwarding is --ip-forward=false: forwarding is not turned on.
	NoForwarding bool
	// AcceptMark is --bridge-accept-fwmark: packets that carry it are let in to
	// containers; zero: none.
	AcceptMark dataplane.Mark
	// BridgeNFUsers says who besides us may need bridged packets to pass the hooks of
	// IP (bridge-nf-call-*); nil: the switches are left as they are.
	BridgeNFUsers func(ctx context.Context) ([]string, error)
	// RALinks are the host's links that learn from router advertisements; they go on
	// to do so when IPv6 forwarding is turned on. nil: none.
	RALinks func(ctx context.Context) ([]string, error)
	// ObserveTouched returns what there is where the news is (dataplane/linux); nil: the
	// whole host is looked at instead.
	ObserveTouched func(ctx context.Context, t dataplane.Touch, want []dataplane.Object) (*dataplane.State, error)
	// Expect is told the host's parameters that should be watched; nil: nobody does.
	Expect func([]dataplane.Sysctl)
	// CheckEvery is how often the whole host is compared with what is declared, since
	// news can be lost; zero: never.
	CheckEvery time.Duration
	// BindIP is what -p without an address means; zero: every address.
	BindIP netip.Addr
	Bridge DefaultBridge
	// Mesh is the mesh that this host is in; nil: none, or not yet (SetMesh).
	Mesh Mesh
	// UnderlayObjects plan what a host in a mesh needs whatever its networks; nil:
	// driver.UnderlayObjects.
	UnderlayObjects func(env driver.Env, peers []cnm.Peer) ([]dataplane.Object, error)
	// Allow is told what a network's routes lead to each peer, by its id, through the
	// encrypted tunnels, in place of what was said of the network; nil: nothing. It does
	// not wait. It may be nil itself.
	Allow func(network string, byHost map[string][]netip.Prefix)
	// NameGrace is how long names of a host that is dead, or cut off, are kept; 0: 60 s.
	NameGrace time.Duration
	// Predefined networks exist besides bridge, host and none.
	Predefined []cnm.Network
	Log        *slog.Logger
}

// DefaultBridge is what the daemon's flags say about the network "bridge". Zero
// fields are chosen by us.
type DefaultBridge struct {
	// None is --bridge=none: there is no default network, and containers that name
	// none have only loopback.
	None bool
	// Name is -b/--bridge: a bridge that is there already, made by a person; it is
	// used and never changed.
	Name string
	// BIP and BIP6 are the bridge's addresses with their subnets (--bip, --bip6).
	BIP, BIP6 netip.Prefix
	// Range and Range6 bound dynamic addresses (--fixed-cidr, --fixed-cidr-v6). A
	// Range6 without BIP6 is the subnet too.
	Range, Range6 netip.Prefix
	// Gateway and Gateway6 are the containers' default gateways when they are not
	// the bridge itself (--default-gateway, --default-gateway-v6).
	Gateway, Gateway6 netip.Addr
	// IPv6 is --ipv6.
	IPv6 bool
	// NoICC and NoMasquerade are --icc=false and --ip-masq=false.
	NoICC, NoMasquerade bool
	MTU                 int // bytes
}

// Controller implements Service. Methods are safe for concurrent use.
type Controller struct {
	cfg     Config // see Reconfigure for what may change
	env     atomic.Pointer[func() driver.Env]
	log     *slog.Logger
	chooser *publish.Chooser
	lost    *keeper.Holder // ports that someone else took; see Run

	// world is held shared while a fragment is committed and applied, and
	// exclusively by Reconcile, so that what is wanted and what is there are
	// compared while neither is half-made.
	world sync.RWMutex
	locks keyed // one change of a sandbox at a time, by its owner's id

	mending   mending     // see Repair
	host      hostSpace   // what the host uses
	spans     spans       // the mesh
	sixRouted bool        // a network that needs IPv6 forwarding was made; under mu
	noSix     atomic.Bool // the host has no IPv6: ports on every address are reserved on IPv4

	mu        sync.RWMutex
	networks  map[string]*cnm.Network      // by id
	names     map[string]string            // name → network id, of those that are being made or removed too
	devices   map[string]string            // host device → network id, likewise
	space     ipam.Space                   // the networks' subnets, likewise
	users     map[string]map[string]string // network id → sandbox id → its owner's name
	sandboxes map[string]*cnm.Sandbox      // by id
	member    map[string]string            // container id → sandbox id
	owners    map[string]string            // owner's container id → sandbox id
	linkers   map[string]map[string]bool   // container id → owners of sandboxes that link to it
	revs      map[string]int64             // store key → revision
	pools     map[string][]*ipam.Pool      // network id → its pools
	defined   map[string]*definition       // container id → what its definition holds
	refs      map[string]map[string]bool   // network reference → containers whose definitions name it
	shared    map[string]string            // host-wide sysctls we changed → prior value
	outside   map[string]bool              // global networks whose subnets this host uses otherwise, and so are not in space
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
		networks: map[string]*cnm.Network{}, names: map[string]string{}, devices: map[string]string{}, users: map[string]map[string]string{},
		sandboxes: map[string]*cnm.Sandbox{}, member: map[string]string{}, owners: map[string]string{}, linkers: map[string]map[string]bool{},
		outside: map[string]bool{}, revs: map[string]int64{}, pools: map[string][]*ipam.Pool{}, shared: map[string]string{},
		defined: map[string]*definition{}, refs: map[string]map[string]bool{}}
	c.env.Store(&cfg.Env)
	c.cfg.Env = c.hostEnv
	if c.cfg.UnderlayObjects == nil {
		c.cfg.UnderlayObjects = driver.UnderlayObjects
	}
	if err := c.loadFacts(ctx); err != nil {
		return nil, err
	}
	c.meet(ctx, cfg.Mesh)
	c.watchPorts()
	c.chooser = publish.NewChooser((*reserver)(c), publish.Options{Publisher: c.publisher})
	var all []*cnm.Network
	if err := load(ctx, c, networkKeys, func(n *cnm.Network) { all = append(all, n) }); err != nil {
		return nil, err
	}
	c.indexAll(all)
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
