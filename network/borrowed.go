package network

import (
	"strings"

	"linkspan/dataplane"
)

// givenBack are the parameters of borrowed bridges that no network borrows any more,
// as they were before us. With route_localnet on and our guard of 127.0.0.0/8 gone,
// the wire behind such a bridge would reach the host's loopback services: so they
// are set back before the guard goes, and looked after at every reconciliation.
func (c *Controller) givenBack() []dataplane.Object {
	c.mu.RLock()
	defer c.mu.RUnlock()
	borrowed := map[string]bool{}
	for _, n := range c.networks {
		if n.Borrowed {
			borrowed[n.Options[optBridgeName]] = true
		}
	}
	var objs []dataplane.Object
	for name, prior := range c.shared {
		link, local := strings.CutSuffix(name, "/route_localnet")
		link, conf := strings.CutPrefix(link, "net/ipv4/conf/")
		if local && conf && !borrowed[link] {
			objs = append(objs, dataplane.Sysctl{Meta: dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost},
				Reason: "no network is on " + link + " any more: its parameter is what it was"},
				Name: name, Value: prior, Shared: true, Optional: true})
		}
	}
	return objs
}

// returning are the ops that set them back.
func (c *Controller) returning() (ops []dataplane.Op) {
	for _, o := range c.givenBack() {
		ops = append(ops, dataplane.Op{Verb: dataplane.Change, Object: o})
	}
	return ops
}
