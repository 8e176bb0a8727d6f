package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/ipam"
	"linkspan/store"
)

// The predefined networks.
const (
	BridgeNetwork = "bridge"
	HostNetwork   = "host"
	NoneNetwork   = "none"
)

// The default bridge's device, and the one taken when someone else has docker0.
const (
	bridgeDevice   = "docker0"
	fallbackDevice = "linkspan0"
)

// Start makes the predefined networks, then brings kernel and keeper to what is
// committed: what matches is kept as it is, so that no packet is lost.
func (c *Controller) Start(ctx context.Context) (*Report, error) {
	c.world.Lock()
	defer c.world.Unlock()
	for _, n := range append([]cnm.Network{{Name: HostNetwork, Driver: "host"}, {Name: NoneNetwork, Driver: "null"}}, c.cfg.Predefined...) {
		if _, err := c.Network(n.Name); err == nil {
			continue
		}
		if err := c.add(ctx, &n); err != nil {
			return nil, err
		}
	}
	if err := c.defaultBridge(ctx); err != nil {
		return nil, err
	}
	return c.reconcile(ctx, false)
}

// add commits a predefined network.
func (c *Controller) add(ctx context.Context, n *cnm.Network) error {
	n.ID, n.Created, n.Predefined, n.IPAMDriver = randomID(), time.Now(), true, "default"
	return c.putNetwork(ctx, n)
}

// putNetwork commits a predefined network and opens its pools.
func (c *Controller) putNetwork(ctx context.Context, n *cnm.Network) error {
	d, err := c.cfg.Drivers.Get(n.Driver)
	if err != nil {
		return err
	}
	if err := d.Check(n); err != nil {
		return err
	}
	if err := c.store(ctx, n); err != nil {
		return err
	}
	c.mu.Lock()
	if old := c.networks[n.ID]; old != nil {
		c.vacate(old)
	}
	c.networks[n.ID], c.names[n.Name] = n, n.ID
	c.occupy(n)
	c.mu.Unlock()
	return c.openPools(n)
}

// defaultBridge makes the network "bridge", or brings it to the daemon's flags
// while no container is on it.
func (c *Controller) defaultBridge(ctx context.Context) error {
	old, err := c.Network(BridgeNetwork)
	if err != nil && !errors.Is(err, cnm.ErrNotFound) {
		return err
	}
	n := &cnm.Network{Name: BridgeNetwork, Driver: "bridge"}
	device := ""
	if old != nil {
		copy := *old
		n, device = &copy, old.Options["com.docker.network.bridge.name"]
	}
	pool, err := c.bridgePool(ctx, old)
	if err != nil {
		return err
	}
	if device == "" {
		if device, err = c.bridgeName(ctx); err != nil {
			return err
		}
	}
	mtu := c.cfg.Bridge.MTU
	if mtu == 0 {
		mtu = 1500
	}
	n.Pools = []cnm.Pool{pool}
	n.Options = map[string]string{
		"com.docker.network.bridge.default_bridge":       "true",
		"com.docker.network.bridge.enable_icc":           "true",
		"com.docker.network.bridge.enable_ip_masquerade": "true",
		"com.docker.network.bridge.host_binding_ipv4":    c.bindText(),
		"com.docker.network.bridge.name":                 device,
		"com.docker.network.driver.mtu":                  strconv.Itoa(mtu),
	}
	if old == nil {
		return c.add(ctx, n)
	}
	if same(old, n) {
		return nil
	}
	if users := c.usersOf(old.ID); users > 0 {
		c.log.Warn("the default bridge keeps its old settings until its containers are gone", "containers", users,
			"has", old.Pools[0].Subnet, "wanted", pool.Subnet)
		return nil
	}
	return c.putNetwork(ctx, n)
}

func (c *Controller) usersOf(networkID string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.users[networkID])
}

func (c *Controller) bindText() string {
	if c.cfg.BindIP.IsValid() {
		return c.cfg.BindIP.String()
	}
	return "0.0.0.0"
}

// bridgePool is --bip's subnet, the one there was, or the first free pool.
func (c *Controller) bridgePool(ctx context.Context, old *cnm.Network) (cnm.Pool, error) {
	want := c.cfg.Bridge
	var p cnm.Pool
	switch {
	case want.BIP.IsValid():
		p = cnm.Pool{Subnet: want.BIP.Masked(), Gateway: want.BIP.Addr()}
	case old != nil:
		p = cnm.Pool{Subnet: old.Pools[0].Subnet, Gateway: old.Pools[0].Gateway}
	default:
		host, err := c.hostUses(ctx)
		if err != nil {
			return p, err
		}
		sub, err := ipam.Choose(c.bases(true), true, &c.space, host)
		if err != nil {
			return p, fmt.Errorf("default bridge: %w; give it a subnet with --bip", err)
		}
		p = cnm.Pool{Subnet: sub, Gateway: ipam.FirstHost(sub)}
	}
	p.Range = want.Range
	if want.Gateway.IsValid() && want.Gateway != p.Gateway {
		p.Aux = map[string]netip.Addr{cnm.DefaultGatewayAux: want.Gateway}
	}
	if err := ipam.Validate(p); err != nil {
		return p, fmt.Errorf("default bridge: %w", err)
	}
	return p, nil
}

// bridgeName is docker0, unless someone else has it.
func (c *Controller) bridgeName(ctx context.Context) (string, error) {
	have, err := c.cfg.Kernel.ObserveKeys(ctx, []dataplane.Object{dataplane.Bridge{Name: bridgeDevice}})
	if err != nil {
		return "", err
	}
	for _, o := range have.All() {
		if f, ok := o.(dataplane.Foreign); ok {
			c.log.Warn("the device docker0 exists and is not ours: the default bridge is "+fallbackDevice, "docker0", f.What)
			return fallbackDevice, nil
		}
	}
	return bridgeDevice, nil
}

// noteForwarding records ip_forward's value before we first turn it on: where it
// was off, the page keeps the host from routing between interfaces that are not
// ours, and uninstall gives it back.
func (c *Controller) noteForwarding(ctx context.Context) error {
	name := forwarding().Name
	if _, known := c.shared[name]; known {
		return nil
	}
	have, err := c.cfg.Kernel.ObserveKeys(ctx, []dataplane.Object{forwarding()})
	if err != nil {
		return err
	}
	if o, ok := have.Get(forwarding().Key()); ok && o.(dataplane.Sysctl).Value == "0" {
		return c.NoteShared(ctx, name, "0")
	}
	return nil
}

// NoteShared commits the prior value of a host-wide sysctl that is about to be
// changed; the first value noted stays.
func (c *Controller) NoteShared(ctx context.Context, name, prior string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.shared[name]; known {
		return nil
	}
	if _, err := c.cfg.Store.Commit(ctx, store.Op{Key: sharedKeys + name, Value: []byte(prior)}); err != nil {
		return err
	}
	c.shared[name] = prior
	return nil
}
