package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// News is what somebody else may have changed of ours, as a kernel tells it
// (dataplane/linux.Watch).
type News interface {
	// Touched has a token when Take has news; it closes when none comes any more.
	Touched() <-chan struct{}
	// Take returns what came since it was last asked.
	Take() dataplane.Touch
}

// Who breaks one thing often breaks the next right after (a firewall's reload): news
// is acted upon after a moment of quiet, or when it has waited long enough.
const (
	newsQuiet   = 2 * time.Millisecond
	newsPatient = 12 * time.Millisecond
	// stillAtIt is how long a repair that fails at first waits for its second attempt.
	stillAtIt = 20 * time.Millisecond
)

// Repair puts right what somebody else changes of ours, until ctx ends: by the news at
// once, and by comparing the whole host every now and then, since news can be lost.
// Insides of sandboxes stay as their people made them, but for our interface itself.
// Call it after Start.
func (c *Controller) Repair(ctx context.Context, news News) {
	touched := news.Touched()
	check := time.NewTimer(c.nextCheck())
	defer check.Stop()
	for {
		retry, stop := c.mending.timer()
		select {
		case <-ctx.Done():
			stop()
			return
		case _, open := <-touched:
			if !open {
				touched = nil
				break
			}
			c.await(ctx, touched)
			c.mend(ctx, news.Take())
		case <-retry:
			c.mend(ctx, c.mending.due(time.Now()))
		case <-check.C:
			c.check(ctx)
			check.Reset(c.nextCheck())
		}
		stop()
	}
}

// nextCheck is jittered: many daemons that started at once need not all look at once.
func (c *Controller) nextCheck() time.Duration {
	if c.cfg.CheckEvery <= 0 {
		return 1<<63 - 1
	}
	return c.cfg.CheckEvery*9/10 + rand.N(c.cfg.CheckEvery/5+1)
}

// await waits for quiet.
func (c *Controller) await(ctx context.Context, touched <-chan struct{}) {
	late := time.After(newsPatient)
	for {
		select {
		case <-ctx.Done():
			return
		case <-late:
			return
		case <-time.After(newsQuiet):
			return
		case _, open := <-touched:
			if !open {
				return
			}
		}
	}
}

// mend looks where the news is, and puts right what is not as declared.
func (c *Controller) mend(ctx context.Context, t dataplane.Touch) {
	switch {
	case t.Empty():
		return
	case t.All || c.cfg.ObserveTouched == nil:
		c.check(ctx)
		return
	}
	c.mending.looked()
	start := time.Now()
	done, again, err := c.mendThere(ctx, t, false, c.prepare(ctx))
	if again && err == nil {
		// What takes it away may still be at it: the kernel tells of a bridge's ports before
		// the bridge itself is gone.
		select {
		case <-ctx.Done():
			return
		case <-time.After(stillAtIt):
		}
		var more []mended
		more, _, err = c.mendThere(ctx, t, true, c.prepare(ctx))
		done = append(done, more...)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.Error("what somebody changed could not be looked at; it is tried again", "err", err)
			c.mending.postpone(t)
		}
		return
	}
	c.tellMended(done, t.By, time.Since(start))
}

// mendThere does so. Nobody else changes anything meanwhile, so that nothing is seen
// half-made. Unless it is the last attempt, what fails is left out of the answer and
// again is true.
func (c *Controller) mendThere(ctx context.Context, t dataplane.Touch, last bool, ready prepared) (done []mended, again bool, err error) {
	c.world.Lock()
	defer c.world.Unlock()
	if t.Sysctls[forward4] || t.Sysctls[forward6] {
		// The guard depends on what the host's own wish is.
		if err := c.noteForwarding(ctx); err != nil {
			return nil, false, err
		}
		t.Add(dataplane.Touch{Sets: map[string]bool{"forward_guard": true, "switched": true}})
	}
	all, _, err := c.plans(ctx, ready)
	if err != nil {
		return nil, false, err
	}
	want := scope(&t, all)
	have, err := c.cfg.ObserveTouched(ctx, t, want)
	if err != nil {
		return nil, false, err
	}
	wires := wiresOf(want)
	want, inside := outside(want, have, c.mending.halfMade())
	done, again = c.put(ctx, diff.Compute(dataplane.NewState(want...), have, inside...).Ops, have, wires, t.By, last)
	return done, again, nil
}

// place is a link in a namespace: the path of its pin, or "" for the host's.
type place struct{ ns, link string }

// insideOf is where an object lies inside of a sandbox; a Redirect has no link.
func insideOf(o dataplane.Object) (p place, ok bool) {
	switch o := o.(type) {
	case dataplane.Addr:
		p = place{o.NS, o.Link}
	case dataplane.Up:
		p = place{o.NS, o.Link}
	case dataplane.Route:
		p = place{o.NS, o.Link}
	case dataplane.Sysctl:
		p = place{o.NS, dataplane.SysctlLink(o.Name)}
	case dataplane.Redirect:
		p = place{o.NS, ""}
	}
	return p, p.ns != ""
}

// wiresOf are the veths by where their other ends are; and by their sandboxes, of those
// one each.
func wiresOf(objs []dataplane.Object) map[place]dataplane.Veth {
	wires := map[place]dataplane.Veth{}
	for _, o := range objs {
		if v, ok := o.(dataplane.Veth); ok {
			wires[place{v.PeerNS, v.PeerName}], wires[place{v.PeerNS, ""}] = v, v
		}
	}
	return wires
}

