package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/ipam"
	"linkspan/store"
)

// Create claims a global network for all hosts: name, subnets and VNIs, in one commit.
// It completes n.
func (m *Mesh) Create(ctx context.Context, n *cnm.Network, bases []ipam.Base, avoid *ipam.Space) error {
	if n.Name == "" || strings.Contains(n.Name, "/") {
		return cnm.Invalid("%q cannot be a network's name", n.Name)
	}
	what := fmt.Sprintf("network %s cannot be created for all hosts", n.Name)
	c := *n
	c.Pools = append([]cnm.Pool(nil), n.Pools...)
	c.VNIs = append([]uint32(nil), n.VNIs...)
	if c.ID == "" {
		c.ID = NewID() + NewID() + NewID() + NewID()
	}
	if c.Created.IsZero() {
		c.Created = time.Now().UTC()
	}
	c.Scope = cnm.ScopeGlobal
	for try := 0; ; try++ {
		made, err := m.create(ctx, c, bases, avoid, try)
		if err == nil {
			*n = made
			return nil
		}
		if !errors.Is(err, store.ErrCompare) {
			return m.unreachable(what, err)
		}
		if try == 100 {
			return cnm.Errorf(cnm.ErrUnavailable, "%s: others made networks a hundred times meanwhile; try again", what)
		}
		if err := pause(ctx, retry(min(try, 5))); err != nil {
			return err
		}
	}
}

func (m *Mesh) create(ctx context.Context, n cnm.Network, bases []ipam.Base, avoid *ipam.Space, try int) (cnm.Network, error) {
	if try > 0 {
		m.mu.Lock()
		m.selfRev = 0
		m.mu.Unlock()
	}
	n.Pools = append([]cnm.Pool(nil), n.Pools...) // what one attempt chose is not the next one's wish
	n.VNIs = append([]uint32(nil), n.VNIs...)
	if err := m.settle(ctx); err != nil {
		return n, err
	}
	if err := m.settled("network " + n.Name); err != nil {
		return n, err
	}
	space, networks, hosts, err := m.spaceNow(ctx)
	if err != nil {
		return n, err
	}
	if e, ok, err := m.get(ctx, netNameKeys+n.Name); err != nil {
		return n, err
	} else if ok && string(e.Value) == n.ID { // an answer that was lost
		if e, ok, err := m.get(ctx, networkKeys+n.ID); err != nil || ok {
			made, _ := decode[cnm.Network](e.Value)
			return made, err
		}
	} else if ok {
		return n, cnm.Conflict("network with name %s already exists in the mesh (id %.12s); choose another name, or remove it with docker network rm %s", n.Name, e.Value, n.Name)
	}
	for i := range n.Pools {
		if err := subnetFor(&n, i, bases, avoid, networks, hosts); err != nil {
			return n, err
		}
		networks.Add(n.Pools[i].Subnet, "network "+n.Name)
	}
	v, _ := decode[spaceValue](space.Value)
	v.Count++
	if err := m.vnisFor(ctx, &n, &v); err != nil {
		return n, err
	}
	m.mu.Lock()
	ops := []store.Op{m.guardSelf(), unchanged(recordKey, m.recordRev)}
	m.mu.Unlock()
	ops = append(ops,
		store.Op{Key: networkKeys + n.ID, Value: encode(&n), Guard: true},
		store.Op{Key: netNameKeys + n.Name, Value: []byte(n.ID), Guard: true},
		store.Op{Key: spaceKey, Value: encode(v), Guard: true, IfRev: space.Rev},
		m.bumpMembers(n.ID))
	for _, v := range distinct(n.VNIs) {
		ops = append(ops, store.Op{Key: vniKey(v), Value: []byte(n.ID), Guard: true})
	}
	rev, err := m.commit(ctx, ops...)
	if err != nil && !errors.Is(err, store.ErrCompare) {
		if e, ok, again := m.get(ctx, networkKeys+n.ID); again == nil && ok {
			rev, err = e.Rev, nil
		}
	}
	if err != nil {
		return n, err
	}
	m.mu.Lock()
	if m.netRevs[n.ID] == 0 { // known here before the watch tells
		m.netRevs[n.ID] = rev
	}
	m.mu.Unlock()
	m.log.Info("network created for all hosts", "network", n.Name, "subnets", subnets(&n), "vnis", n.VNIs)
	return n, nil
}

func subnets(n *cnm.Network) (out []netip.Prefix) {
	for _, p := range n.Pools {
		out = append(out, p.Subnet)
	}
	return out
}

