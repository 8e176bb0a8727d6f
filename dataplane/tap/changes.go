package tap

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/reading"
)

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctNew    = 0
	ctDelete = 2
)

// changeGroups are the kernel's: it makes no messages that nobody listens to.
var changeGroups = map[string]int{reading.FlowNew: unix.NFNLGRP_CONNTRACK_NEW, reading.FlowUpdate: unix.NFNLGRP_CONNTRACK_UPDATE,
	reading.FlowDestroy: unix.NFNLGRP_CONNTRACK_DESTROY}

// Changes follows conntrack's events. With net.netfilter.nf_conntrack_events at its
// default (2: only while someone listens), a flow that began before is silent.
func (t *Tap) Changes(ctx context.Context, ns string, kinds []string, fn func(batch []reading.FlowChange, lost int)) error {
	if t.cfg.FlowOf == nil {
		return errors.New("conntrack events: nobody decodes them")
	}
	var groups []int
	for kind, group := range changeGroups {
		if len(kinds) == 0 || slices.Contains(kinds, kind) {
			groups = append(groups, group)
		}
	}
	l, err := listen(ns, "conntrack events", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, func(fd int) error {
		return bind(fd, groups...)
	})
	if err != nil {
		return err
	}
	var batch []reading.FlowChange
	return l.messages(ctx, func(typ, flags uint16, body []byte) {
		kind := changeKind(typ, flags)
		if kind == "" {
			return
		}
		if flow, ok := t.cfg.FlowOf(body); ok {
			batch = append(batch, reading.FlowChange{Kind: kind, Time: time.Now(), Flow: flow})
		}
	}, func() {
		if len(batch) > 0 {
			fn(batch, 0)
			batch = nil
		}
	}, func() { fn(nil, 1) })
}

// changeKind: a new entry and a changed one differ by a flag (ctnetlink_conntrack_event).
func changeKind(typ, flags uint16) string {
	switch {
	case typ == unix.NFNL_SUBSYS_CTNETLINK<<8|ctDelete:
		return reading.FlowDestroy
	case typ == unix.NFNL_SUBSYS_CTNETLINK<<8|ctNew && flags&unix.NLM_F_CREATE != 0:
		return reading.FlowNew
	case typ == unix.NFNL_SUBSYS_CTNETLINK<<8|ctNew:
		return reading.FlowUpdate
	}
	return ""
}
