package linux

import (
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// How long a burst of messages about our links is waited for before it is judged: the
// kernel tells one change in several, and our own operations take more than one.
const (
	linkQuiet   = 2 * time.Millisecond
	linkPatient = 10 * time.Millisecond
)

// linkWatch judges what rtnetlink tells.
type linkWatch struct {
	k               *Kernel
	l               *listener
	rt              *rtnl
	bridges, routes chan<- struct{}
	links           chan<- struct{} // others' links changed; nil: nobody asks
	tell            func(dataplane.Touch)

	// known are the links that carry our mark, and those about to be deleted, by index:
	// once a link is gone, its addresses' messages do not say whose it was.
	known map[int]*knownLink
	// The burst that is under way: what may have been touched, by link index or name.
	since, until time.Time
	pending      map[int]bool
	names        map[string]bool
	sure         map[int]bool // pending, and no operation of ours explains it
	neigh        neighWatch
	others       map[int]otherLink
}

type knownLink struct {
	link
	doomed bool
}

// otherLink is what is compared of a link that is not ours.
type otherLink struct {
	name string
	mtu  int
	up   uint32
}

func otherOf(l *link) otherLink {
	return otherLink{l.name, l.mtu, l.flags & (unix.IFF_UP | unix.IFF_LOWER_UP)}
}

func (w *linkWatch) open() (err error) {
	w.others = map[int]otherLink{}
	w.known, w.pending, w.sure, w.names = map[int]*knownLink{}, map[int]bool{}, map[int]bool{}, map[string]bool{}
	groups := []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
	if w.links == nil { // who asks for the underlay alone has no part in ways
		groups = append(groups, unix.RTNLGRP_NEIGH)
	}
	if w.l, err = newListener(unix.NETLINK_ROUTE, groups...); err != nil {
		return err
	}
	if w.rt, err = newRTNL(); err != nil {
		return err
	}
	return w.look()
}

// look reads all links: which are ours.
func (w *linkWatch) look() error {
	all, err := w.rt.links()
	for _, l := range all {
		if w.ours(l) {
			w.known[l.index] = &knownLink{*l, l.group == w.k.doom}
		} else {
			w.others[l.index] = otherOf(l)
		}
	}
	if err != nil || w.links != nil {
		return err
	}
	return w.neigh.look(w.rt, func(i int) bool { return w.known[i] != nil })
}

func (w *linkWatch) close() {
	if w.l != nil {
		w.l.close()
	}
}

func (w *linkWatch) run() {
	defer w.rt.close()
	w.k.hear("links, addresses and routes", w.l, w.message, w.lost, func() time.Time { return w.until }, w.settle)
}

func (w *linkWatch) ours(l *link) bool { return w.k.mine(l) || l.group == w.k.doom }

// lost: something was not heard, so anything may have happened.
func (w *linkWatch) lost() {
	if w.links == nil {
		w.k.ways.lost()
	}
	clear(w.known)
	_ = w.look() // what is not known is looked up when it is met
	token(w.bridges)
	token(w.routes)
	w.tell(dataplane.Touch{All: true})
}

// message judges one message, for all who want to know.
func (w *linkWatch) message(h unix.NlMsghdr, m []byte) {
	switch h.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m) >= unix.SizeofIfInfomsg {
			w.linkMessage(h.Type == unix.RTM_DELLINK, parseLink(m), nl.DeserializeIfInfomsg(m).Family)
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		w.neighMessage(h.Pid, h.Type == unix.RTM_DELNEIGH, m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m) >= unix.SizeofIfAddrmsg {
			// The kernel's own (no sender): it makes link-local ones when a link comes up, and
			// takes others away when somebody switches IPv6 off.
			a := nl.DeserializeIfAddrmsg(m)
			w.onLink(h.Pid, int(a.Index), h.Pid != 0 || h.Type == unix.RTM_DELADDR && a.Scope == unix.RT_SCOPE_UNIVERSE)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m) < unix.SizeofRtMsg {
			return
		}
		r, ok := parseRoute(m)
		index := r.index
		if ok && w.k.marked(r) {
			if h.Type == unix.RTM_DELROUTE && !w.own(h.Pid) {
				t := dataplane.Touch{Routes: r.unreachable}
				if !r.unreachable {
					t.Links = map[string]bool{w.others[index].name: true}
				}
				w.tell(t)
			}
			return
		}
		if !ok {
			eachAttr(m[unix.SizeofRtMsg:], func(t int, b []byte) {
				if t == unix.RTA_OIF && len(b) >= 4 {
					index = int(nl.NativeEndian().Uint32(b))
				}
			})
		}
		// What the kernel takes away itself, with an address or a link, is told of these.
		w.onLink(h.Pid, index, h.Type == unix.RTM_DELROUTE && h.Pid != 0)
		if h.Type == unix.RTM_NEWROUTE && h.Flags&unix.NLM_F_REPLACE != 0 && !w.own(h.Pid) {
			// It took the place of one that is not told of: perhaps a bridge's.
			for i, l := range w.known {
				if l.kind == "bridge" {
					w.touch(i)
					w.sure[i] = true
				}
			}
		}
	}
}

