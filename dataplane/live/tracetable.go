package live

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

func probeTable(port uint16) string { return dataplane.ProbeTable(os.Getpid(), port) }

// wanted is the packet that is traced. Without addresses any with that source port is:
// behind a translation the others have changed.
type wanted struct {
	proto    byte
	src, dst netip.AddrPort // ICMP: src's port is the identifier
	exact    bool
}

const traceOwner = 2 // NFT_TABLE_F_OWNER

// tracing adds the table with its two chains and rules, as one transaction.
func tracing(ctx context.Context, c *nfnl.Conn, table string, w wanted) error {
	err := commit(ctx, c, table, w, traceOwner)
	if err == unix.EOPNOTSUPP || err == unix.EINVAL {
		err = commit(ctx, c, table, w, 0) // a kernel without owners
	}
	return err
}

func commit(ctx context.Context, c *nfnl.Conn, table string, w wanted, flags uint32) error {
	const inet = 1
	message := func(msg uint16, extra uint16, attrs []byte) nfnl.Message {
		m := nft(msg, inet, attrs)
		m.Flags = unix.NLM_F_CREATE | unix.NLM_F_ACK | extra
		return m
	}
	all := []nfnl.Message{{Type: unix.NFNL_MSG_BATCH_BEGIN, Body: nfnl.Gen(0, unix.NFNL_SUBSYS_NFTABLES)},
		message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_EXCL, nfnl.BE32(nfnl.Text(nil, unix.NFTA_TABLE_NAME, table), unix.NFTA_TABLE_FLAGS, flags))}
	for hook, name := range map[uint32]string{0: "prerouting", 3: "output"} {
		h := nfnl.BE32(nfnl.BE32(nil, unix.NFTA_HOOK_HOOKNUM, hook), unix.NFTA_HOOK_PRIORITY, uint32(0xffffffff-449)) // -450: before conntrack's defragmentation
		a := nfnl.Text(nfnl.Text(nil, unix.NFTA_CHAIN_TABLE, table), unix.NFTA_CHAIN_NAME, name)
		a = nfnl.Text(nfnl.Nest(a, unix.NFTA_CHAIN_HOOK, h), unix.NFTA_CHAIN_TYPE, "filter")
		r := nfnl.Text(nfnl.Text(nil, unix.NFTA_RULE_TABLE, table), unix.NFTA_RULE_CHAIN, name)
		all = append(all, message(unix.NFT_MSG_NEWCHAIN, 0, a),
			message(unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, nfnl.Nest(r, unix.NFTA_RULE_EXPRESSIONS, w.exprs())))
	}
	all = append(all, nfnl.Message{Type: unix.NFNL_MSG_BATCH_END, Body: nfnl.Gen(0, unix.NFNL_SUBSYS_NFTABLES)})
	return c.Batch(ctx, all)
}

// untrace removes the table; one that is gone is no error.
func untrace(ctx context.Context, c *nfnl.Conn, table string) error {
	del := nft(unix.NFT_MSG_DELTABLE, 1, nfnl.Text(nil, unix.NFTA_TABLE_NAME, table))
	del.Flags = unix.NLM_F_ACK
	err := c.Batch(ctx, []nfnl.Message{{Type: unix.NFNL_MSG_BATCH_BEGIN, Body: nfnl.Gen(0, unix.NFNL_SUBSYS_NFTABLES)}, del,
		{Type: unix.NFNL_MSG_BATCH_END, Body: nfnl.Gen(0, unix.NFNL_SUBSYS_NFTABLES)}})
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func expr(b []byte, name string, attrs []byte) []byte {
	return nfnl.Nest(b, unix.NFTA_LIST_ELEM, nfnl.Nest(nfnl.Text(nil, unix.NFTA_EXPR_NAME, name), unix.NFTA_EXPR_DATA, attrs))
}

func data(b []byte, typ uint16, v []byte) []byte {
	return nfnl.Nest(b, typ, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, v))
}

func cmpEqual(b []byte, v []byte) []byte {
	a := nfnl.BE32(nfnl.BE32(nil, unix.NFTA_CMP_SREG, 1), unix.NFTA_CMP_OP, 0)
	return expr(b, "cmp", data(a, unix.NFTA_CMP_DATA, v))
}

func metaLoad(b []byte, key uint32) []byte {
	return expr(b, "meta", nfnl.BE32(nfnl.BE32(nil, unix.NFTA_META_DREG, 1), unix.NFTA_META_KEY, key))
}

func load(b []byte, base, offset, n uint32) []byte {
	a := nfnl.BE32(nfnl.BE32(nil, unix.NFTA_PAYLOAD_DREG, 1), unix.NFTA_PAYLOAD_BASE, base)
	return expr(b, "payload", nfnl.BE32(nfnl.BE32(a, unix.NFTA_PAYLOAD_OFFSET, offset), unix.NFTA_PAYLOAD_LEN, n))
}

// exprs is the rule: "the packet … meta nftrace set 1".
func (w wanted) exprs() (b []byte) {
	be := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	v6 := w.src.Addr().Is6()
	b = cmpEqual(metaLoad(b, unix.NFT_META_NFPROTO), []byte{map[bool]byte{false: unix.AF_INET, true: unix.AF_INET6}[v6]})
	b = cmpEqual(metaLoad(b, unix.NFT_META_L4PROTO), []byte{w.proto})
	if w.exact {
		src, dst, n := uint32(12), uint32(16), uint32(4)
		if v6 {
			src, dst, n = 8, 24, 16
		}
		b = cmpEqual(load(b, 1, src, n), w.src.Addr().AsSlice())
		b = cmpEqual(load(b, 1, dst, n), w.dst.Addr().AsSlice())
	}
	switch w.proto {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		echo := byte(8)
		if v6 {
			echo = 128
		}
		b = cmpEqual(load(b, 2, 0, 1), []byte{echo})
		b = cmpEqual(load(b, 2, 4, 2), be(w.src.Port()))
	default:
		b = cmpEqual(load(b, 2, 0, 2), be(w.src.Port()))
		if w.exact {
			b = cmpEqual(load(b, 2, 2, 2), be(w.dst.Port()))
		}
	}
	if w.proto == unix.IPPROTO_TCP { // the SYN, nothing that follows
		b = cmpEqual(load(b, 2, 13, 1), []byte{2})
	}
	one := nfnl.BE32(nil, unix.NFTA_IMMEDIATE_DREG, 1)
	b = expr(b, "immediate", data(one, unix.NFTA_IMMEDIATE_DATA, []byte{1}))
	return expr(b, "meta", nfnl.BE32(nfnl.BE32(nil, unix.NFTA_META_KEY, unix.NFT_META_NFTRACE), unix.NFTA_META_SREG, 1))
}

// without is a ruleset without a probe's tables.
func without(rs *ruleset.Ruleset) *ruleset.Ruleset {
	out := &ruleset.Ruleset{}
	for _, t := range rs.Tables {
		if _, probe := dataplane.ProbeOwner(t.Name); !probe {
			out.Tables = append(out.Tables, t)
		}
	}
	return out
}
