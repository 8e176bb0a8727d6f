package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose/doctor"
	"linkspan/dns"
	"linkspan/netns"
	"linkspan/network"
	"linkspan/probe"
)

// examine is what `linkspan doctor` asks for.
func (e *engine) examine(ctx context.Context) *doctor.Report {
	return doctor.Examine(ctx, &doctor.Patient{
		Host: os.DirFS("/"), World: e.world(), Features: probe.All,
		Machine: doctor.Here(e.cfg.DataRoot, e.cfg.ExecRoot), Engine: e.history(ctx),
	})
}

// history is what the daemon knows of itself.
func (e *engine) history(ctx context.Context) *doctor.Engine {
	h := &doctor.Engine{Version: e.Version, Instance: e.instance, PID: os.Getpid(), DataRoot: e.cfg.DataRoot, NoForwarding: !e.cfg.IPForward}
	e.askKeeper(ctx, h)
	h.Resolvers = e.askResolvers(ctx)
	h.Mesh = e.meshSigns(ctx)
	if n := e.network.RepairStats().BackingOff; n > 0 {
		h.Backoffs = append(h.Backoffs, fmt.Sprintf("%d objects are left alone for now, since another program keeps undoing their repair", n))
	}
	r, err := e.network.Reconcile(ctx, true)
	if err == nil && len(r.Ops) > 0 {
		r, err = e.still(ctx, r)
	}
	if h.Compared = err; err == nil {
		for _, op := range r.Ops {
			h.Pending = append(h.Pending, difference(op))
		}
		for _, o := range r.Drift {
			h.Drift = append(h.Drift, fmt.Sprintf("%s of %s", o.Key(), o.About().Owner))
		}
	}
	h.Garbage = e.garbage(ctx, r)
	if got, ok, err := e.store.Get(ctx, idKey); err != nil {
		h.StoreErr = err
	} else if !ok || string(got.Value) != e.id {
		h.StoreErr = errors.New("it is another one than the daemon opened")
	}
	for _, c := range e.containers.List() {
		st, err := os.Stat(e.containers.Files(c.ID).Log)
		if err != nil {
			continue
		}
		_, bounded := c.HostConfig.LogConfig.Config["max-size"]
		h.Logs = append(h.Logs, doctor.Log{Container: c.Name, Bytes: uint64(st.Size()), Bounded: bounded || c.HostConfig.LogConfig.Type == "local"})
	}
	return h
}

// settle is how long a difference may be there before it is one: what is being made or
// repaired at this moment takes less.
const settle = 300 * time.Millisecond

// still compares once more, and keeps what differs both times.
func (e *engine) still(ctx context.Context, first *network.Report) (*network.Report, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(settle):
	}
	r, err := e.network.Reconcile(ctx, true)
	if err != nil {
		return nil, err
	}
	was := map[string]bool{}
	for _, op := range first.Ops {
		was[string(op.Verb)+op.Object.Key()] = true
	}
	r.Ops = slices.DeleteFunc(r.Ops, func(op dataplane.Op) bool { return !was[string(op.Verb)+op.Object.Key()] })
	return r, nil
}

// garbage is what `linkspan gc` would remove, besides what a reconciliation does. What
// is on its way out at this moment is none.
func (e *engine) garbage(ctx context.Context, pending *network.Report) (out []string) {
	known := map[string]bool{}
	if pending != nil {
		for _, op := range pending.Ops {
			known[op.Object.Key()] = true
		}
	}
	look := func() (found []string) {
		g, err := e.collect(ctx, true)
		if err != nil {
			return nil
		}
		for _, i := range g.Items {
			if name := i.Kind + " " + i.Name; !known[name] {
				found = append(found, name)
			}
		}
		return found
	}
	first := look()
	if len(first) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(settle):
	}
	return slices.DeleteFunc(look(), func(name string) bool { return !slices.Contains(first, name) })
}

func difference(op dataplane.Op) doctor.Difference {
	d := doctor.Difference{Verb: string(op.Verb), Key: op.Object.Key(), Owner: op.Object.About().Owner.String()}
	create, remove := op.Object.Commands()
	if op.Verb == dataplane.Delete {
		create = remove
	}
	if len(create) > 0 {
		d.Command = create[0]
	}
	return d
}

func (e *engine) askKeeper(ctx context.Context, h *doctor.Engine) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	info, err := e.keeper.Info(ctx)
	if h.Keeper.Err = err; err != nil {
		return
	}
	own, err := netns.Own()
	h.Keeper = doctor.Keeper{PID: info.PID, Version: info.Version, Started: info.Started, ElsewhereNetns: err == nil && info.NetInode != own}
	views, err := e.keeper.Views(ctx)
	if err != nil {
		return // it answered a moment ago
	}
	for _, s := range e.network.Sandboxes() {
		if s.Resolver && !slices.Contains(views, s.ID) {
			h.Unheld = append(h.Unheld, s.OwnerName)
		}
	}
	m, err := e.keeper.Resolvers(ctx)
	if err != nil {
		return // of a version that does not count
	}
	for _, u := range m.Upstreams {
		h.Upstreams = append(h.Upstreams, doctor.Upstream{Group: u.Group, Server: u.Server.String(), Down: u.Down, Asked: u.Asked, Answered: u.Answered, Failed: u.Failed})
	}
}

// askResolvers asks each sandbox's resolver a question that never leaves it.
func (e *engine) askResolvers(ctx context.Context) map[string]error {
	var mu sync.Mutex
	answers := map[string]error{}
	var g errgroup.Group
	g.SetLimit(8)
	for _, s := range e.network.Sandboxes() {
		if !s.Resolver || s.Host || ctx.Err() != nil {
			continue
		}
		g.Go(func() error {
			err := askResolver(s)
			mu.Lock()
			defer mu.Unlock()
			answers[s.OwnerName] = err
			return nil
		})
	}
	_ = g.Wait() // each answer is in the map
	return answers
}

// singleLabel asks for the address of "linkspan-doctor", a name of one label, which
// only a network of ours could have (RFC 1035, 4.1).
var singleLabel = append([]byte{0x4c, 0x53, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 15}, "linkspan-doctor\x00\x00\x01\x00\x01"...)

func askResolver(s *cnm.Sandbox) error {
	ns, err := netns.Open(s.Path)
	if err != nil {
		return err
	}
	defer ns.Close()
	// As programs do, at port 53: the redirect changes the answer of the other one.
	c, err := netns.DialIn(ns, "udp", netip.AddrPortFrom(dns.Addr, 53))
	if err != nil {
		return err
	}
	defer c.Close()
	answer := make([]byte, 512)
	for range 2 { // a datagram may be lost
		if _, err = c.Write(singleLabel); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err = c.Read(answer); err == nil {
			return nil
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer within a second")
	}
	return err
}