func (w *linkWatch) own(pid uint32) bool {
	return pid != 0 && (pid == w.k.rt.pid || pid == w.k.late.pid)
}

// onLink judges an address or route: who else uses the host's, and what of ours was
// touched.
func (w *linkWatch) onLink(pid uint32, index int, touches bool) {
	if !w.isOurs(index) {
		token(w.routes)
	} else if touches && !w.own(pid) {
		w.touch(index)
		w.sure[index] = true
	}
}

// isOurs looks a link up that was not met yet.
func (w *linkWatch) isOurs(index int) bool {
	if index == 0 {
		return false
	}
	if w.known[index] != nil {
		return true
	}
	l, err := w.rt.linkByIndex(index)
	if err != nil || l == nil || !w.ours(l) {
		return false
	}
	w.known[index] = &knownLink{*l, l.group == w.k.doom}
	return true
}

// linkMessage judges what a link is now. Messages of the bridge's own family tell of
// the port alone, and that a port left its bridge as if it had been deleted.
func (w *linkWatch) linkMessage(gone bool, l *link, family uint8) {
	had := w.known[l.index]
	if family == unix.AF_BRIDGE {
		if had != nil && !gone {
			had.port = l.port
			w.touch(l.index)
		}
		return
	}
	if l.kind == "bridge" && !w.ours(l) {
		token(w.bridges)
	}
	w.other(gone, l)
	switch {
	case gone:
		if had != nil && !had.doomed {
			w.touch(l.index)
			w.names[had.name], w.names[l.name] = true, true
		}
		delete(w.known, l.index)
		if had != nil && had.kind != "veth" && w.links == nil { // those have no entries, and come and go
			w.neigh.forget(l.index)
			w.k.ways.forget(l.index)
		}
	case !w.ours(l):
		if had != nil && !had.doomed { // somebody took our mark off
			w.touch(l.index)
			w.names[had.name] = true
		}
		delete(w.known, l.index)
	default:
		if had != nil && !had.doomed {
			if had.name != l.name && l.group != w.k.doom {
				w.names[had.name] = true
			}
			// A sandbox's people moved the other end out of it.
			if had.peerNS >= 0 && had.peerNS != l.peerNS {
				w.sure[l.index] = true
			}
		}
		w.known[l.index] = &knownLink{*l, l.group == w.k.doom}
		w.touch(l.index)
	}
}

// other judges a link that is not ours.
func (w *linkWatch) other(gone bool, l *link) {
	was, known := w.others[l.index]
	if gone || w.ours(l) {
		delete(w.others, l.index)
		if known && w.links != nil {
			token(w.links)
		}
		return
	}
	if now := otherOf(l); !known || now != was {
		w.others[l.index] = now
		if w.links != nil {
			token(w.links)
		}
	}
	// A feature of it may have been switched, which the message does not say, or its routes
	// went with it.
	if w.k.borrowed.has(l.name) {
		w.names[l.name] = true
		w.touch(l.index)
	}
}

// touch says that a link of ours is to be judged when the burst is over.
func (w *linkWatch) touch(index int) {
	now := time.Now()
	if w.until.IsZero() {
		w.since = now
	}
	w.pending[index] = true
	if w.until = now.Add(linkQuiet); w.until.After(w.since.Add(linkPatient)) {
		w.until = w.since.Add(linkPatient)
	}
}

// settle judges a burst: links that are as our own operations left them are no news.
func (w *linkWatch) settle() {
	t := dataplane.Touch{Links: map[string]bool{}}
	for name := range w.names {
		t.Links[name] = true
	}
	clear(w.names)
	for i := range w.pending {
		l := w.known[i]
		if l != nil && !l.doomed && w.k.made.isBusy(l.name) {
			continue // we are at it: judged when that is done
		}
		if l != nil && !l.doomed && (w.sure[i] || !w.k.asMade(&l.link)) {
			t.Links[l.name] = true
		}
		delete(w.pending, i)
		delete(w.sure, i)
	}
	w.until = time.Time{}
	if len(w.pending) > 0 {
		w.since = time.Now()
		w.until = w.since.Add(linkQuiet)
	}
	w.tell(t)
}
