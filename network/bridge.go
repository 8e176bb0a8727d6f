package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/ipam"
)

// The default bridge's device, and the one taken when someone else has docker0.
const (
	bridgeDevice   = "docker0"
	fallbackDevice = "linkspan0"
)

const optBridgeName = "com.docker.network.bridge.name"

// defaultBridge makes the network "bridge", or brings it to the daemon's flags, as far
// as the containers on it let it. A router's address that a container has is refused
// at a reload; at a start, which must not fail for it, the old one stays.
func (c *Controller) defaultBridge(ctx context.Context, starts bool) error {
	old, err := c.Network(BridgeNetwork)
	if err != nil && !errors.Is(err, cnm.ErrNotFound) {
		return err
	}
	if c.cfg.Bridge.None {
		return c.noBridge(ctx, old)
	}
	n := &cnm.Network{Name: BridgeNetwork, Driver: "bridge"}
	if old != nil {
		copy := *old
		n = &copy
		n.Borrowed = false
	}
	link, device, err := c.bridgeLink(ctx, old)
	if err != nil {
		return err
	}
	n.Borrowed = link != nil
	if err := c.bridgePools(ctx, n, old, link, device); err != nil {
		return err
	}
	want := c.cfg.Bridge
	mtu := want.MTU
	if mtu == 0 {
		mtu = 1500
	}
	n.Options = map[string]string{
		"com.docker.network.bridge.default_bridge":       "true",
		"com.docker.network.bridge.enable_icc":           strconv.FormatBool(!want.NoICC),
		"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(!want.NoMasquerade),
		optHostBinding: c.bindText(),
		optBridgeName:  device,
		optMTU:         strconv.Itoa(mtu),
	}
	if old == nil {
		return c.add(ctx, n)
	}
	users, err := c.alive(ctx, old)
	if err != nil {
		return err
	}
	var kept []string
	if len(users) > 0 {
		kept = under(old, n)
	}
	if err := c.routerFree(n); err != nil {
		if !starts {
			return err
		}
		stay(old, n)
		kept = append(kept, err.Error())
	}
	if !same(old, n) {
		err = c.putNetwork(ctx, n)
	}
	if err == nil && len(kept) > 0 {
		c.log.Warn("the default bridge keeps its old settings until its containers are gone: what was wanted takes effect when the daemon is then reloaded (SIGHUP) or started again",
			"containers", strings.Join(users, ", "), "kept", strings.Join(kept, "; "))
	}
	return err
}

// noBridge is --bridge=none: the default network goes, once no container is on it.
func (c *Controller) noBridge(ctx context.Context, old *cnm.Network) error {
	if old == nil {
		return nil
	}
	if users, err := c.alive(ctx, old); err != nil || len(users) > 0 {
		c.log.Warn("the default bridge stays until its containers are gone", "containers", strings.Join(users, ", "), "wanted", "none")
		return err
	}
	if err := c.unstore(ctx, old); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vacate(old)
	delete(c.networks, old.ID)
	c.unname(old)
	delete(c.pools, old.ID)
	return nil
}

