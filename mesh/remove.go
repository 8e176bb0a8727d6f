package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/store"
)

// Remove ends a global network, unless endpoints are on it.
func (m *Mesh) Remove(ctx context.Context, n *cnm.Network) error {
	what := fmt.Sprintf("network %s cannot be removed for all hosts", n.Name)
	for try := 0; ; try++ {
		err := m.remove(ctx, n, try)
		if !errors.Is(err, store.ErrCompare) {
			return m.unreachable(what, err)
		}
		if try == 50 {
			return cnm.Errorf(cnm.ErrUnavailable, "%s: hosts came to it fifty times meanwhile; try again", what)
		}
		if err := pause(ctx, retry(min(try, 5))); err != nil {
			return err
		}
	}
}

func (m *Mesh) remove(ctx context.Context, n *cnm.Network, try int) error {
	m.mu.Lock()
	if try > 0 {
		m.selfRev = 0
	}
	if o := m.own[n.ID]; o != nil && len(o.endpoints) > 0 {
		m.mu.Unlock()
		return m.inUse(ctx, n, nil)
	}
	m.mu.Unlock()
	if err := m.settle(ctx); err != nil {
		return err
	}
	// In this order: whoever comes after the members' key was read makes the commit fail.
	members, _, err := m.get(ctx, memberKeys+n.ID)
	if err != nil {
		return err
	}
	e, ok, err := m.get(ctx, networkKeys+n.ID)
	if err != nil {
		return err
	}
	if !ok {
		return nil // another host was faster
	}
	if stored, valid := decode[cnm.Network](e.Value); valid {
		n = &stored
	}
	present, _, err := m.list(ctx, presentKeys+n.ID+"/")
	if err != nil {
		return err
	}
	var there []string
	for _, p := range present {
		if s, ok := parts(p.Key, presentKeys, 2); ok && s[1] != m.id {
			there = append(there, s[1])
		}
	}
	if len(there) > 0 {
		return m.inUse(ctx, n, there)
	}
	space, _, err := m.get(ctx, spaceKey)
	if err != nil {
		return err
	}
	m.mu.Lock()
	guard := m.guardSelf()
	m.mu.Unlock()
	ops := []store.Op{guard,
		{Key: networkKeys + n.ID, Guard: true, IfRev: e.Rev},
		{Key: memberKeys + n.ID, Guard: true, IfRev: members.Rev},
		{Key: netNameKeys + n.Name},
		{Key: spaceKey, Value: bump(space.Value), Guard: true, IfRev: space.Rev},
		{Key: sweepKeys + n.ID, Value: encode(sweep{Network: n.ID})}}
	for _, v := range distinct(n.VNIs) {
		ops = append(ops, store.Op{Key: vniKey(v)})
	}
	if _, err := m.commit(ctx, ops...); err != nil {
		return err
	}
	m.log.Info("network removed for all hosts", "network", n.Name)
	m.mu.Lock()
	if o := m.own[n.ID]; o != nil {
		o.followed = false
		m.queue.arrived(n.ID, false)
	}
	m.mu.Unlock()
	if err := m.sweep(ctx, sweep{Network: n.ID}); err != nil {
		m.log.Warn("what is left of a removed network is swept later", "network", n.Name, "err", err)
	}
	return nil
}

// inUse is the error for a network that has endpoints: whose, and where.
func (m *Mesh) inUse(ctx context.Context, n *cnm.Network, hosts []string) error {
	entries, _, err := m.list(ctx, endpointKeys+n.ID+"/")
	if err != nil && len(hosts) > 0 {
		return err
	} // else this host's own are reason enough
	byHost := map[string][]string{}
	for _, id := range hosts {
		byHost[id] = nil
	}
	for _, e := range entries {
		if s, ok := parts(e.Key, endpointKeys, 3); ok {
			r, _ := decodeRemote(e.Value)
			byHost[s[1]] = append(byHost[s[1]], r.ContainerName)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.own[n.ID]; o != nil && len(byHost[m.id]) == 0 {
		for _, v := range o.endpoints {
			r, _ := decodeRemote(v)
			byHost[m.id] = append(byHost[m.id], r.ContainerName)
		}
	}
	var who []string
	away := ""
	for id, names := range byHost {
		slices.Sort(names)
		if extra := len(names) - 5; extra > 0 {
			names = append(names[:5:5], fmt.Sprintf("%d more", extra))
		}
		switch {
		case len(names) > 0:
			who = append(who, fmt.Sprintf("%s on host %s", strings.Join(names, ", "), m.nameOf(id)))
		case id != m.id:
			who = append(who, "host "+m.nameOf(id)+", which is connecting a container")
		}
		if id != m.id && !m.alive[id] {
			away = fmt.Sprintf("; host %s is not there: if it is no more, linkspan mesh forget %s", m.nameOf(id), m.nameOf(id))
		}
	}
	slices.Sort(who)
	return cnm.Conflict("error while removing network: network %s has active endpoints (%s); remove those containers, or disconnect them, first%s", n.Name, strings.Join(who, "; "), away)
}
