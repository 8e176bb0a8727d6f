package container

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
	"linkspan/network"
	"linkspan/store"
)

// Connect implements Service.
func (e *Engine) Connect(ctx context.Context, ref, to string, ep *apinetwork.EndpointSettings) error {
	return e.reconnect(ctx, ref, "connected", func(c *Container) error { return e.connected(c, to, ep) })
}

// Disconnect implements Service. force has no more to do here: an endpoint never
// outlives its container.
func (e *Engine) Disconnect(ctx context.Context, ref, from string, force bool) error {
	return e.reconnect(ctx, ref, "disconnected", func(c *Container) error { return e.disconnected(c, from) })
}

// reconnect changes the networks of a definition, of a container that runs or
// does not.
func (e *Engine) reconnect(ctx context.Context, ref, what string, f func(*Container) error) error {
	en, c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer en.unlock()
	if c.State.Phase == Removing || c.State.Phase == Dead {
		return cnm.Conflict("container %s is marked for removal and cannot be connected or disconnected to the network", c.ID)
	}
	next := *c
	if err := f(&next); err != nil {
		return err
	}
	ctx = lasting(ctx)
	if err := e.redefine(ctx, en, what, func(c *Container) {
		c.Networks, c.Numbers, c.Links = next.Networks, next.Numbers, next.Links
	}); err != nil {
		return err
	}
	e.followLinks(ctx, c)
	return nil
}

// redefine brings a container to another definition on the network: what it owns
// is held, the sandbox, if there is one, is changed, in one commit with the
// definition, and its files follow. A crash before the commit leaves the old
// definition, to which the next start of the daemon brings the sandbox back
// (bringUp); a crash after it the new one. The caller has the container's lock.
func (e *Engine) redefine(ctx context.Context, en *entry, what string, f func(*Container)) error {
	en.joining.Lock()
	defer en.joining.Unlock()
	old := en.load()
	next := *old
	f(&next)
	req, err := e.networkRequest(&next)
	if err != nil {
		return err
	}
	if err := e.checkNew(ctx, req, old); err != nil {
		return err
	}
	if err := e.cfg.Network.Define(ctx, req); err != nil {
		return err
	}
	rec := e.recording(en, what, f)
	req.With = rec.with
	e.cfg.Hook("network.update.before")
	err = e.cfg.Network.Update(ctx, req)
	e.cfg.Hook("network.update.after")
	switch {
	case err == nil && rec.written == nil: // it had no sandbox to change
		if _, err = e.change(ctx, en, what, f); err != nil {
			if uerr := e.back(ctx, old, e.cfg.Network.Update); uerr != nil {
				e.log.Error("a change of a container's networks could not be written, and not be taken back", "container", old.Name, "error", uerr)
			}
		}
	case err != nil && rec.written != nil:
		e.observe(en, what, func(c *Container) {
			c.Name, c.Networks, c.Numbers, c.Links = old.Name, old.Networks, old.Numbers, old.Links
		})
	}
	rec.follow()
	if err == nil {
		return nil
	}
	if derr := e.back(ctx, old, e.cfg.Network.Define); derr != nil {
		e.log.Error("a container's addresses are not held", "container", old.Name, "error", derr)
	}
	return err
}

// recording is a change of a record that the controller commits with the sandbox's.
type recording struct {
	e       *Engine
	en      *entry
	what    string
	change  func(*Container)
	written *Container    // once it is
	files   chan struct{} // closed when they have followed; nil: not begun
	answers bool          // names could be asked of us in the sandbox as it was
}

func (e *Engine) recording(en *entry, what string, change func(*Container)) *recording {
	r := &recording{e: e, en: en, what: what, change: change}
	if sb, ok := e.cfg.Network.Sandbox(en.load().ID); ok {
		r.answers = sb.Answers
	}
	return r
}