// subnetFor fills in a pool: its subnet, if none was wished, and its gateway.
func subnetFor(n *cnm.Network, i int, bases []ipam.Base, avoid, networks, hosts *ipam.Space) error {
	p := &n.Pools[i]
	if avoid == nil {
		avoid = &ipam.Space{}
	}
	if !p.Subnet.IsValid() {
		v4 := i == 0 && !n.NoIPv4
		// What overlaps any host's own is taken, as if a network had it.
		s, err := chooseSubnet(bases, v4, avoid, networks, hosts)
		if err != nil {
			return err
		}
		p.Subnet = s
	} else {
		for _, u := range []struct {
			space *ipam.Space
			cure  string
		}{
			{avoid, "choose another subnet, or leave --subnet away to have a free one"},
			{networks, "choose another subnet, or leave --subnet away to have a free one"},
			{hosts, "its containers could not tell the two apart; choose another subnet, or leave --subnet away to have a free one"},
		} {
			if with, who, ok := u.space.Overlap(p.Subnet); ok {
				return cnm.Errorf(cnm.ErrForbidden, "invalid pool request: Pool overlaps with other one on this address space: subnet %s of network %s overlaps %s, which is in use by %s; %s",
					p.Subnet, n.Name, with, who, u.cure)
			}
		}
	}
	if !p.Gateway.IsValid() {
		taken := map[netip.Addr]bool{}
		for _, a := range p.Aux {
			taken[a] = true
		}
		for p.Gateway = ipam.FirstHost(p.Subnet); taken[p.Gateway]; {
			p.Gateway = p.Gateway.Next()
		}
	}
	return ipam.Validate(*p)
}

// chooseSubnet is ipam.Choose with three spaces to avoid.
func chooseSubnet(bases []ipam.Base, v4 bool, avoid, networks, hosts *ipam.Space) (netip.Prefix, error) {
	var rejected []netip.Prefix
	defer func() {
		for _, p := range rejected {
			networks.Remove(p)
		}
	}()
	for {
		p, err := ipam.Choose(bases, v4, networks, avoid)
		if err != nil {
			return p, err
		}
		with, who, overlaps := hosts.Overlap(p)
		if !overlaps {
			return p, nil
		}
		// The larger of the two: a LAN of /8 is not met subnet by subnet.
		if with.Bits() > p.Bits() {
			with = p
		}
		networks.Add(with, who)
		rejected = append(rejected, with)
	}
}

// vnisFor fills in the numbers on the wire: wished ones must be free, and all that are
// not wished are one, the next.
func (m *Mesh) vnisFor(ctx context.Context, n *cnm.Network, v *spaceValue) error {
	choose := false
	for _, w := range n.VNIs {
		switch {
		case w == 0:
			choose = true
		case w >= 1<<24:
			return cnm.Invalid("network %s: VNI %d has more than 24 bits (RFC 7348); give one up to %d", n.Name, w, 1<<24-1)
		}
	}
	if len(n.VNIs) == 0 {
		return nil
	}
	all, _, err := m.list(ctx, vniKeys)
	if err != nil {
		return err
	}
	taken := map[uint32]string{}
	for _, e := range all {
		if k, err := strconv.ParseUint(strings.TrimPrefix(e.Key, vniKeys), 10, 32); err == nil {
			taken[uint32(k)] = string(e.Value)
		}
	}
	for _, w := range n.VNIs {
		if by := taken[w]; w != 0 && by != "" {
			return cnm.Conflict("network %s: VNI %d is taken by %s; choose another with -o com.docker.network.driver.overlay.vxlanid_list, or leave it away to have a free one", n.Name, w, m.holderOf(ctx, by))
		}
	}
	if !choose {
		return nil
	}
	next := max(v.VNI, firstVNI-1)
	for range lastVNI - firstVNI + 1 {
		if next++; next > lastVNI {
			next = firstVNI
		}
		if taken[next] == "" {
			break
		}
	}
	if taken[next] != "" {
		return cnm.Errorf(cnm.ErrExhausted, "network %s: all VNIs from %d to %d are taken; remove networks, or give one with -o com.docker.network.driver.overlay.vxlanid_list", n.Name, firstVNI, lastVNI)
	}
	v.VNI = next
	for i, w := range n.VNIs {
		if w == 0 {
			n.VNIs[i] = next
		}
	}
	return nil
}

// holderOf says in words who has a VNI.
func (m *Mesh) holderOf(ctx context.Context, id string) string {
	if id == recordKey {
		return "the mesh's routed networks"
	}
	if e, ok, err := m.get(ctx, networkKeys+id); err == nil && ok {
		if n, valid := decode[cnm.Network](e.Value); valid {
			return "network " + n.Name
		}
	}
	return fmt.Sprintf("network %.12s", id)
}
