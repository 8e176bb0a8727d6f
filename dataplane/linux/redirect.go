package linux

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
)

// The redirect of a sandbox's resolver: a table of two chains in its namespace, see
// dataplane.Redirect. Each rule carries a comment with the version of this text, by
// which an observation knows the table as ours and untouched.
const redirectMark = "linkspan resolver 1"

// The priorities of the two chains, on the outside of all that a container may have:
// its own connection tracking then sees port 53 in questions and in answers.
const (
	afterAll  = 300
	beforeAll = -300
)

func redirectTable() tableRef { return tableRef{"ip", dataplane.RedirectTable} }

func (a *applier) redirect(o dataplane.Redirect, del bool) error {
	s, err := a.sandbox(o.NS)
	if err != nil {
		return err
	}
	nft, err := s.nf()
	if err != nil {
		return err
	}
	t := redirectTable()
	drop := nfMsg{typ: unix.NFT_MSG_DELTABLE, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_TABLE_NAME, t.name)}
	if del {
		err = nft.commit([]nfMsg{drop})
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	err = nft.commit(redirectMessages())
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// Someone's, or an earlier version's: the whole table is made again, unless it is
	// as it should be.
	if whole, err := nft.redirected(); err != nil || whole {
		return err
	}
	return nft.commit(append([]nfMsg{drop}, redirectMessages()...))
}

// redirectMessages make the table exclusively.
func redirectMessages() []nfMsg {
	t := redirectTable()
	const create = unix.NLM_F_CREATE
	msgs := []nfMsg{{typ: unix.NFT_MSG_NEWTABLE, flags: create | unix.NLM_F_EXCL, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_TABLE_NAME, t.name)}}
	rule := func(chain string, expressions ...[]byte) {
		attrs := nfnl.Text(nfnl.Text(nil, unix.NFTA_RULE_TABLE, t.name), unix.NFTA_RULE_CHAIN, chain)
		attrs = nfnl.Nest(attrs, unix.NFTA_RULE_EXPRESSIONS, slices.Concat(expressions...))
		msgs = append(msgs, nfMsg{typ: unix.NFT_MSG_NEWRULE, flags: create | unix.NLM_F_APPEND, fam: t.fam(),
			attrs: nfnl.Attr(attrs, unix.NFTA_RULE_USERDATA, comment(redirectMark))})
	}
	addr, port := dataplane.ResolverAddr.AsSlice(), func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	for _, c := range []struct {
		name     string
		prio     int32
		addrAt   uint32 // in the IPv4 header
		portAt   uint32 // in the UDP and TCP headers
		was, now uint16
	}{
		{"ask", afterAll, 16, 2, dataplane.ResolverPort, dataplane.ResolverBound},
		{"answer", beforeAll, 12, 0, dataplane.ResolverBound, dataplane.ResolverPort},
	} {
		attrs := nfnl.Text(nfnl.Text(nil, unix.NFTA_CHAIN_TABLE, t.name), unix.NFTA_CHAIN_NAME, c.name)
		attrs = nfnl.Text(nfnl.Nest(attrs, unix.NFTA_CHAIN_HOOK, nfnl.Attr(nfnl.Attr(nil, unix.NFTA_HOOK_HOOKNUM, be32(unix.NF_INET_LOCAL_OUT)),
			unix.NFTA_HOOK_PRIORITY, be32(uint32(c.prio)))), unix.NFTA_CHAIN_TYPE, "filter")
		msgs = append(msgs, nfMsg{typ: unix.NFT_MSG_NEWCHAIN, flags: create, fam: t.fam(), attrs: attrs})
		// Loopback is interface 1 in every namespace (net/core/dev.c, LOOPBACK_IFINDEX).
		rule(c.name, exprMeta(unix.NFT_META_OIF), exprCompare(unix.NFT_CMP_NEQ, native32(1)), exprAccept())
		for _, proto := range []struct{ number, sumAt byte }{{unix.IPPROTO_UDP, 6}, {unix.IPPROTO_TCP, 16}} {
			rule(c.name,
				exprPayload(unix.NFT_PAYLOAD_NETWORK_HEADER, c.addrAt, 4), exprCompare(unix.NFT_CMP_EQ, addr),
				exprMeta(unix.NFT_META_L4PROTO), exprCompare(unix.NFT_CMP_EQ, []byte{proto.number}),
				exprPayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, c.portAt, 2), exprCompare(unix.NFT_CMP_EQ, port(c.was)),
				exprValue(port(c.now)), exprWrite(c.portAt, 2, uint32(proto.sumAt)))
		}
	}
	return msgs
}

