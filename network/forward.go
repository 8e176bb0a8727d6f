package network

import (
	"context"
	"errors"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// The host-wide switches that containers cannot do without.
const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

func forwarding(name string) dataplane.Sysctl {
	return dataplane.Sysctl{Meta: dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost}, Reason: "packets pass between containers and the outside"},
		Name: name, Value: "1", Shared: true}
}

// routes6 says whether a network needs IPv6 forwarding on the host.
func routes6(n *cnm.Network) bool { return n.IPv6 && !n.Internal && !n.ConfigOnly && n.Pool6() != nil }

// hostForwarding are the switches and what they need, as the networks are now. A
// host that did not forward before still does not between interfaces that are not
// ours; links that learn from router advertisements go on to do so, which a
// forwarding kernel does with accept_ra=2 only (kernel: ip-sysctl.rst).
func (c *Controller) hostForwarding(ctx context.Context) ([]dataplane.Object, error) {
	because := func(s string) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost}, Reason: s}
	}
	c.mu.RLock()
	needs6 := c.sixRouted
	for _, n := range c.networks {
		needs6 = needs6 || routes6(n)
	}
	off4, off6 := c.shared[forward4] == "0", c.shared[forward6] == "0"
	c.mu.RUnlock()
	var objs []dataplane.Object
	if off4 {
		objs = append(objs, dataplane.GuardForwarding(because("the host did not forward before Linkspan: between interfaces that are not ours it still does not"), c.cfg.Table, true))
	}
	if off6 {
		objs = append(objs, dataplane.GuardForwarding(because("the host did not forward IPv6 before Linkspan: between interfaces that are not ours it still does not"), c.cfg.Table, false))
	}
	if len(objs) > 0 {
		switched, err := c.switched(ctx)
		if err != nil {
			return nil, err
		}
		objs = append(objs, switched...)
	}
	if c.cfg.NoForwarding {
		return objs, nil
	}
	objs = append(objs, forwarding(forward4))
	if !needs6 {
		return objs, nil
	}
	if c.cfg.RALinks != nil {
		links, err := c.cfg.RALinks(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			objs = append(objs, dataplane.Sysctl{Meta: because("the host forwards IPv6, and goes on to learn from router advertisements"),
				Name: "net/ipv6/conf/" + l + "/accept_ra", Value: "2", Shared: true})
		}
	}
	return append(objs, forwarding(forward6)), nil
}

// switched are the bridges of others, whose own traffic bridge-nf shows to the
// guard as if it were forwarded.
func (c *Controller) switched(ctx context.Context) (objs []dataplane.Object, err error) {
	if c.cfg.BridgeNFUsers == nil {
		return nil, nil
	}
	users, err := c.cfg.BridgeNFUsers(ctx)
	for _, u := range users {
		if name, ok := strings.CutPrefix(u, "bridge "); ok {
			objs = append(objs, dataplane.SwitchedElement(dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost},
				Reason: "what " + name + " switches between its own ports is not ours to guard"}, c.cfg.Table, name))
		}
	}
	return objs, err
}

// forwards turns IPv6 forwarding on when the first network that needs it is made.
func (c *Controller) forwards(ctx context.Context, n *cnm.Network) error {
	c.mu.Lock()
	first := routes6(n) && !c.sixRouted && !c.cfg.NoForwarding
	c.sixRouted = c.sixRouted || routes6(n)
	c.mu.Unlock()
	if !first {
		return nil
	}
	err := c.noteForwarding(ctx)
	var objs []dataplane.Object
	if err == nil {
		objs, err = c.hostForwarding(ctx)
	}
	if err == nil {
		err = c.cfg.Kernel.Apply(ctx, diff.Create(objs))
	}
	if err != nil {
		c.mu.Lock()
		c.sixRouted = false
		c.mu.Unlock()
	}
	return err
}

// noteForwarding records the switches' values before we first turn them on: where
// they were off, the page keeps the host from routing between interfaces that are
// not ours, and uninstall gives them back.
func (c *Controller) noteForwarding(ctx context.Context) error {
	c.mu.RLock()
	names := []string{forward4}
	six := c.sixRouted
	for _, n := range c.networks {
		six = six || routes6(n)
	}
	if six {
		names = append(names, forward6)
	}
	var ask []dataplane.Object
	for _, name := range names {
		if _, known := c.shared[name]; !known {
			ask = append(ask, forwarding(name))
		}
	}
	c.mu.RUnlock()
	if len(ask) == 0 {
		return nil
	}
	have, err := c.cfg.Kernel.ObserveKeys(ctx, ask)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range ask {
		now, ok := have.Get(o.Key())
		switch {
		case !ok || now.(dataplane.Sysctl).Value != "0":
		case c.cfg.NoForwarding:
			c.log.Warn("forwarding is off and --ip-forward=false leaves it so: containers reach neither each other across networks nor the outside, and published ports answer on this host alone",
				"sysctl", o.(dataplane.Sysctl).Name)
		default:
			errs = append(errs, c.NoteShared(ctx, o.(dataplane.Sysctl).Name, "0"))
		}
	}
	return errors.Join(errs...)
}
