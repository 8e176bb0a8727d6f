package mesh

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/store"
)

// Find returns the host of a name, an id or the beginning of one.
func (m *Mesh) Find(ref string) (Host, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Host
	var names []string
	for id, h := range m.hosts {
		if id == ref || strings.EqualFold(h.Name, ref) {
			return h, nil
		}
		if ref != "" && strings.HasPrefix(id, ref) {
			found = append(found, h)
		}
		names = append(names, h.Name)
	}
	slices.Sort(names)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Host{}, cnm.NotFound("no host %q in the mesh; there are %s", ref, strings.Join(names, ", "))
	default:
		return Host{}, cnm.Conflict("%q is the beginning of %d hosts' ids; say the name", ref, len(found))
	}
}

// Forget takes a host that is no more out of the mesh: its names, addresses, blocks,
// endpoints and its place. One that is there is refused unless forced: it would fence
// itself, and its containers lose what they have. What it still writes fails.
func (m *Mesh) Forget(ctx context.Context, ref string, force bool) error {
	h, err := m.Find(ref)
	if err != nil {
		return err
	}
	if h.ID == m.id {
		return cnm.Invalid("%s is this host; leave with linkspan mesh leave", h.Name)
	}
	what := "host " + h.Name + " cannot be forgotten"
	if err := m.settle(ctx); err != nil {
		return m.unreachable(what, err)
	}
	if _, alive, err := m.get(ctx, aliveKeys+h.ID); err != nil {
		return m.unreachable(what, err)
	} else if alive && !force {
		return cnm.Conflict("host %s is there: forgetting it would cut off its containers; leave the mesh on it (linkspan mesh leave), or insist with --force", h.Name)
	}
	return m.unreachable(what, m.expel(ctx, h))
}

// expel makes a host no member, and sweeps. Of a host that was expelled already only
// the sweep is done again.
func (m *Mesh) expel(ctx context.Context, h Host) error {
	for try := 0; ; try++ {
		e, ok, err := m.get(ctx, hostKeys+h.ID)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if stored, valid := decode[Host](e.Value); valid {
			h = stored
		}
		_, err = m.commit(ctx,
			store.Op{Key: hostKeys + h.ID, Guard: true, IfRev: e.Rev},
			store.Op{Key: hostNameKeys + strings.ToLower(h.Name)},
			store.Op{Key: hostNumberKeys + strconv.Itoa(h.Number)},
			store.Op{Key: aliveKeys + h.ID},
			store.Op{Key: sweepKeys + h.ID, Value: encode(sweep{Host: h.ID})})
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrCompare) {
			return err
		}
		if err := pause(ctx, retry(min(try, 5))); err != nil {
			return err
		}
	}
	m.cfg.Hook("mesh.forget.expelled")
	m.log.Info("host forgotten", "host", h.Name)
	return m.sweep(ctx, sweep{Host: h.ID})
}

// Leave gives back all that this host has in the mesh, and forgets the mesh. Its
// containers must be off the mesh's networks.
func (m *Mesh) Leave(ctx context.Context) error {
	m.mu.Lock()
	fenced := m.fenced != ""
	m.mu.Unlock()
	if !fenced {
		if err := m.settle(ctx); err != nil {
			return m.unreachable("this host cannot leave the mesh in order", err)
		}
	}
	m.mu.Lock()
	was := m.left
	m.left = true // nothing is written, adopted or answered any more
	self := m.self
	m.mu.Unlock()
	if !fenced {
		if err := m.expel(ctx, self); err != nil {
			m.mu.Lock()
			m.left = was
			m.mu.Unlock()
			return m.unreachable("this host cannot leave the mesh in order", err)
		}
	}
	m.mu.Lock()
	m.aliveBell.ring()
	for network, f := range m.follows {
		if f.active {
			m.pend(network).whole = true
		}
	}
	m.own = map[string]*ownNet{}
	m.queue = queue{queued: map[string]bool{}, present: map[string]bool{}, releases: map[string]bool{}}
	m.tellPeers()
	m.mu.Unlock()
	return m.forgetLocal(ctx)
}

// SetRole writes a host's role.
func (m *Mesh) SetRole(ctx context.Context, id, role string) error {
	for try := 0; ; try++ {
		e, ok, err := m.get(ctx, hostKeys+id)
		if err != nil {
			return m.unreachable("the role of a host cannot be changed", err)
		}
		h, valid := decode[Host](e.Value)
		if !ok || !valid {
			return cnm.NotFound("no host %s in the mesh", id)
		}
		if h.Role == role {
			return nil
		}
		h.Role = role
		_, err = m.commit(ctx, store.Op{Key: hostKeys + id, Value: encode(h), Guard: true, IfRev: e.Rev})
		if !errors.Is(err, store.ErrCompare) {
			return m.unreachable("the role of host "+h.Name+" cannot be changed", err)
		}
		if err := pause(ctx, retry(min(try, 5))); err != nil {
			return err
		}
	}
}

