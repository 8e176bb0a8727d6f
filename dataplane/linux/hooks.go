package linux

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
)

// When somebody flushes the ruleset, the last nat chain goes, and with it the kernel's
// translation of connections that are under way: until our page is back, some
// milliseconds later, their packets would pass untranslated, and a port that the keeper
// holds would answer with a reset. So while the daemon lives a second table keeps the
// hooks there. Its one rule looks at the mark of a connection, for which the kernel
// keeps track of them, and does nothing. The table belongs to our socket
// (NFT_TABLE_F_OWNER, Linux 5.12): nobody else's flush touches it, and it goes with the
// socket, however the daemon ends.

// HooksSuffix follows the page's name in the name of that table.
const HooksSuffix = "_hooks"

const (
	tableOwned = 2    // NFT_TABLE_F_OWNER
	hooksPrio  = 1000 // after all others'
)

// KeepHooks makes that table, until the context ends. Where the kernel has no tables with
// an owner it does nothing but say so.
func (k *Kernel) KeepHooks(ctx context.Context) {
	var c *nfConn
	if err := k.inHost(func() (err error) { c, err = k.keepHooks(); return err }); err != nil {
		k.log.Info("whoever flushes the whole ruleset breaks connections through published ports", "err", err)
		return
	}
	<-ctx.Done()
	c.Close()
}

// keepHooks makes it; the caller closes the socket.
func (k *Kernel) keepHooks() (*nfConn, error) {
	c, err := newNF()
	if err != nil {
		return nil, err
	}
	t := tableRef{"inet", k.cfg.Table + HooksSuffix}
	chain := nfnl.Text(nfnl.Text(nil, unix.NFTA_CHAIN_TABLE, t.name), unix.NFTA_CHAIN_NAME, "keep")
	chain = nfnl.Nest(chain, unix.NFTA_CHAIN_HOOK, nfnl.Attr(nfnl.Attr(nil, unix.NFTA_HOOK_HOOKNUM, be32(unix.NF_INET_POST_ROUTING)),
		unix.NFTA_HOOK_PRIORITY, be32(hooksPrio)))
	err = c.commit([]nfMsg{
		{typ: unix.NFT_MSG_NEWTABLE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, fam: t.fam(),
			attrs: nfnl.Attr(nfnl.Text(nil, unix.NFTA_TABLE_NAME, t.name), unix.NFTA_TABLE_FLAGS, be32(tableOwned))},
		{typ: unix.NFT_MSG_NEWCHAIN, flags: unix.NLM_F_CREATE, fam: t.fam(), attrs: nfnl.Text(chain, unix.NFTA_CHAIN_TYPE, "nat")},
		{typ: unix.NFT_MSG_NEWRULE, flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, fam: t.fam(),
			attrs: nfnl.Nest(nfnl.Text(nfnl.Text(nil, unix.NFTA_RULE_TABLE, t.name), unix.NFTA_RULE_CHAIN, "keep"), unix.NFTA_RULE_EXPRESSIONS,
				slices.Concat(expression("ct", nfnl.Attr(nfnl.Attr(nil, unix.NFTA_CT_DREG, be32(unix.NFT_REG_1)), unix.NFTA_CT_KEY, be32(unix.NFT_CT_MARK))),
					exprCompare(unix.NFT_CMP_EQ, native32(0))))},
	})
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("keep the hooks of nat: %w", err)
	}
	return c, nil
}
