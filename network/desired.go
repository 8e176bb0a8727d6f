package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// hostObjects are what exists as long as Linkspan is installed on the host.
func (c *Controller) hostObjects(ctx context.Context) ([]dataplane.Object, error) {
	forward, err := c.hostForwarding(ctx)
	if err != nil {
		return nil, err
	}
	filter, err := c.bridgeFilter(ctx)
	return slices.Concat([]dataplane.Object{dataplane.BasePage(c.cfg.Table, c.cfg.AcceptMark)}, forward, filter, c.givenBack()), err
}

// sandboxObjects are a sandbox's namespace and what its endpoints' drivers plan:
// the fragment that a container's start applies.
func (c *Controller) sandboxObjects(env driver.Env, s *cnm.Sandbox) ([]dataplane.Object, error) {
	if s.Host {
		return nil, nil
	}
	meta := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerSandbox, ID: s.ID, Name: s.OwnerName}, Reason: "the network stack of " + s.OwnerName}
	objs := []dataplane.Object{dataplane.Namespace{Meta: meta, Path: s.Path}}
	meta.Reason = "asked for with --sysctl, or Docker's default"
	for k, v := range s.Sysctls {
		objs = append(objs, dataplane.Sysctl{Meta: meta, NS: s.Path, Name: sysctlPath(k), Value: v})
	}
	if s.Answers {
		meta.Reason = "names are asked of 127.0.0.11, where the resolver answers"
		objs = append(objs, dataplane.Redirect{Meta: meta, NS: s.Path})
	}
	four, six := c.serving(s)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		n, err := c.Network(e.NetworkID)
		if err != nil {
			return nil, err
		}
		d, err := c.cfg.Drivers.Get(n.Driver)
		if err != nil {
			return nil, err
		}
		more, err := d.Endpoint(env, n, s, e, portsOf(s, i, four, six))
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", s.OwnerName, err)
		}
		objs = append(objs, more...)
	}
	dataplane.Sort(objs)
	return objs, nil
}

// sysctlPath turns sysctl(8)'s dots into the path below /proc/sys. As there,
// the first separator decides: with a slash first, dots belong to names.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// desired is everything that should exist on this host.
func (c *Controller) desired(ctx context.Context) (*dataplane.State, []string, error) {
	objs, pins, err := c.plans(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return dataplane.NewState(objs...), pins, nil
}

// plans are desired as the plans come, with those that are ready: of two objects of one
// key the later counts.
func (c *Controller) plans(ctx context.Context, ready prepared) (objs []dataplane.Object, pins []string, err error) {
	if objs, err = c.hostObjects(ctx); err != nil {
		return nil, nil, err
	}
	env := planned(c.cfg.Env(), objs)
	add := func(more []dataplane.Object, err error) error {
		objs = append(objs, more...)
		return err
	}
	if err := add(c.underlayObjects(env, c.knownPeers())); err != nil {
		return nil, nil, err
	}
	for _, n := range c.Networks() {
		if err := add(c.networkObjects(env, n, ready)); err != nil {
			return nil, nil, err
		}
	}
	for _, s := range c.Sandboxes() {
		if err := add(c.sandboxObjects(env, s)); err != nil {
			return nil, nil, err
		}
		if !s.Host {
			pins = append(pins, s.Path)
		}
	}
	slices.Sort(pins)
	return objs, pins, nil
}

// plannedEnv is what plans are made with.
func (c *Controller) plannedEnv(ctx context.Context) (driver.Env, error) {
	host, err := c.hostObjects(ctx)
	return planned(c.cfg.Env(), host), err
}
