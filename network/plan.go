package network

import (
	"context"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/publish"
)

// Check implements Service.
func (c *Controller) Check(_ context.Context, r Request) (warnings []string, err error) {
	for _, w := range r.Endpoints {
		n, err := c.Network(w.Network)
		if err != nil {
			return nil, err
		}
		d, err := c.cfg.Drivers.Get(n.Driver)
		if err != nil {
			return nil, err
		}
		if n.Predefined && (w.IPv4.IsValid() || w.IPv6.IsValid()) {
			return nil, cnm.Invalid("invalid endpoint settings: user specified IP address is supported on user defined networks only: network %s is not; leave --ip away", n.Name)
		}
		if n.Predefined && len(w.Aliases) > 0 {
			return nil, cnm.Invalid("invalid endpoint settings: network-scoped alias is supported only for containers in user defined networks: network %s is not; leave --network-alias away", n.Name)
		}
		t := d.Traits()
		if len(r.Endpoints) > 1 && t.IfPrefix == "" {
			return nil, cnm.Invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes: a container on network %s cannot be connected to any other network", n.Name)
		}
		if w.MAC != "" {
			if t.HostSandbox {
				return nil, cnm.Invalid("conflicting options: mac-address and the network mode: network %s has the host's own interfaces", n.Name)
			}
			if err := cnm.CheckMAC(w.MAC); err != nil {
				return nil, err
			}
		}
		if t.IfPrefix == "" && len(w.DriverOpts)+len(w.LinkLocal) > 0 {
			return nil, cnm.Invalid("network %s makes no interface for its containers: driver options and link-local addresses have no meaning there; leave them away", n.Name)
		}
		if t.HostSandbox && len(r.Publish) > 0 {
			warnings = append(warnings, "Published ports are discarded when using host network mode")
		}
	}
	if err := publish.Check(r.Publish); err != nil {
		return nil, err
	}
	return warnings, c.checkPlan(r)
}

// checkPlan sees whether drivers can plan what is wished: options, names of
// interfaces, addresses. What only time can tell (a full pool) is told at the start.
func (c *Controller) checkPlan(r Request) error {
	if r.Target != "" {
		return nil
	}
	s, err := c.compose(r, nil, dry{c, r.Lineage, true})
	if err != nil {
		return err
	}
	_, err = c.sandboxObjects(driver.Env{Table: c.cfg.Table}, s)
	return err
}

// Plan implements Service.
func (c *Controller) Plan(ctx context.Context, r Request) ([]dataplane.Object, error) {
	if _, err := c.Check(ctx, r); err != nil {
		return nil, err
	}
	if r.Target != "" {
		if _, ok := c.Sandbox(r.Target); !ok {
			return nil, cnm.Conflict("cannot join network of a non running container: %s; start it first", r.Target)
		}
		return nil, nil
	}
	c.world.RLock()
	defer c.world.RUnlock()
	s, err := c.compose(r, nil, dry{c, r.Lineage, false})
	if err != nil {
		return nil, err
	}
	if c.publishes(s) && len(r.Publish) > 0 {
		var held []cnm.PublishedPort
		for _, other := range c.Sandboxes() {
			if reqs, _ := portRequests(other.ID, c.targets(other), other.Ports, true); len(reqs) > 0 {
				held = append(held, other.Ports...)
			}
		}
		dry := publish.NewChooser(dryReserver{c, s, publish.Dry{Held: held}}, publish.Options{Publisher: c.publisher})
		if s.Ports, err = dry.Choose(ctx, s.ID, c.bound(s, r.Publish)); err != nil {
			return nil, err
		}
	}
	env := c.cfg.Env()
	objs, err := c.sandboxObjects(env, s)
	if err != nil {
		return nil, err
	}
	coming, err := c.coming(env, s)
	return append(coming, objs...), err
}
