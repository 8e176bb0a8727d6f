package live

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/ruleset"
)

// SweepProbes removes the tables of probes whose process is gone, and says which. Where
// the kernel knows owners of tables (Linux 5.12) there are none.
func (k *Kernel) SweepProbes(ctx context.Context, ns string) (swept []string, err error) {
	err = ask(ns, unix.NETLINK_NETFILTER, func(c *nfnl.Conn) error {
		var left []string
		err := c.Dump(ctx, nft(unix.NFT_MSG_GETTABLE, ruleset.FamilyNumber("inet"), nil), func() { left = nil }, func(_ uint16, b []byte) {
			if len(b) < nfnl.GenSize {
				return
			}
			t := ruleset.DecodeTable(b[0], b[nfnl.GenSize:])
			if pid, ok := dataplane.ProbeOwner(t.Name); ok && t.Family == "inet" && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				left = append(left, t.Name)
			}
		})
		if err != nil && !missing(err) {
			return err
		}
		for _, t := range left {
			if err := untrace(ctx, c, t); err != nil {
				return err
			}
			swept = append(swept, t)
		}
		return nil
	})
	return swept, err
}