// with is the record's part of the commit (network.With). As in Engine.change, the
// record is nobody else's until the outcome is known.
func (r *recording) with() (store.Op, func(int64, error), error) {
	r.en.commitMu.Lock()
	old := r.en.load()
	c := *old
	r.change(&c)
	value, err := json.Marshal(&c)
	if err != nil {
		r.en.commitMu.Unlock()
		return store.Op{}, nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	r.e.cfg.Hook("container.commit." + r.what + ".before")
	return store.Op{Key: recordPrefix + c.ID, Value: value, Guard: true, IfRev: old.Rev}, func(rev int64, err error) {
		r.e.cfg.Hook("container.commit." + r.what + ".after")
		if err == nil {
			c.Rev = rev
			r.en.current.Store(&c)
			r.written = &c
		}
		r.en.commitMu.Unlock()
		if err == nil {
			r.begin()
		}
	}, nil
}

// begin has the files follow while the kernel is still at work: they say what
// addresses there are, which is known. Where the resolver changes they wait: nobody is
// told to ask one that is not there yet.
func (r *recording) begin() {
	sb, ok := r.e.cfg.Network.Sandbox(r.written.ID)
	if !ok || sb.Answers != r.answers {
		return
	}
	r.files = make(chan struct{})
	go func() {
		defer close(r.files)
		r.e.refreshFiles(r.en)
	}()
}

// follow returns once the files say what is, however the change ended.
func (r *recording) follow() {
	if r.files != nil {
		<-r.files
	}
	if r.files == nil || r.en.load() != r.written {
		r.e.refreshFiles(r.en)
	}
}

// checkNew has the endpoints checked that a definition did not have. Of the others
// a network may be gone; that is for the start to say.
func (e *Engine) checkNew(ctx context.Context, req network.Request, old *Container) error {
	req.Endpoints = slices.DeleteFunc(slices.Clone(req.Endpoints), func(w network.EndpointWish) bool { return old.Networks[w.Network] != nil })
	if len(req.Endpoints) == 0 {
		return nil
	}
	_, err := e.cfg.Network.Check(ctx, req)
	return err
}

// back tells the controller a definition that stays.
func (e *Engine) back(ctx context.Context, old *Container, tell func(context.Context, network.Request) error) error {
	req, err := e.networkRequest(old)
	if err != nil {
		return err
	}
	return tell(ctx, req)
}

// connected adds a network to a definition, or says in Docker's words why it
// cannot be.
func (e *Engine) connected(c *Container, ref string, ep *apinetwork.EndpointSettings) error {
	if c.Target != "" {
		return errShared
	}
	if ref == apinetwork.NetworkDefault {
		ref = defaultNetwork
	}
	n, err := e.cfg.Network.Network(ref)
	if err != nil {
		return err
	}
	if apicontainer.NetworkMode(n.Name).IsHost() && c.Networks[n.Name] == nil {
		return errHostNetwork
	}
	for name := range c.Networks {
		switch m := apicontainer.NetworkMode(name); {
		case name == n.Name:
			return cnm.Errorf(cnm.ErrForbidden, "endpoint with name %s already exists in network %s", c.Name, n.Name)
		case m.IsHost():
			return errShared
		case m.IsNone(), apicontainer.NetworkMode(n.Name).IsNone():
			return errNone
		}
	}
	if ep = ep.Copy(); ep == nil {
		ep = &apinetwork.EndpointSettings{}
	}
	if err := verifyEndpoint(n.Name, ep); err != nil {
		return err
	}
	c.Networks = maps.Clone(c.Networks)
	if c.Networks == nil {
		c.Networks = map[string]*apinetwork.EndpointSettings{}
	}
	c.Networks[n.Name] = ep
	c.Numbers = numbered(c.Networks, c.Numbers, e.ownNetwork(c.HostConfig.NetworkMode))
	if n.Name == defaultNetwork && len(ep.Links) > 0 {
		more, err := e.linked(c, ep.Links)
		if err != nil {
			return err
		}
		for _, l := range more {
			if !slices.ContainsFunc(c.Links, func(o Link) bool { return o.Alias == l.Alias }) {
				c.Links = append(slices.Clip(c.Links), l)
			}
		}
	}
	return nil
}

// Docker's words for what cannot be on two networks.
var (
	errShared      = cnm.Invalid("container sharing network namespace with another container or host cannot be connected to any other network")
	errHostNetwork = cnm.Invalid("container cannot be disconnected from host network or connected to host network")
	errNone        = cnm.Invalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
)

// disconnected takes a network out of a definition. It may be gone itself.
func (e *Engine) disconnected(c *Container, ref string) error {
	if ref == apinetwork.NetworkDefault {
		ref = defaultNetwork
	}
	name := ref
	n, err := e.cfg.Network.Network(ref)
	if err == nil {
		name = n.Name
	} else if c.Networks[name] == nil {
		return err
	}
	if c.Networks[name] == nil {
		return cnm.NotFound("container %s is not connected to network %s", c.ID, name)
	}
	if apicontainer.NetworkMode(name).IsHost() && c.HostConfig.NetworkMode.IsHost() {
		return errHostNetwork
	}
	c.Networks, c.Numbers = maps.Clone(c.Networks), maps.Clone(c.Numbers)
	delete(c.Networks, name)
	c.Numbers = numbered(c.Networks, c.Numbers, e.ownNetwork(c.HostConfig.NetworkMode))
	return nil
}

// defineAll holds what the definitions own, before anything is started.
func (e *Engine) defineAll(ctx context.Context) {
	for _, c := range e.List() {
		if c.State.Phase == Removing {
			continue
		}
		req, err := e.networkRequest(c)
		if err == nil {
			err = e.cfg.Network.Define(ctx, req)
		}
		if err != nil {
			// Its start will say so too.
			e.log.Warn("what a container's definition owns on the network is not held", "container", c.Name, "error", err)
		}
	}
}

// bringUp brings the sandbox and the files of a running container to its
// definition: a change may have been cut short.
func (e *Engine) bringUp(ctx context.Context, en *entry) {
	if err := e.update(ctx, en); err != nil {
		e.log.Error("a running container's network is not as defined", "container", en.load().Name, "error", err)
	}
	e.refreshFiles(en)
}

// update tells the controller a container's definition anew: whom its links
// mean may have changed.
func (e *Engine) update(ctx context.Context, en *entry) error {
	en.joining.Lock()
	defer en.joining.Unlock()
	c := en.load()
	if c.Target != "" || !c.State.Phase.running() {
		return nil
	}
	req, err := e.networkRequest(c)
	if err != nil {
		return err
	}
	if err := e.cfg.Network.Update(ctx, req); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	return nil
}
