package network

import (
	"context"
	"encoding/json"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// factsKey is this host's place in the mesh as it was last.
const factsKey = "mesh-place"

// settling is how long after a start facts are taken as they were before, that others
// have to find out again: whether the encrypted tunnels are up, what fits through the
// wire. Without, each restart of the daemon would take tunnels down for a moment.
const settling = 15 * time.Second

// loadFacts remembers this host's place. Only New calls it.
func (c *Controller) loadFacts(ctx context.Context) error {
	e, ok, err := c.cfg.Store.Get(ctx, factsKey)
	if err != nil || !ok {
		return err
	}
	was := &cnm.Underlay{}
	if json.Unmarshal(e.Value, was) == nil {
		c.spans.before, c.spans.until = was, time.Now().Add(settling)
	}
	return nil
}

// saveFacts writes this host's place; nil: it is in no mesh.
func (c *Controller) saveFacts(ctx context.Context, u *cnm.Underlay) {
	op := store.Op{Key: factsKey}
	if u != nil {
		op.Value, _ = json.Marshal(u)
	}
	if _, err := c.cfg.Store.Commit(ctx, op); err != nil {
		c.log.Warn("this host's place in the mesh is not written down", "err", err)
	}
}

// place is what the mesh says of this host's place, completed of what was before the
// daemon's start while that is not found out again. completed says that it was.
func (c *Controller) place(ctx context.Context, m Mesh) (u *cnm.Underlay, completed bool) {
	if m == nil {
		return nil, false
	}
	u = m.Underlay()
	was := c.spans.before
	if u == nil || was == nil || time.Now().After(c.spans.until) || was.Host != u.Host || was.Addr != u.Addr {
		return u, false
	}
	now := *u
	if now.PathMTU == 0 {
		now.PathMTU = was.PathMTU
	}
	now.SoftChecksums = now.SoftChecksums || was.SoftChecksums
	if now.Secure == "" && was.Secure != "" && c.linkThere(ctx, was.Secure) {
		now.Secure, now.SecureAddr, now.SecureMTU, now.SecureUserSpace = was.Secure, was.SecureAddr, was.SecureMTU, was.SecureUserSpace
	}
	return &now, now != *u
}

// placeAgain takes over what was found out, or was not, once facts of before count no
// more.
func (c *Controller) placeAgain(ctx context.Context) {
	time.AfterFunc(time.Until(c.spans.until)+time.Millisecond, func() { c.repeer(context.WithoutCancel(ctx)) })
}

func (c *Controller) linkThere(ctx context.Context, name string) bool {
	if c.cfg.HostLink == nil {
		return false
	}
	l, err := c.cfg.HostLink(ctx, name)
	return err == nil && l.Exists
}
