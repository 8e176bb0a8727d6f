package network

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/events"
)

// toldSingly is up to how many objects of one repair are told one by one.
const toldSingly = 6

// toldOwners bounds what one repair says: after a flush of everything, a host with 500
// containers has 1,000 owners. The rest is told as a number.
const toldOwners = 32

// was is what an object was before its repair, in a person's words.
func was(op dataplane.Op, have *dataplane.State) string {
	h, there := have.Get(op.Object.Key())
	switch {
	case !there || op.Verb == dataplane.Create:
		return "gone"
	case op.Verb == dataplane.Delete:
		return "there, and declared by nobody"
	case h.Spec() == "":
		return "different"
	}
	return h.Spec()
}

// is what it is now.
func (m *mended) is() string {
	switch {
	case m.err != nil:
		return "not put right: " + m.err.Error()
	case m.op.Verb == dataplane.Delete:
		return "gone"
	case m.op.Object.Spec() == "":
		return "there"
	}
	return m.op.Object.Spec()
}

// tellMended says what was repaired, each time with a line in the log and an event: of
// each object; or, where they are many, for each owner of the first of its objects and
// how many more.
func (c *Controller) tellMended(all []mended, by string, took time.Duration) {
	all = slices.DeleteFunc(all, func(m mended) bool { return m.skipped })
	if len(all) <= toldSingly {
		for i := range all {
			c.tellOwner(all[i].op.Object.About().Owner, []*mended{&all[i]}, by, took)
		}
		return
	}
	byOwner := map[dataplane.Owner][]*mended{}
	var order []dataplane.Owner
	for i := range all {
		m := &all[i]
		owner := m.op.Object.About().Owner
		if len(byOwner[owner]) == 0 {
			order = append(order, owner)
		}
		byOwner[owner] = append(byOwner[owner], m)
	}
	for i, owner := range order {
		if i == toldOwners {
			rest := 0
			for _, o := range order[i:] {
				rest += len(byOwner[o])
			}
			c.log.Info("put right", "more owners", len(order)-i, "objects", rest, "by", by)
			break
		}
		c.tellOwner(owner, byOwner[owner], by, took)
	}
}

// tellOwner tells of one owner's objects.
func (c *Controller) tellOwner(owner dataplane.Owner, of []*mended, by string, took time.Duration) {
	first, fights := of[0], 0
	for _, m := range of {
		if m.err != nil && first.err == nil || m.delay > first.delay {
			first = m
		}
		if m.delay > 0 {
			fights++
		}
	}
	if owner.Kind == "" {
		owner.Kind = dataplane.OwnerHost // nobody declares it: an orphan, or a stranger's
	}
	o := first.op.Object
	reason := o.About().Reason
	if reason == "" {
		reason = "it carries Linkspan's mark, and nothing that is declared needs it"
	}
	line := []any{"object", o.Key(), "was", first.was, "is", first.is(), "owner", owner.String(), "reason", reason}
	attrs := map[string]string{"object": o.Key(), "was": first.was, "is": first.is(), "owner": owner.String(), "reason": reason}
	if n := len(of) - 1; n > 0 {
		line, attrs["more"] = append(line, "more", n), strconv.Itoa(n)
	}
	if by != "" {
		line, attrs["by"] = append(line, "by", by), by
	}
	line = append(line, "took", took.Round(100*time.Microsecond))
	level, msg := slog.LevelInfo, "put right"
	switch {
	case first.err != nil:
		level, msg = slog.LevelError, fmt.Sprintf("not as it should be, and it could not be put right; tried again in %v", first.delay)
	case fights > 0:
		who := "another program keeps undoing this"
		if by != "" {
			who = by + " keeps undoing this"
		}
		level, msg = slog.LevelWarn, fmt.Sprintf("put right, and %s: if it happens again, it is left so for %v", who, first.delay)
	}
	if first.delay > 0 {
		attrs["backoff"] = first.delay.String()
	}
	c.log.Log(context.Background(), level, msg, line...)
	if c.cfg.Events == nil {
		return
	}
	e := events.Event{Type: "daemon", Action: "repair", ID: c.cfg.ID, Attributes: attrs}
	switch owner.Kind {
	case dataplane.OwnerNetwork:
		e.Type, e.ID, attrs["name"] = "network", owner.ID, owner.Name
	case dataplane.OwnerSandbox, dataplane.OwnerEndpoint, dataplane.OwnerPort:
		e.Type, attrs["name"] = "container", owner.Name
		if s := c.sandboxOf(owner); s != nil {
			e.ID = s.Owner
		}
	}
	c.cfg.Events.Publish(e)
}

// sandboxOf finds the sandbox that an owner is, or is a part of.
func (c *Controller) sandboxOf(o dataplane.Owner) *cnm.Sandbox {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s := c.sandboxes[o.ID]; s != nil {
		return s
	}
	for _, s := range c.sandboxes {
		for i := range s.Endpoints {
			if s.Endpoints[i].ID == o.ID {
				return s
			}
		}
	}
	return nil
}
