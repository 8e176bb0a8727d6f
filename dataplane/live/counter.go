package live

import (
	"context"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

// Counters are the packets that one table's rules have counted, by chain. It reads
// rules alone: what sets hold, however many ports are published, is not looked at. A
// table that is not there has none.
func (k *Kernel) Counters(ctx context.Context, ns, family, table string) (packets map[string]uint64, err error) {
	err = ask(ns, unix.NETLINK_NETFILTER, func(c *nfnl.Conn) error {
		m := nft(unix.NFT_MSG_GETRULE, ruleset.FamilyNumber(family), nfnl.Text(nil, unix.NFTA_RULE_TABLE, table))
		err := c.Dump(ctx, m, func() { packets = map[string]uint64{} }, func(_ uint16, b []byte) {
			if len(b) < nfnl.GenSize {
				return
			}
			in, chain, rule := ruleset.DecodeRule(b[nfnl.GenSize:])
			if in != table {
				return // a kernel that does not know the filter dumps all
			}
			for _, e := range rule.Exprs {
				if n, ok := e.(ruleset.Counter); ok {
					packets[chain] += n.Packets
				}
			}
		})
		if missing(err) {
			return nil
		}
		return err
	})
	return packets, err
}
