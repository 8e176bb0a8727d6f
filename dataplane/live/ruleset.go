package live

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

// generations bounds how often a ruleset that changes meanwhile is read anew.
const generations = 8

// Ruleset reads all tables, chains, rules, sets and elements, of nftables and of legacy
// iptables.
func (k *Kernel) Ruleset(ctx context.Context, ns string) (*ruleset.Ruleset, error) {
	all, err := k.Messages(ctx, ns)
	if err != nil {
		return nil, err
	}
	rs := ruleset.Build(all)
	legacy, err := k.legacy(ns)
	if err != nil {
		return nil, place(ns, err)
	}
	rs.Tables = append(rs.Tables, legacy...)
	rs.Link()
	return rs, nil
}

// Messages reads nftables' ruleset as the kernel tells it. Between the dumps it can
// change: its generation says so, and then it is read anew.
func (k *Kernel) Messages(ctx context.Context, ns string) (all []ruleset.Message, err error) {
	err = ask(ns, unix.NETLINK_NETFILTER, func(c *nfnl.Conn) error {
		for range generations {
			before, err := generation(ctx, c)
			if missing(err) {
				return nil // a kernel without nf_tables
			}
			if err != nil {
				return err
			}
			now, err := messages(ctx, c)
			if err != nil && err != unix.ENOENT {
				return err
			}
			if err == nil {
				all = now
			}
			if after, e := generation(ctx, c); e == nil && after == before && err == nil {
				return nil
			}
		}
		if all == nil {
			return fmt.Errorf("the nftables ruleset kept changing while it was read: %w", unix.EINTR)
		}
		// Each dump is whole, and together they are as good as what one can have of a
		// host where ports come and go all the time.
		k.log.Debug("the nftables ruleset kept changing while it was read", "ns", ns)
		return nil
	})
	return all, err
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

// messages reads all of nf_tables. What bodies hold is copied.
func messages(ctx context.Context, c *nfnl.Conn) (all []ruleset.Message, err error) {
	dump := func(msg uint16, what string, family byte, attrs []byte) ([]ruleset.Message, error) {
		var some []ruleset.Message
		err := c.Dump(ctx, nft(msg, family, attrs), func() { some = nil }, func(_ uint16, b []byte) {
			if len(b) >= nfnl.GenSize {
				some = append(some, ruleset.Message{What: what, Family: b[0], Body: bytes.Clone(b[nfnl.GenSize:])})
			}
		})
		return some, err
	}
	for _, d := range []struct {
		msg  uint16
		what string
	}{{unix.NFT_MSG_GETTABLE, "table"}, {unix.NFT_MSG_GETCHAIN, "chain"}, {unix.NFT_MSG_GETRULE, "rule"}, {unix.NFT_MSG_GETOBJ, "object"}, {unix.NFT_MSG_GETSET, "set"}} {
		some, err := dump(d.msg, d.what, 0, nil)
		if err != nil && !(d.what == "object" && missing(err)) {
			return nil, err
		}
		all = append(all, some...)
		if d.what == "table" && len(all) == 0 {
			return nil, nil
		}
	}
	for _, m := range all {
		if m.What != "set" {
			continue
		}
		table, set := ruleset.DecodeSet(m.Body)
		some, err := dump(unix.NFT_MSG_GETSETELEM, "elements", m.Family,
			nfnl.Text(nfnl.Text(nil, unix.NFTA_SET_ELEM_LIST_TABLE, table), unix.NFTA_SET_ELEM_LIST_SET, set.Name))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
