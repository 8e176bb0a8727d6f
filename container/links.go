package container

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
)

// Links are of two kinds. On the default bridge they are Docker's old ones: made
// at create, resolved to a container there and then, with a line in /etc/hosts,
// variables in the environment and, where containers do not reach each other, a
// hole (Container.Links). On all other networks they are names that the
// container alone knows others by; whoever has the name now is meant
// (EndpointSettings.Links).

// parseLink decodes "name:alias", "name", and the form that inspect shows,
// "/name:/parent/alias".
func parseLink(s string) (name, alias string, err error) {
	if s == "" {
		return "", "", cnm.Invalid("empty string specified for links")
	}
	parts := strings.Split(s, ":")
	switch {
	case len(parts) > 2 || parts[0] == "" || parts[len(parts)-1] == "":
		return "", "", cnm.Invalid("bad format for links: %s", s)
	case len(parts) == 1:
		return s, s, nil
	case strings.HasPrefix(s, "/"):
		return parts[0][1:], path.Base(parts[1]), nil
	}
	return parts[0], parts[1], nil
}

// resolveLinks looks up at create what is linked to on the default bridge. On
// the mode's own network of another kind, --link is that endpoint's.
func (e *Engine) resolveLinks(c *Container) error {
	hc := c.HostConfig
	own := e.ownNetwork(hc.NetworkMode)
	wished := hc.Links
	switch {
	case len(wished) == 0 || c.Target != "":
	case hc.NetworkMode.IsNone():
		return cnm.Invalid("conflicting options: none type networking can't be used with links: a container without a network reaches no other")
	case own != defaultNetwork:
		// Clients send them with the endpoint too.
		if ep := c.Networks[own]; ep != nil && len(ep.Links) == 0 {
			for _, l := range wished {
				if _, _, err := parseLink(l); err != nil {
					return err
				}
			}
			ep.Links = slices.Clone(wished)
		}
		wished = nil
	}
	if ep := c.Networks[defaultNetwork]; ep != nil {
		wished = slices.Concat(wished, ep.Links)
	}
	var err error
	c.Links, err = e.linked(c, wished)
	return err
}

// linked finds the targets of links on the default bridge; the first of several
// with one alias counts.
func (e *Engine) linked(c *Container, wished []string) ([]Link, error) {
	var out []Link
	for _, l := range wished {
		name, alias, err := parseLink(l)
		if err != nil {
			return nil, err
		}
		t, err := e.Get(name)
		if err != nil {
			return nil, notImage(prefixed("could not get container for "+name+": ", err))
		}
		for t.Target != "" { // who shares a network has no place of its own on it
			if t, err = e.Get(t.Target); err != nil {
				return nil, notImage(prefixed("could not get container for "+name+": ", err))
			}
		}
		switch {
		case t.ID == c.ID:
			return nil, cnm.Invalid("cannot link %s to itself", c.Name)
		case t.HostConfig.NetworkMode.IsHost():
			return nil, cnm.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		case t.Networks[defaultNetwork] == nil:
			return nil, notLinkable(t)
		}
		if !slices.ContainsFunc(out, func(o Link) bool { return o.Alias == alias }) {
			out = append(out, Link{Target: t.ID, Alias: alias})
		}
	}
	return out, nil
}

func notLinkable(t *Container) error {
	return cnm.Invalid("Cannot link to /%s, as it does not belong to the default network; put both on one network of your own (docker network create), where containers find each other by name", t.Name)
}

func prefixed(what string, err error) error {
	return cnm.Errorf(cnm.ErrNotFound, "%s%w", what, err)
}

// linkWishes are a container's links on one network as the controller needs
// them.
func (e *Engine) linkWishes(c *Container, network string) (out []cnm.Link) {
	if network == defaultNetwork {
		for _, l := range c.Links {
			if t, err := e.Get(l.Target); err == nil {
				out = append(out, cnm.Link{Target: t.ID, Alias: l.Alias, Ports: exposedPorts(t.Config)})
			}
		}
		return out
	}
	ep := c.Networks[network]
	if ep == nil {
		return nil
	}
	for _, l := range ep.Links {
		name, alias, err := parseLink(l)
		if err != nil {
			continue // refused when it was wished
		}
		link := cnm.Link{Target: name, Alias: alias}
		if t, err := e.Get(name); err == nil {
			link.Target, link.Ports = t.ID, exposedPorts(t.Config)
		}
		out = append(out, link)
	}
	return out
}