// put performs a repair's ops but those that have to wait, and says what became of
// them; see mendThere. The caller has the world to itself.
func (c *Controller) put(ctx context.Context, ops []dataplane.Op, have *dataplane.State, wires map[place]dataplane.Veth, by string, last bool) (done []mended, again bool) {
	ops = c.mending.allowed(ops, wires, by, time.Now())
	if len(ops) == 0 {
		return nil, false
	}
	failed := map[string]error{}
	if err := c.cfg.Kernel.Apply(ctx, ops); err != nil {
		for _, e := range split(err) {
			var f *dataplane.Failure
			if errors.As(e, &f) {
				failed[f.Op.Object.Key()] = f.Err
			}
		}
	}
	if ctx.Err() != nil {
		return nil, false
	}
	var failing []dataplane.Object
	ended := map[dataplane.Owner]string{} // whose ops failed, and so whose were not tried any more
	for _, op := range ops {
		m, owner := mended{op: op, was: was(op, have), err: failed[op.Object.Key()]}, op.Object.About().Owner
		if key, over := ended[owner]; over && m.err == nil {
			m.err, m.skipped = fmt.Errorf("not tried, since %s failed", key), true
		} else if m.err != nil && owner.Kind != "" {
			ended[owner] = op.Object.Key()
		}
		if m.err == nil || last {
			done = append(done, m)
		} else {
			again = true
			failing = append(failing, op.Object)
		}
	}
	c.mending.done(done, wires, time.Now())
	c.mending.unfinished(failing, wires)
	return done, again
}

// scope narrows what is declared (as planned: of two objects of one key the later counts)
// to where the news is. A bridge's news is its ports' too, and a port's its bridge's; and
// with a veth comes what is declared at its other end, in case the pair has to be made
// anew.
func scope(t *dataplane.Touch, objs []dataplane.Object) []dataplane.Object {
	inside := map[place]bool{}
	touched := maps.Clone(t.Links)
	wires := map[string]dataplane.Veth{}
	for _, o := range objs {
		if v, ok := o.(dataplane.Veth); ok {
			wires[v.Name] = v
		}
	}
	for _, v := range wires {
		if touched[v.Name] || touched[v.Master] {
			t.Add(dataplane.Touch{Links: map[string]bool{v.Name: true}})
			if v.Master != "" { // it may have lost it since the bridge goes
				t.Add(dataplane.Touch{Links: map[string]bool{v.Master: true}})
			}
			inside[place{v.PeerNS, v.PeerName}], inside[place{v.PeerNS, ""}] = true, true
		}
	}
	there := func(o dataplane.Object) bool {
		p, in := insideOf(o)
		if _, sysctl := o.(dataplane.Sysctl); in && sysctl && p.link == "" {
			return false // the sandbox's own: no interface brings it back
		}
		return t.Has(o) || in && inside[p]
	}
	// Tens of thousands of objects are looked at, and a few are there: to sort them all
	// takes longer than the repair.
	want := map[string]dataplane.Object{}
	for _, o := range objs {
		if there(o) {
			want[o.Key()] = o
		} else if len(want) > 0 {
			delete(want, o.Key())
		}
	}
	if len(want) == 0 {
		return nil
	}
	return dataplane.NewState(slices.Collect(maps.Values(want))...).All()
}

// outside leaves out what is wanted inside of sandboxes at the end of wires that stand
// and are not half-made; in says in which sandboxes some is left.
func outside(want []dataplane.Object, have *dataplane.State, half map[string]bool) (out []dataplane.Object, in []string) {
	anew := map[place]bool{} // interfaces that have to be made
	for _, o := range want {
		if v, ok := o.(dataplane.Veth); ok {
			h, there := have.Get(o.Key())
			stands, wire := h.(dataplane.Veth)
			if !there || !wire || stands.PeerNS != v.PeerNS || half[v.Name] {
				anew[place{v.PeerNS, v.PeerName}], anew[place{v.PeerNS, ""}] = true, true
				in = append(in, v.PeerNS)
			}
		}
	}
	for _, o := range want {
		if p, inside := insideOf(o); !inside || anew[p] {
			out = append(out, o)
		}
	}
	return out, in
}

// check compares the whole host with what is declared. It looks while others work, so
// that nobody waits for a walk through all sandboxes; what seems to differ is then
// looked at again with the world to itself.
func (c *Controller) check(ctx context.Context) {
	start := time.Now()
	c.world.RLock()
	p, _, err := c.compare(ctx)
	c.world.RUnlock()
	if err == nil {
		var t dataplane.Touch
		whole := c.cfg.ObserveTouched == nil
		for _, op := range p.Ops {
			one := dataplane.TouchOf(op.Object)
			whole = whole || one.Empty()
			t.Add(one)
		}
		var done []mended
		switch {
		case len(p.Ops) == 0:
		case whole:
			done, err = c.mendAll(ctx)
		default:
			done, _, err = c.mendThere(ctx, t, true, c.prepare(ctx))
		}
		c.tellMended(done, "", time.Since(start))
	}
	if err != nil && ctx.Err() == nil {
		c.log.Error("the host could not be compared with what is declared; it is tried again at the next full check", "err", err)
	}
	c.mending.checked(start, time.Since(start), err)
}

func (c *Controller) mendAll(ctx context.Context) ([]mended, error) {
	c.world.Lock()
	defer c.world.Unlock()
	if err := c.noteForwarding(ctx); err != nil {
		return nil, err
	}
	p, have, err := c.compare(ctx)
	if err != nil {
		return nil, err
	}
	var objs []dataplane.Object
	for _, op := range p.Ops {
		objs = append(objs, op.Object)
	}
	done, _ := c.put(ctx, p.Ops, have, wiresOf(objs), "", true)
	return done, nil
}
