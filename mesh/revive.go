package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
)

// revive puts back a network that is gone from the store while this host has endpoints
// on it: it was removed while this host was cut off, or the store was restored.
func (m *Mesh) revive(ctx context.Context, o *ownNet) error {
	m.mu.Lock()
	n := *o.Network
	guard := m.guardSelf()
	m.mu.Unlock()
	if n.Name == "" || n.Driver == "" {
		return cnm.Conflict("network %s is not in the store any more, and its definition is not known here", n.ID)
	}
	for try := range 20 {
		space, networks, hosts, err := m.spaceNow(ctx)
		if err != nil {
			return err
		}
		for _, p := range n.Pools {
			if with, who, ok := networks.Overlap(p.Subnet); ok {
				return cnm.Conflict("network %s cannot be put back: its subnet %s overlaps %s of %s, made meanwhile; remove one of the two", n.Name, p.Subnet, with, who)
			}
			_ = hosts // who joined meanwhile was checked against the networks that there were: the older wins
		}
		ops := []store.Op{guard,
			{Key: networkKeys + n.ID, Value: encode(&n), Guard: true},
			{Key: netNameKeys + n.Name, Value: []byte(n.ID), Guard: true},
			{Key: spaceKey, Value: bump(space.Value), Guard: true, IfRev: space.Rev},
			m.bumpMembers(n.ID)}
		for _, v := range distinct(n.VNIs) {
			ops = append(ops, store.Op{Key: vniKey(v), Value: []byte(n.ID), Guard: true})
		}
		fixed := len(ops)
		ops = append(ops, m.revived(o, m.cfg.BatchOps-fixed)...)
		rev, err := m.commit(ctx, ops...)
		if err == nil {
			m.mu.Lock()
			m.netRevs[n.ID] = rev
			o.stuck = ""
			m.mu.Unlock()
			m.log.Warn("a network that was removed elsewhere is in use here, and was put back", "network", n.Name)
			return nil
		}
		if !errors.Is(err, store.ErrCompare) {
			return err
		}
		for _, op := range ops[1:fixed] {
			if e, ok, err := m.get(ctx, op.Key); err != nil {
				return err
			} else if op.Guard && op.IfRev == 0 && ok && op.Key != spaceKey {
				if op.Key == networkKeys+n.ID {
					m.mu.Lock()
					m.netRevs[n.ID] = e.Rev
					m.mu.Unlock()
					return nil // another host was faster
				}
				if string(e.Value) != n.ID {
					return cnm.Conflict("network %s cannot be put back: %s is taken by %s, made meanwhile; remove one of the two", n.Name, taken(op.Key), m.holderOf(ctx, string(e.Value)))
				}
			}
		}
		if h, ok, err := m.get(ctx, hostKeys+m.id); err != nil {
			return err
		} else if !ok {
			return store.ErrCompare
		} else {
			guard.IfRev = h.Rev
		}
		if err := pause(ctx, retry(try)); err != nil {
			return err
		}
	}
	return store.ErrCompare
}

// taken says in words what a key stands for.
func taken(key string) string {
	if name, ok := strings.CutPrefix(key, netNameKeys); ok {
		return "the name " + name
	}
	return "VNI " + strings.TrimPrefix(key, vniKeys)
}

// revived are this host's presence, blocks and borrowed addresses, to be written with
// the network itself, so that nobody claims them in between.
func (m *Mesh) revived(o *ownNet, most int) (ops []store.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	network := o.Network.ID
	ops = append(ops, store.Op{Key: presentKey(network, m.id), Value: []byte("{}")})
	for _, p := range o.Blocks {
		ops = append(ops, store.Op{Key: blockKey(network, p), Value: []byte(m.id)})
	}
	for _, a := range o.Singles {
		ops = append(ops, store.Op{Key: askKey(network, a), Value: encode(ask{By: m.id, Name: m.self.Name, State: granted})})
	}
	return ops[:min(len(ops), most)]
}

// spaceNow is what is used in the whole mesh: by networks, and by hosts themselves.
// entry is the key whose revision guards that it is still so.
func (m *Mesh) spaceNow(ctx context.Context) (entry store.Entry, networks, hosts *ipam.Space, err error) {
	if entry, _, err = m.get(ctx, spaceKey); err != nil {
		return entry, nil, nil, err
	}
	networks, hosts = &ipam.Space{}, &ipam.Space{}
	all, _, err := m.list(ctx, networkKeys)
	if err != nil {
		return entry, nil, nil, err
	}
	for _, e := range all {
		n, _ := decode[cnm.Network](e.Value)
		for _, p := range n.Pools {
			networks.Add(p.Subnet, "network "+n.Name)
		}
	}
	if all, _, err = m.list(ctx, hostKeys); err != nil {
		return entry, nil, nil, err
	}
	for _, e := range all {
		h, _ := decode[Host](e.Value)
		if h.ID == m.id {
			continue // its own it knows best
		}
		for _, u := range h.Prefixes {
			if !ipam.DefaultRoute(u.Prefix) {
				hosts.Add(u.Prefix, fmt.Sprintf("host %s itself (%s)", h.Name, u.What))
			}
		}
	}
	return entry, networks, hosts, nil
}

// spaceValue is what the space key holds.
type spaceValue struct {
	// Count makes every value another.
	Count int `json:"count"`
	// VNI is the last that was chosen: numbers go round, so that one is not given to
	// another network while some host is cut off and still has it.
	VNI uint32 `json:"vni,omitempty"`
}

func bump(value []byte) []byte {
	v, _ := decode[spaceValue](value)
	v.Count++
	return encode(v)
}

func distinct(vnis []uint32) []uint32 {
	out := slices.Clone(vnis)
	slices.Sort(out)
	return slices.Compact(slices.DeleteFunc(out, func(v uint32) bool { return v == 0 }))
}
