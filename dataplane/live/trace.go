package live

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

// tracer watches one namespace for a probe.
type tracer struct {
	ns     string
	table  string
	rules  *ruleset.Ruleset
	nft    *nfnl.Conn // owns the table
	events int        // a socket in the trace group
	links  map[int]string

	seen []event
}

// event is one NFT_MSG_TRACE.
type event struct {
	family, table, chain string
	handle               uint64
	kind                 uint32 // 1: policy, 2: return, 3: rule
	verdict              int32
	jump                 string
	policy               uint32
	id                   uint32
	in, out              int
	mark                 uint32
}

const (
	tracePolicy = 1
	traceReturn = 2
	traceRule   = 3
)

// newTracer reads the ruleset, subscribes and sets the trap.
func (k *Kernel) newTracer(ctx context.Context, ns, table string, w wanted) (t *tracer, err error) {
	t = &tracer{ns: ns, table: table, events: -1}
	if t.rules, err = k.Ruleset(ctx, ns); err != nil {
		return nil, err
	}
	t.rules = without(t.rules)
	if err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) (err error) {
		t.links, err = names(ctx, c)
		return err
	}); err != nil {
		return nil, err
	}
	err = within(ns, func() (err error) {
		if t.nft, err = nfnl.Open(unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		t.events, err = subscribe()
		return err
	})
	if err == nil {
		err = tracing(ctx, t.nft, table, w)
	}
	if err != nil {
		return nil, place(ns, errors.Join(err, t.close(ctx)))
	}
	return t, nil
}

// subscribe opens a socket of the trace group (nfnetlink.h: NFNLGRP_NFTRACE).
func subscribe() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	for _, err := range []error{unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTRACE)} {
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// collect reads what has been told until now: the kernel tells of a rule while it works
// on the packet, so before any answer to it.
func (t *tracer) collect() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(t.events, buf, unix.MSG_DONTWAIT)
		if err == unix.EINTR || err == unix.ENOBUFS {
			continue // ENOBUFS is told once: events were lost, the rest is there
		}
		if err != nil {
			return
		}
		nfnl.Messages(buf[:n], func(typ uint16, b []byte) {
			if typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE && len(b) >= nfnl.GenSize {
				t.seen = append(t.seen, eventOf(b))
			}
		})
	}
}

func (t *tracer) close(ctx context.Context) error {
	var err error
	if t.nft != nil {
		err = untrace(context.WithoutCancel(ctx), t.nft, t.table)
		t.nft.Close()
	}
	if t.events >= 0 {
		unix.Close(t.events)
	}
	return place(t.ns, err)
}

func eventOf(b []byte) (e event) {
	e.family = ruleset.FamilyName(b[0])
	nfnl.Each(b[nfnl.GenSize:], func(typ uint16, d []byte) {
		switch typ {
		case unix.NFTA_TRACE_TABLE:
			e.table = nfnl.Str(d)
		case unix.NFTA_TRACE_CHAIN:
			e.chain = nfnl.Str(d)
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.handle = nfnl.BE(d)
		case unix.NFTA_TRACE_TYPE:
			e.kind = uint32(nfnl.BE(d))
		case unix.NFTA_TRACE_POLICY:
			e.policy = uint32(nfnl.BE(d))
		case unix.NFTA_TRACE_ID:
			e.id = uint32(nfnl.BE(d))
		case unix.NFTA_TRACE_IIF:
			e.in = int(nfnl.BE(d))
		case unix.NFTA_TRACE_OIF:
			e.out = int(nfnl.BE(d))
		case unix.NFTA_TRACE_MARK:
			e.mark = uint32(nfnl.BE(d))
		case unix.NFTA_TRACE_VERDICT:
			nfnl.Each(d, func(typ uint16, d []byte) {
				switch typ {
				case unix.NFTA_VERDICT_CODE:
					e.verdict = int32(nfnl.BE(d))
				case unix.NFTA_VERDICT_CHAIN:
					e.jump = nfnl.Str(d)
				}
			})
		}
	})
	return e
}

// trace puts the events into the form of an evaluation.
func (t *tracer) trace(p ruleset.Packet) ruleset.Trace {
	tr := ruleset.Trace{Verdict: ruleset.Accept, Packet: p}
	for _, e := range t.seen {
		if e.table == t.table {
			continue
		}
		h := ruleset.Hit{Hook: tr.Hook, Family: e.family, Table: e.table, Chain: e.chain, Handle: e.handle}
		var rule *ruleset.Rule
		if table := t.rules.Table(e.family, e.table); table != nil {
			if c := table.Chain(e.chain); c != nil {
				if c.Hook != "" {
					h.Hook = c.Hook
				}
				rule = c.Rule(e.handle)
			}
		}
		tr.Hook = h.Hook
		if e.in != 0 {
			tr.Packet.In = t.links[e.in]
		}
		if e.out != 0 {
			tr.Packet.Out = t.links[e.out]
		}
		tr.Packet.Mark = e.mark
		switch {
		case e.kind == tracePolicy && e.policy == 0:
			h.Policy, h.Text, h.Verdict = true, "policy drop", ruleset.Drop
		case e.kind == traceRule && e.handle != 0: // without, it is the end of a chain
			h.Verdict = ruleset.VerdictText(e.verdict, e.jump)
			if rule != nil {
				h.Text, h.Comment = rule.Text(), rule.Comment
				if h.Verdict == ruleset.Drop && rule.Rejects() {
					h.Verdict = ruleset.Rejected
				}
			}
		default:
			continue
		}
		tr.Hits = append(tr.Hits, h)
		if h.Verdict == ruleset.Drop || h.Verdict == ruleset.Rejected || h.Verdict == ruleset.Queued {
			tr.Verdict = h.Verdict
			tr.Rule = &h
		}
	}
	return tr
}
