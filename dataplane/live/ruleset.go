package live

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

// generations bounds how often a ruleset that changes meanwhile is read anew.
const generations = 8

// Ruleset reads all tables, chains, rules, sets and elements, of nftables and of legacy
// iptables. Between the dumps the ruleset can change: its generation says so.
func (k *Kernel) Ruleset(ctx context.Context, ns string) (rs *ruleset.Ruleset, err error) {
	err = ask(ns, unix.NETLINK_NETFILTER, func(c *nfnl.Conn) error {
		for range generations {
			before, err := generation(ctx, c)
			if missing(err) {
				rs = &ruleset.Ruleset{}
				return nil // a kernel without nf_tables
			}
			if err != nil {
				return err
			}
			if rs, err = readRuleset(ctx, c); err != nil && err != unix.ENOENT {
				return err
			}
			if after, e := generation(ctx, c); e == nil && after == before && err == nil {
				return nil
			}
		}
		return fmt.Errorf("the nftables ruleset kept changing while it was read: %w", unix.EINTR)
	})
	if err != nil {
		return nil, err
	}
	legacy, err := k.legacy(ns)
	if err != nil {
		return nil, place(ns, err)
	}
	rs.Tables = append(rs.Tables, legacy...)
	rs.Link()
	return rs, nil
}

func nft(msg uint16, family byte, attrs []byte) nfnl.Message {
	return nfnl.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | msg, Body: append(nfnl.Gen(family, 0), attrs...)}
}

func generation(ctx context.Context, c *nfnl.Conn) (id uint32, err error) {
	err = c.Do(ctx, nft(unix.NFT_MSG_GETGEN, 0, nil), func(_ uint16, b []byte) {
		if len(b) < nfnl.GenSize {
			return
		}
		nfnl.Each(b[nfnl.GenSize:], func(typ uint16, d []byte) {
			if typ == unix.NFTA_GEN_ID {
				id = uint32(nfnl.BE(d))
			}
		})
	})
	return id, err
}

type owner struct {
	family byte
	table  string
}

func readRuleset(ctx context.Context, c *nfnl.Conn) (*ruleset.Ruleset, error) {
	rs := &ruleset.Ruleset{}
	tables := map[owner]*ruleset.Table{}
	chains := map[owner]map[string]*ruleset.Chain{}
	dump := func(msg uint16, family byte, attrs []byte, reset func(), fn func(family byte, b []byte)) error {
		return c.Dump(ctx, nft(msg, family, attrs), reset, func(_ uint16, b []byte) {
			if len(b) >= nfnl.GenSize {
				fn(b[0], b[nfnl.GenSize:])
			}
		})
	}
	err := dump(unix.NFT_MSG_GETTABLE, 0, nil, func() { rs.Tables = nil; clear(tables) }, func(f byte, b []byte) {
		t := ruleset.DecodeTable(f, b)
		rs.Tables = append(rs.Tables, t)
		tables[owner{f, t.Name}] = t
	})
	if err != nil {
		return rs, err
	}
	each := func(fn func(*ruleset.Table)) func() {
		return func() {
			for _, t := range rs.Tables {
				fn(t)
			}
		}
	}
	err = dump(unix.NFT_MSG_GETCHAIN, 0, nil, each(func(t *ruleset.Table) { t.Chains = nil; clear(chains) }), func(f byte, b []byte) {
		name, ch := ruleset.DecodeChain(f, b)
		at := owner{f, name}
		if t := tables[at]; t != nil {
			t.Chains = append(t.Chains, ch)
			if chains[at] == nil {
				chains[at] = map[string]*ruleset.Chain{}
			}
			chains[at][ch.Name] = ch
		}
	})
	if err != nil {
		return rs, err
	}
	none := each(func(t *ruleset.Table) {
		for _, ch := range t.Chains {
			ch.Rules = nil
		}
	})
	err = dump(unix.NFT_MSG_GETRULE, 0, nil, none, func(f byte, b []byte) {
		table, chain, r := ruleset.DecodeRule(b)
		if ch := chains[owner{f, table}][chain]; ch != nil {
			ch.Rules = append(ch.Rules, r)
		}
	})
	if err != nil {
		return rs, err
	}
	err = dump(unix.NFT_MSG_GETOBJ, 0, nil, each(func(t *ruleset.Table) { t.Objects = nil }), func(f byte, b []byte) {
		table, o := ruleset.DecodeObject(b)
		if t := tables[owner{f, table}]; t != nil {
			t.Objects = append(t.Objects, o)
		}
	})
	if err != nil && !missing(err) {
		return rs, err
	}
	type held struct {
		owner
		set *ruleset.Set
	}
	var sets []held
	err = dump(unix.NFT_MSG_GETSET, 0, nil, func() { sets = nil; each(func(t *ruleset.Table) { t.Sets = nil })() }, func(f byte, b []byte) {
		table, s := ruleset.DecodeSet(b)
		if t := tables[owner{f, table}]; t != nil {
			t.Sets = append(t.Sets, s)
			sets = append(sets, held{owner{f, table}, s})
		}
	})
	if err != nil {
		return rs, err
	}
	for _, h := range sets {
		attrs := nfnl.Text(nfnl.Text(nil, unix.NFTA_SET_ELEM_LIST_TABLE, h.table), unix.NFTA_SET_ELEM_LIST_SET, h.set.Name)
		err := dump(unix.NFT_MSG_GETSETELEM, h.family, attrs, func() { h.set.Elements = nil }, func(_ byte, b []byte) {
			ruleset.DecodeElements(b, func(string, string) *ruleset.Set { return h.set })
		})
		if err != nil {
			return rs, err
		}
	}
	return rs, nil
}