// sweepAll finishes removals that somebody did not.
func (m *Mesh) sweepAll(ctx context.Context) error {
	all, _, err := m.list(ctx, sweepKeys)
	if err != nil {
		return err
	}
	for _, e := range all {
		if s, ok := decode[sweep](e.Value); ok {
			if err := m.sweep(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep takes away what a removal left. Nothing new comes below: the key that guards it
// is gone. Everyone may sweep at the same time.
func (m *Mesh) sweep(ctx context.Context, s sweep) error {
	guard, id := networkKeys+s.Network, s.Network
	if s.Host != "" {
		guard, id = hostKeys+s.Host, s.Host
	}
	e, there, err := m.get(ctx, guard)
	if err != nil {
		return err
	}
	if there { // it was put back: only the order to sweep goes
		_, err := m.commit(ctx, unchanged(guard, e.Rev), store.Op{Key: sweepKeys + id})
		return ignoreCompare(err)
	}
	gone := store.Op{Key: guard, Guard: true, Keep: true}
	if s.Network != "" {
		err = m.sweepNetwork(ctx, s.Network, gone)
	} else {
		err = m.sweepHost(ctx, s.Host, gone)
	}
	if err != nil {
		return ignoreCompare(err)
	}
	_, err = m.commit(ctx, gone, store.Op{Key: sweepKeys + id})
	return ignoreCompare(err)
}

func ignoreCompare(err error) error {
	if errors.Is(err, store.ErrCompare) {
		return nil // it is somebody's again; the order stays for the next look
	}
	return err
}

// sweepNetwork leaves blocks, and titles to single addresses, to those whose they are
// (giveBack), or to who forgets them: one that is cut off may be using them in this
// moment, and another that is may put the network back.
func (m *Mesh) sweepNetwork(ctx context.Context, network string, gone store.Op) error {
	for _, prefix := range []string{endpointKeys, presentKeys} {
		if err := m.sweepKeys(ctx, gone, prefix+network+"/", func(store.Entry) bool { return true }); err != nil {
			return err
		}
	}
	_, err := m.commit(ctx, gone, store.Op{Key: memberKeys + network})
	return err
}

func (m *Mesh) sweepHost(ctx context.Context, host string, gone store.Op) error {
	last := func(e store.Entry) bool { return strings.HasSuffix(e.Key, "/"+host) }
	if err := m.sweepKeys(ctx, gone, endpointKeys, func(e store.Entry) bool {
		s, ok := parts(e.Key, endpointKeys, 3)
		return ok && s[1] == host
	}); err != nil {
		return err
	}
	if err := m.sweepKeys(ctx, gone, presentKeys, last); err != nil {
		return err
	}
	if err := m.sweepKeys(ctx, gone, askKeys, func(e store.Entry) bool {
		k, _ := decode[ask](e.Value)
		return k.By == host
	}); err != nil {
		return err
	}
	return m.sweepBlocks(ctx, host, gone)
}

// sweepKeys deletes the keys under a prefix that are to go, each only if it is as it
// was seen.
func (m *Mesh) sweepKeys(ctx context.Context, gone store.Op, prefix string, which func(store.Entry) bool) error {
	all, _, err := m.list(ctx, prefix)
	if err != nil {
		return err
	}
	var ops []store.Op
	for _, e := range all {
		if which(e) {
			ops = append(ops, store.Op{Key: e.Key})
		}
	}
	return m.commitAll(ctx, []store.Op{gone}, ops)
}

// commitAll writes any number of operations, in as many commits as they need, the guards
// in each.
func (m *Mesh) commitAll(ctx context.Context, guards, ops []store.Op) error {
	for some := range slices.Chunk(ops, m.cfg.BatchOps-len(guards)) {
		if _, err := m.commit(ctx, slices.Concat(guards, some)...); err != nil {
			return err
		}
	}
	return nil
}

// sweepBlocks frees a host's blocks. One in which another host was granted addresses
// becomes that host's: a block that is free has no one's addresses in it.
func (m *Mesh) sweepBlocks(ctx context.Context, host string, gone store.Op) error {
	blocks, _, err := m.list(ctx, blockKeys)
	if err != nil {
		return err
	}
	asks, _, err := m.list(ctx, askKeys)
	if err != nil {
		return err
	}
	type title struct {
		addr  netip.Addr
		entry store.Entry
		by    string
	}
	titles := map[string][]title{}
	for _, e := range asks {
		if network, a, ok := splitAsk(e.Key); ok {
			if k, _ := decode[ask](e.Value); k.State == granted && k.By != host {
				titles[network] = append(titles[network], title{a, e, k.By})
			}
		}
	}
	for _, e := range blocks {
		network, p, ok := splitBlock(e.Key)
		if !ok || string(e.Value) != host {
			continue
		}
		ops := []store.Op{gone, {Key: e.Key, Guard: true, IfRev: e.Rev}}
		heirs := map[string]store.Entry{}
		for _, t := range titles[network] {
			if p.Contains(t.addr) {
				heirs[t.by] = t.entry
			}
		}
		if len(heirs) > 0 {
			heir := slices.Min(slices.Collect(maps.Keys(heirs)))
			h, there, err := m.get(ctx, hostKeys+heir)
			if err != nil {
				return err
			}
			if !there {
				return store.ErrCompare // it is being forgotten too: the next look
			}
			ops[1].Value = []byte(heir)
			ops = append(ops,
				unchanged(hostKeys+heir, h.Rev),
				unchanged(heirs[heir].Key, heirs[heir].Rev))
		}
		if _, err := m.commit(ctx, ops...); err != nil {
			return err
		}
	}
	return nil
}