// alive names the containers on a network whose namespaces are there: after a boot
// they are not, and what is stored of them binds nothing.
func (c *Controller) alive(ctx context.Context, n *cnm.Network) (names []string, err error) {
	on := c.on(n.ID)
	var ask []dataplane.Object
	for _, s := range on {
		ask = append(ask, dataplane.Namespace{Path: s.Path})
	}
	if len(ask) == 0 {
		return nil, nil
	}
	have, err := c.cfg.Kernel.ObserveKeys(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i, s := range on {
		if _, there := have.Get(ask[i].Key()); there {
			names = append(names, s.OwnerName)
		}
	}
	slices.Sort(names)
	return names, nil
}

// bridgeLink finds the default bridge's device: link is set when it is a person's.
func (c *Controller) bridgeLink(ctx context.Context, old *cnm.Network) (link *dataplane.HostLink, device string, err error) {
	name := c.cfg.Bridge.Name
	if name == "" || c.cfg.HostLink == nil {
		if old != nil && !old.Borrowed && old.Options[optBridgeName] != "" {
			return nil, old.Options[optBridgeName], nil
		}
		device, err = c.bridgeName(ctx)
		return nil, device, err
	}
	c.mu.RLock()
	id, taken := c.devices[name]
	other := c.nameOf(id)
	c.mu.RUnlock()
	if taken && (old == nil || id != old.ID) {
		return nil, "", cnm.Conflict("--bridge %s: network %s is on that device; choose another bridge, or remove that network", name, other)
	}
	l, err := c.cfg.HostLink(ctx, name)
	switch {
	case err != nil:
		return nil, "", err
	case l.Ours, !l.Exists && name == bridgeDevice: // our own name for it, said aloud
		return nil, name, nil
	case !l.Exists:
		return nil, "", cnm.NotFound("bridge %s (--bridge) does not exist; make it first: ip link add %[1]s type bridge, ip addr add 10.211.55.1/24 dev %[1]s, ip link set %[1]s up; "+
			"or leave --bridge away to have one made", name)
	case !l.Bridge:
		return nil, "", cnm.Invalid("--bridge %s: it is no bridge (%s); make one with `ip link add NAME type bridge`", name, l.What)
	}
	return &l, name, nil
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

// bridgePools are the default bridge's, by the flags.
func (c *Controller) bridgePools(ctx context.Context, n, old *cnm.Network, link *dataplane.HostLink, device string) error {
	want := c.cfg.Bridge
	n.Pools, n.IPv6 = nil, want.IPv6
	if !want.IPv6 && (want.BIP6.IsValid() || want.Range6.IsValid() || want.Gateway6.IsValid()) {
		c.log.Warn("--bip6, --fixed-cidr-v6 and --default-gateway-v6 do nothing without --ipv6")
	}
	families := []bool{true, false}
	if !want.IPv6 {
		families = families[:1]
	}
	for _, v4 := range families {
		p, err := c.bridgePool(ctx, old, link, device, v4)
		if err != nil {
			return err
		}
		if err := ipam.Validate(p); err != nil {
			return err
		}
		n.Pools = append(n.Pools, p)
	}
	return nil
}

// bridgePool is the pool of one family: the flags', the device's, the one there
// was, or the first free one.
func (c *Controller) bridgePool(ctx context.Context, old *cnm.Network, link *dataplane.HostLink, device string, v4 bool) (p cnm.Pool, err error) {
	want := c.cfg.Bridge
	bip, within, router, key, flag := want.BIP6, want.Range6, want.Gateway6, cnm.DefaultGatewayAux6, "--bip6"
	var before *cnm.Pool
	if old != nil {
		before = old.Pool6()
	}
	if v4 {
		bip, within, router, key, flag = want.BIP, want.Range, want.Gateway, cnm.DefaultGatewayAux, "--bip"
		if old != nil {
			before = old.Pool4()
		}
	}
	switch {
	case link != nil:
		if p, err = borrowedPool(link, device, bip, within, v4, flag); err != nil {
			return p, err
		}
	case bip.IsValid():
		p = cnm.Pool{Subnet: bip.Masked(), Gateway: bip.Addr()}
	case !v4 && within.IsValid(): // as in Docker, it is the subnet
		p, within = cnm.Pool{Subnet: within.Masked(), Gateway: ipam.FirstHost(within)}, netip.Prefix{}
	case before != nil && !old.Borrowed:
		p = cnm.Pool{Subnet: before.Subnet, Gateway: before.Gateway}
	default:
		host, err := c.hostUses(ctx)
		if err != nil {
			return p, err
		}
		sub, err := c.firstFree(v4, host)
		if err != nil {
			return p, fmt.Errorf("%w; or say %s", err, flag)
		}
		p = cnm.Pool{Subnet: sub, Gateway: ipam.FirstHost(sub)}
	}
	p.Range = within
	if router.IsValid() && !p.Subnet.Contains(router) {
		return p, cnm.Invalid("%s %s is not inside the default bridge's subnet %s; choose one of its addresses", routerFlags[key], router, p.Subnet)
	}
	if router.IsValid() && router != p.Gateway {
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[key] = router
	}
	if before == nil || before.Subnet != p.Subnet {
		err = c.roomFor(ctx, old, p, link != nil, flag)
	}
	return p, err
}

func (c *Controller) firstFree(v4 bool, host *ipam.Space) (netip.Prefix, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return ipam.Choose(c.bases(v4), v4, &c.space, host)
}

// roomFor refuses a new subnet of the default bridge that something else uses. The
// one it has stays, whatever came up meanwhile: a VPN does not keep the daemon from
// starting.
func (c *Controller) roomFor(ctx context.Context, old *cnm.Network, p cnm.Pool, borrowed bool, flag string) error {
	host, err := c.hostUses(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old != nil {
		c.vacate(old)
		defer c.occupy(old)
	}
	with, who, overlaps := c.space.Overlap(p.Subnet)
	if !overlaps && !borrowed {
		with, who, overlaps = host.Overlap(p.Subnet)
		who = "the host (" + who + ")"
	}
	if overlaps {
		return cnm.Conflict("Pool overlaps with other one on this address space: subnet %s overlaps %s of %s; choose another with %s", p.Subnet, with, who, flag)
	}
	return nil
}

// borrowedPool is the pool of a bridge that a person made: its own address, which
// --bip may pick.
func borrowedPool(link *dataplane.HostLink, device string, bip, within netip.Prefix, v4 bool, flag string) (p cnm.Pool, err error) {
	has := slices.DeleteFunc(slices.Clone(link.Addrs), func(a netip.Prefix) bool { return a.Addr().Is4() != v4 })
	if len(has) == 0 {
		family := "IPv6"
		if v4 {
			family = "IPv4"
		}
		return p, cnm.Invalid("bridge %s has no %s address, so there is no telling which addresses its containers may have; give it one: ip addr add 10.211.55.1/24 dev %[1]s", device, family)
	}
	own := has[0]
	switch {
	case bip.IsValid():
		if !slices.Contains(has, bip) {
			return p, cnm.Invalid("%s %s is not an address of bridge %s, which has %v and is not ours to change; leave %s away, or give one of these", flag, bip, device, has, flag)
		}
		own = bip
	case within.IsValid():
		for _, a := range has {
			if a.Masked().Contains(within.Addr()) {
				own = a
				break
			}
		}
	}
	return cnm.Pool{Subnet: own.Masked(), Gateway: own.Addr()}, nil
}

func (c *Controller) bindText() string {
	if c.cfg.BindIP.IsValid() {
		return c.cfg.BindIP.String()
	}
	return "0.0.0.0"
}
