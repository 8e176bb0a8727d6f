package network

import (
	"context"
	"strings"

	"linkspan/dataplane"
	"linkspan/driver"
)

// The switches that have bridged packets pass the netfilter hooks of IP. They are on
// in every new namespace, for others than us: a bridge of ours that needs them
// (icc=false) has a flag of its own. Off, two containers of one network exchange a
// third more.
var bridgeNF = []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"}

// bridgeFilter are the switches as they should be: off while nobody else may need
// them, and as they were before us when somebody may.
func (c *Controller) bridgeFilter(ctx context.Context) ([]dataplane.Object, error) {
	if c.cfg.BridgeNFUsers == nil {
		return nil, nil
	}
	users, err := c.cfg.BridgeNFUsers(ctx)
	if err != nil {
		return nil, err
	}
	var objs []dataplane.Object
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, name := range bridgeNF {
		o := dataplane.Sysctl{Meta: dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost},
			Reason: "nobody on this host needs bridged packets to pass the firewall's hooks, and without containers exchange a third more"},
			Name: name, Value: "0", Shared: true, Optional: true}
		if len(users) > 0 {
			prior, changed := c.shared[name]
			if !changed {
				continue // never ours
			}
			o.Value, o.Reason = prior, "as it was before Linkspan, since "+strings.Join(users, " and ")+" may need it"
		}
		objs = append(objs, o)
	}
	return objs, nil
}

// planned is the host as it will be when what is wanted of it is real: plans must
// not wait for the next reconciliation to fit.
func planned(env driver.Env, host []dataplane.Object) driver.Env {
	for _, o := range host {
		if s, ok := o.(dataplane.Sysctl); ok && s.Name == bridgeNF[0] {
			env.BridgeNF = env.BridgeNF && s.Value != "0" || s.Value == "1"
		}
	}
	return env
}

// BridgesChanged has the switches looked at again, since a bridge that is not ours
// came or went; nothing is done while they are as they should be.
func (c *Controller) BridgesChanged(ctx context.Context) error {
	want, err := c.bridgeFilter(ctx)
	if err != nil {
		return err
	}
	c.world.RLock()
	forward, err := c.hostForwarding(ctx)
	c.world.RUnlock()
	if err != nil {
		return err
	}
	for _, o := range forward {
		if e, ok := o.(dataplane.Element); ok {
			want = append(want, e) // a new bridge that the guard must spare
		}
	}
	if len(want) == 0 {
		return nil
	}
	have, err := c.cfg.Kernel.ObserveKeys(ctx, want)
	if err != nil {
		return err
	}
	for _, o := range want {
		_, element := o.(dataplane.Element)
		if h, ok := have.Get(o.Key()); ok && h.Spec() != o.Spec() || !ok && element {
			_, err := c.Reconcile(ctx, false) // hairpin ports follow
			return err
		}
	}
	return nil
}