// linkers are the containers that link to one, on any network, in the order of
// their names.
func (e *Engine) linkers(t *Container) (out []*entry) {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.entries))
	e.mu.Unlock()
	for _, en := range all {
		c := en.load()
		old := slices.ContainsFunc(c.Links, func(l Link) bool { return l.Target == t.ID })
		if c.ID != t.ID && (old || linksByName(c.Networks, t)) {
			out = append(out, en)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return strings.Compare(a.load().Name, b.load().Name) })
	return out
}

// linksByName says whether an endpoint's links may mean a container: by its
// name, by the beginning of its id, or by an alias.
func linksByName(networks map[string]*apinetwork.EndpointSettings, t *Container) bool {
	for network, ep := range networks {
		if ep == nil || len(ep.Links) == 0 {
			continue
		}
		var aliases []string
		if there := t.Networks[network]; there != nil {
			aliases = there.Aliases
		}
		for _, l := range ep.Links {
			name, _, err := parseLink(l)
			if err == nil && (name == t.Name || strings.HasPrefix(t.ID, name) || slices.Contains(aliases, name)) {
				return true
			}
		}
	}
	return false
}

// linkPatience is how long a policy's start waits for those that the container
// links to and that are about to start too, as when the daemon starts. Docker's.
const linkPatience = 5 * time.Second

// awaitLinks waits for them: without, the start fails and is tried again, in a
// new place on the network. The caller has the container's lock.
func (e *Engine) awaitLinks(en *entry) {
	for end := time.Now().Add(linkPatience); time.Now().Before(end); {
		coming := false
		for _, l := range en.load().Links {
			if t, err := e.Get(l.Target); err == nil {
				coming = coming || t.State.Starting || t.State.Phase == Restarting
			}
		}
		if !coming {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-e.ctx.Done():
			return
		}
	}
}

// followLinks tells those who link to a container what became of it: their
// /etc/hosts, and which ports are open between the two. The container that
// changes may hold its own lock; it takes none of theirs that a change holds
// while waiting for another container.
func (e *Engine) followLinks(ctx context.Context, t *Container) {
	for _, en := range e.linkers(t) {
		if c := en.load(); !c.State.Phase.running() && !c.State.Starting {
			continue
		}
		e.bringUp(ctx, en)
	}
}

// dropLinks takes the links to a container that is gone out of the definitions
// of those who had them.
func (e *Engine) dropLinks(ctx context.Context, t *Container) {
	for _, en := range e.linkers(t) {
		e.unlink(ctx, en, func(l Link) bool { return l.Target == t.ID })
	}
}

// unlink takes links on the default bridge out of a definition, running or not.
func (e *Engine) unlink(ctx context.Context, en *entry, which func(Link) bool) {
	c := en.load()
	if slices.ContainsFunc(c.Links, which) {
		var err error
		if c, err = e.change(ctx, en, "unlinked", func(c *Container) {
			c.Links = slices.DeleteFunc(slices.Clone(c.Links), which)
			if len(c.Links) == 0 && c.HostConfig.Links != nil && c.Networks[defaultNetwork] != nil {
				hc := *c.HostConfig
				hc.Links = nil
				c.HostConfig = &hc
			}
		}); err != nil {
			e.log.Error("a link to a container that is gone stays", "container", c.Name, "error", err)
		}
	}
	if c.State.Phase.running() || c.State.Starting {
		e.bringUp(ctx, en)
	}
}

// removeLink takes one link away by the second name that it gives to its target
// ("web/db"), as `docker rm --link` does.
func (e *Engine) removeLink(ctx context.Context, name string) error {
	name = strings.TrimPrefix(name, "/")
	parent, alias, ok := strings.Cut(name, "/")
	if !ok {
		return cnm.Conflict("Conflict, cannot remove the default link name of the container")
	}
	e.mu.Lock()
	en := e.entries[e.names[parent]]
	e.mu.Unlock()
	if en == nil {
		return cnm.NotFound("Cannot get parent /%s for link name /%s", parent, name)
	}
	is := func(l Link) bool { return l.Alias == alias }
	if !slices.ContainsFunc(en.load().Links, is) {
		return cnm.NotFound("No such link: /%s", name)
	}
	if err := en.lock(ctx); err != nil {
		return err
	}
	defer en.unlock()
	e.unlink(lasting(ctx), en, is)
	return nil
}
