package host

import (
	"context"
	"fmt"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/store"
	"linkspan/store/etcd/server"
)

// find is the host of a name, an id or its beginning, or an address.
func find(hosts []mesh.Host, word string) (mesh.Host, error) {
	var like []mesh.Host
	var names []string
	for _, o := range hosts {
		if strings.EqualFold(o.Name, word) || o.ID == word || o.Addr.String() == word {
			return o, nil
		}
		if len(word) >= 4 && strings.HasPrefix(o.ID, word) {
			like = append(like, o)
		}
		names = append(names, o.Name)
	}
	if len(like) == 1 {
		return like[0], nil
	}
	return mesh.Host{}, cnm.NotFound("the mesh has no host %s; it has %s", word, strings.Join(names, ", "))
}

// subject finds the host that a person names, with all others.
func (h *Host) subject(ctx context.Context, what, word string) (mesh.Host, []mesh.Host, *State, *running, error) {
	var none mesh.Host
	st, r, err := h.inside(what)
	if err != nil {
		return none, nil, nil, nil, err
	}
	hosts, err := records(ctx, r.store)
	if err != nil {
		return none, nil, nil, nil, err
	}
	o, err := find(hosts, word)
	if err != nil {
		return none, nil, nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	return o, hosts, st, r, nil
}

func (r *running) lives(ctx context.Context, id string) (bool, error) {
	_, ok, err := r.store.Get(ctx, "alive/"+id)
	return ok, err
}

// members counts hosts that run etcd, or are about to.
func members(hosts []mesh.Host) (n int) {
	for _, o := range hosts {
		if Role(o.Role) == RoleMember {
			n++
		}
	}
	return n
}

func needsEtcd(what string, st *State) error {
	if st.external() {
		return cnm.Conflict("%s: the mesh of this host is in an etcd cluster that exists already, and no host of the mesh runs one", what)
	}
	return nil
}

// Promote has a host run etcd. It is a wish in the host's record; the host does it.
func (h *Host) Promote(ctx context.Context, word string) (*Done, error) {
	const what = "mesh promote"
	o, hosts, st, r, err := h.subject(ctx, what, word)
	if err != nil {
		return nil, err
	}
	if err := needsEtcd(what, st); err != nil {
		return nil, err
	}
	if Role(o.Role) == RoleMember {
		return &Done{Did: o.Name + " runs etcd already, or is about to"}, nil
	}
	alive, err := r.lives(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if !alive {
		return nil, cnm.Conflict("mesh promote: host %s (%s) is not there: a member that does not run is one that the others wait for; start its daemon first, or promote another host", o.Name, o.Addr)
	}
	if err := r.mesh.SetRole(ctx, o.ID, string(RoleMember)); err != nil {
		return nil, err
	}
	if _, err := r.store.Commit(ctx, store.Op{Key: clientKeys + o.ID}); err != nil {
		return nil, err
	}
	r.ring()
	d := &Done{Did: o.Name + " is to run etcd; it begins as soon as it hears of it"}
	d.Notes = oddWords(members(hosts) + 1)
	return d, nil
}

// oddWords say what a number of members is worth.
func oddWords(n int) []string {
	switch {
	case n > 5:
		return []string{fmt.Sprintf("%d members are slower than 5 and no safer in practice: linkspan mesh demote HOST", n)}
	case n%2 == 0:
		return []string{fmt.Sprintf("%d members survive no more losses than %d: promote one more host, or demote one", n, n-1)}
	}
	return nil
}

// Demote has a host run etcd no more.
func (h *Host) Demote(ctx context.Context, word string) (*Done, error) {
	const what = "mesh demote"
	o, hosts, st, r, err := h.subject(ctx, what, word)
	if err != nil {
		return nil, err
	}
	if err := needsEtcd(what, st); err != nil {
		return nil, err
	}
	if Role(o.Role) != RoleMember {
		return &Done{Did: o.Name + " runs no etcd"}, nil
	}
	if members(hosts) == 1 {
		return nil, cnm.Conflict("mesh demote: %s is the last host that runs etcd, and without one there is no mesh: promote another first (linkspan mesh promote HOST)", o.Name)
	}
	alive, err := r.lives(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if !alive {
		if err := r.oust(ctx, o); err != nil {
			return nil, fmt.Errorf("mesh demote: %w", err)
		}
	}
	if err := r.mesh.SetRole(ctx, o.ID, string(RoleClient)); err != nil {
		return nil, err
	}
	// Not to be promoted by itself again when the next host joins.
	if _, err := r.store.Commit(ctx, store.Op{Key: clientKeys + o.ID, Value: []byte(time.Now().UTC().Format(time.RFC3339))}); err != nil {
		return nil, err
	}
	r.ring()
	d := &Done{Did: o.Name + " is to run etcd no more"}
	if !alive {
		d.Did = o.Name + " is not there, and no member of etcd any more; it learns of that when it comes back"
	}
	d.Notes = oddWords(members(hosts) - 1)
	return d, nil
}

// oust takes a host out of etcd's members that cannot do it itself.
func (r *running) oust(ctx context.Context, o mesh.Host) error {
	return r.withMembers(ctx, r.store.Endpoints(), func(c *server.Cluster, ms []server.Member) error {
		for _, m := range ms {
			for _, u := range append(m.PeerURLs, m.ClientURLs...) {
				if hostOf(u) == o.Addr.String() {
					return c.Remove(ctx, m.ID)
				}
			}
		}
		return nil
	})
}

// Forget gives back what a host held that is gone for good.
func (h *Host) Forget(ctx context.Context, word string, force bool) (*Done, error) {
	const what = "mesh forget"
	o, hosts, st, r, err := h.subject(ctx, what, word)
	if err != nil {
		return nil, err
	}
	if o.ID == st.Host {
		return nil, cnm.Conflict("mesh forget: %s is this host: say linkspan mesh leave", o.Name)
	}
	alive, err := r.lives(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	if alive && !force {
		return nil, cnm.Conflict("mesh forget: host %s (%s) is there: say linkspan mesh leave on it; --force takes its addresses away all the same, and cuts its containers off the mesh's networks", o.Name, o.Addr)
	}
	if Role(o.Role) == RoleMember && !st.external() {
		if members(hosts) == 1 {
			return nil, cnm.Conflict("mesh forget: %s is the last host that runs etcd: promote another first (linkspan mesh promote HOST)", o.Name)
		}
		if err := r.oust(ctx, o); err != nil {
			return nil, fmt.Errorf("mesh forget: %w", err)
		}
	}
	if err := r.mesh.Forget(ctx, o.ID, force); err != nil {
		return nil, err
	}
	if _, err := r.store.Commit(ctx, store.Op{Key: clientKeys + o.ID}); err != nil {
		return nil, err
	}
	r.ring()
	d := &Done{Did: o.Name + " is forgotten; its addresses are free"}
	if Role(o.Role) == RoleMember {
		d.Notes = oddWords(members(hosts) - 1)
	}
	return d, nil
}

// Rotate gives this host new keys now.
func (h *Host) Rotate(ctx context.Context) (*Done, error) {
	done, err := h.change(ctx, "mesh rotate")
	if err != nil {
		return nil, err
	}
	defer done()
	st, r, err := h.inside("mesh rotate")
	if err != nil {
		return nil, err
	}
	var did []string
	if h.cfg.Rotate != nil {
		if err := h.cfg.Rotate(ctx); err != nil {
			return nil, fmt.Errorf("mesh rotate: this host has no new WireGuard key: %w", err)
		}
		did = append(did, "a new WireGuard key")
	}
	if r.identity != nil {
		if err := r.renewNow(ctx, st); err != nil {
			return nil, fmt.Errorf("mesh rotate: this host has no new certificate: %w", err)
		}
		did = append(did, "a new certificate")
	}
	if len(did) == 0 {
		return &Done{Did: "this host has no keys of its own: the certificate of an external etcd is renewed by who made it"}, nil
	}
	return &Done{Did: "this host has " + strings.Join(did, " and ")}, nil
}
