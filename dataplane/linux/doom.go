package linux

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// Deleting a veth takes 20-30 ms (RCU), so a request only takes it out of use:
// down, without master, in the doomed group, under a name that frees its own; the
// background deletes the group. The peer in a sandbox that lives on is put out of the
// way likewise, so that the sandbox can be plugged into the next network at once. In
// a sandbox that goes in the same call it needs nothing.

// unplug takes a veth out of use. The caller holds hostMu.
func (a *applier) unplug(o dataplane.Veth) error {
	k := a.k
	l, err := k.mineByName(o.Name)
	if err != nil || l == nil {
		return err
	}
	if s := a.inside[o.PeerNS]; s != nil {
		clear(s.links)
	}
	// Two messages, since kernels before 6.2 rename only what is down already.
	err = k.rt.set(l.index, o.Name, 0, unix.IFF_UP, u32(unix.IFLA_MASTER, 0), u32(unix.IFLA_GROUP, k.doom))
	if err != nil {
		return gone(err) // its namespace went in between, and took it along
	}
	k.back.doomed()
	k.point("between doom and rename link " + o.Name)
	if l.kind == "veth" && o.PeerNS != "" && !a.dying[o.PeerNS] {
		a.putAway(l, o.PeerNS)
	}
	return k.freeName(l)
}

// putAway takes the peer of a doomed veth out of the sandbox's way: down, so that
// its routes are gone, without addresses, and renamed. Whatever fails here ends with
// the deletion. (Moving it out of the namespace would hide it, and takes 20 ms.)
func (a *applier) putAway(l *link, ns string) {
	s, err := a.sandbox(ns)
	if err == nil && !a.peerIsIn(l, ns) {
		return
	}
	if err == nil {
		err = s.rt.set(l.peer, "", 0, unix.IFF_UP)
	}
	if err == nil {
		err = s.rt.dropAddrs(l.peer)
	}
	if err == nil {
		err = s.rt.set(l.peer, "", 0, 0, str(unix.IFLA_IFNAME, doomedName(l.peer)))
	}
	if gone(err) != nil {
		a.k.log.Debug("peer of a deleted link is still in its sandbox's way", "sandbox", ns, "link", l.name, "err", err)
	}
}

// clearDoomedPeer deletes, at once, a pair whose peer holds the name that is
// wanted in the sandbox, when its host end is doomed: a kill had come in between.
func (a *applier) clearDoomedPeer(o dataplane.Veth) bool {
	s, err := a.sandbox(o.PeerNS)
	if err != nil {
		return false
	}
	p, err := s.rt.linkByName(o.PeerName)
	if err != nil || p == nil {
		return err == nil // gone meanwhile
	}
	l, err := a.k.rt.linkByIndex(p.peer)
	if err != nil || l == nil || l.group != a.k.doom || l.peer != p.index || !a.peerIsIn(l, o.PeerNS) {
		return false
	}
	return gone(a.k.rt.delLink(l.index)) == nil
}

// unplugBridge takes a bridge out of use: its deletion waits for RCU as a veth's
// does, and whoever removes a network need not. Down, it has no routes; ports that
// are still on it leave it with the deletion, or for another master before. The
// caller holds hostMu.
func (k *Kernel) unplugBridge(name string) error {
	l, err := k.mineByName(name)
	if err != nil || l == nil {
		return err
	}
	if err := k.rt.set(l.index, name, 0, unix.IFF_UP, u32(unix.IFLA_GROUP, k.doom)); err != nil {
		return gone(err)
	}
	k.back.doomed()
	k.point("between doom and rename link " + name)
	return k.freeName(l)
}

// mineByName finds what is to be deleted. A stranger that holds the name now is left
// alone, ours being gone.
func (k *Kernel) mineByName(name string) (*link, error) {
	l, err := k.rt.linkByName(name)
	if err != nil || l == nil {
		return nil, err
	}
	if l.group == k.group {
		return l, nil
	}
	if l.group == k.doom {
		return nil, k.freeName(l)
	}
	k.log.Info("link is not ours any more, left alone", "link", name, "is", l.what())
	return nil, nil
}

// freeName renames a doomed link to what nobody wants.
func (k *Kernel) freeName(l *link) error {
	return gone(k.rt.set(l.index, l.name, 0, 0, str(unix.IFLA_IFNAME, doomedName(l.index))))
}

// doomedName is unique in a namespace, as indexes are.
func doomedName(index int) string { return fmt.Sprintf("lsd%d", index) }

// gone takes "no such device" as success.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