// redirectRules is how many rules that makes.
const redirectRules = 6

// redirected says that the table is there as it was made.
func (c *nfConn) redirected() (bool, error) {
	t := redirectTable()
	ours, others := 0, 0
	err := c.dump(nfMsg{typ: unix.NFT_MSG_GETRULE, fam: t.fam(), attrs: nfnl.Text(nil, unix.NFTA_RULE_TABLE, t.name)},
		func() { ours, others = 0, 0 }, func(b []byte) {
			mine, table := false, ""
			eachAttr(b, func(t int, b []byte) {
				switch t {
				case unix.NFTA_RULE_TABLE:
					table = unix.ByteSliceToString(b)
				case unix.NFTA_RULE_USERDATA:
					mine = string(b) == string(comment(redirectMark))
				}
			})
			switch {
			case table != t.name:
			case mine:
				ours++
			default:
				others++
			}
		})
	return ours == redirectRules && others == 0, noTable(err)
}

// redirect observes one sandbox's.
func (o *observer) redirect(s *dataplane.State, w dataplane.Redirect) error {
	if v, err := o.in(w.NS); err != nil || v == nil {
		return err
	}
	nft, err := o.open[w.NS].nf()
	if err != nil {
		return err
	}
	whole, err := nft.redirected()
	if err == nil && whole {
		s.Add(dataplane.Redirect{NS: w.NS})
	}
	return err
}

// Expressions of rules, all of them on the first register (nf_tables.h). The kernel
// checks them as one unit, so they are only what is needed here.

func expression(name string, attrs []byte) []byte {
	e := nfnl.Nest(nfnl.Text(nil, unix.NFTA_EXPR_NAME, name), unix.NFTA_EXPR_DATA, attrs)
	return nfnl.Nest(nil, unix.NFTA_LIST_ELEM, e)
}

func exprMeta(key uint32) []byte {
	return expression("meta", nfnl.Attr(nfnl.Attr(nil, unix.NFTA_META_KEY, be32(key)), unix.NFTA_META_DREG, be32(unix.NFT_REG_1)))
}

func exprCompare(how uint32, value []byte) []byte {
	a := nfnl.Attr(nfnl.Attr(nil, unix.NFTA_CMP_SREG, be32(unix.NFT_REG_1)), unix.NFTA_CMP_OP, be32(how))
	return expression("cmp", nfnl.Nest(a, unix.NFTA_CMP_DATA, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, value)))
}

func exprPayload(base, offset, n uint32) []byte {
	a := nfnl.Attr(nfnl.Attr(nil, unix.NFTA_PAYLOAD_DREG, be32(unix.NFT_REG_1)), unix.NFTA_PAYLOAD_BASE, be32(base))
	return expression("payload", nfnl.Attr(nfnl.Attr(a, unix.NFTA_PAYLOAD_OFFSET, be32(offset)), unix.NFTA_PAYLOAD_LEN, be32(n)))
}

// exprWrite puts the register into the transport header, and its checksum right.
func exprWrite(offset, n, sumAt uint32) []byte {
	a := nfnl.Attr(nfnl.Attr(nil, unix.NFTA_PAYLOAD_SREG, be32(unix.NFT_REG_1)), unix.NFTA_PAYLOAD_BASE, be32(unix.NFT_PAYLOAD_TRANSPORT_HEADER))
	a = nfnl.Attr(nfnl.Attr(a, unix.NFTA_PAYLOAD_OFFSET, be32(offset)), unix.NFTA_PAYLOAD_LEN, be32(n))
	return expression("payload", nfnl.Attr(nfnl.Attr(a, unix.NFTA_PAYLOAD_CSUM_TYPE, be32(unix.NFT_PAYLOAD_CSUM_INET)), unix.NFTA_PAYLOAD_CSUM_OFFSET, be32(sumAt)))
}

func exprValue(value []byte) []byte {
	a := nfnl.Attr(nil, unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_1))
	return expression("immediate", nfnl.Nest(a, unix.NFTA_IMMEDIATE_DATA, nfnl.Attr(nil, unix.NFTA_DATA_VALUE, value)))
}

func exprAccept() []byte {
	v, _ := encodeVerdict("accept")
	a := nfnl.Attr(nil, unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_VERDICT))
	return expression("immediate", nfnl.Nest(a, unix.NFTA_IMMEDIATE_DATA, v))
}

// comment is a rule's comment as nft keeps and shows it (libnftnl, udata.h: a type,
// a length with the final NUL, the text).
func comment(s string) []byte {
	const udataRuleComment = 0
	return append([]byte{udataRuleComment, byte(len(s) + 1)}, s+"\x00"...)
}
