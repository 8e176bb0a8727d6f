package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"linkspan/dataplane"
	"linkspan/dataplane/nfnl"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Garbage is something in the kernel that we made and nothing needs.
type Garbage struct {
	Kind, Name, Why string
	Commands        []string
	Take            func(context.Context) error
}

// Garbage looks for what no declaration tells: links that were about to be deleted,
// tables of questions whose askers are gone, and flows that lead to addresses of ours
// that are nobody's (lives says which are somebody's).
func (k *Kernel) Garbage(ctx context.Context, subnets []netip.Prefix, lives func(netip.Addr) bool) ([]Garbage, error) {
	out, err := k.doomedLeft()
	if err != nil {
		return nil, err
	}
	tables, err := k.probesLeft()
	if err != nil {
		return out, err
	}
	flows, err := k.flowsLeft(subnets, lives)
	out = slices.Concat(out, tables, flows)
	for i, g := range out {
		out[i].Take = func(ctx context.Context) error {
			k.point("before take " + g.Kind)
			err := g.Take(ctx)
			k.point("after take " + g.Kind)
			return err
		}
	}
	return out, err
}

func (k *Kernel) doomedLeft() (out []Garbage, err error) {
	all, err := k.rt.links()
	for _, l := range all {
		if l.group == k.doom {
			out = append(out, Garbage{Kind: "link", Name: l.name, Why: "its deletion was begun and is not done", Commands: []string{"ip link del " + l.name},
				Take: func(context.Context) error { return gone(k.late.delLink(l.index)) }})
		}
	}
	return out, err
}

func (k *Kernel) probesLeft() (out []Garbage, err error) {
	type table struct {
		family byte
		name   string
	}
	var all []table
	for family, number := range families {
		err = errors.Join(err, k.nft.dump(nfMsg{typ: unix.NFT_MSG_GETTABLE, fam: number}, func() { all = slices.DeleteFunc(all, func(t table) bool { return t.family == number }) }, func(b []byte) {
			eachAttr(b, func(t int, b []byte) {
				if t == unix.NFTA_TABLE_NAME {
					all = append(all, table{number, unix.ByteSliceToString(b)})
				}
			})
		}))
		for _, t := range all {
			pid, probe := dataplane.ProbeOwner(t.name)
			if t.family != number || !probe {
				continue
			}
			if !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				continue // whoever asked is still at it
			}
			out = append(out, Garbage{Kind: "table", Name: family + " " + t.name, Why: "who asked by it is gone", Commands: []string{"nft delete table " + family + " " + t.name},
				Take: func(context.Context) error {
					err := k.nft.commit([]nfMsg{{typ: unix.NFT_MSG_DELTABLE, fam: number, attrs: nfnl.Text(nil, unix.NFTA_TABLE_NAME, t.name)}})
					if errors.Is(err, unix.ENOENT) {
						return nil
					}
					return err
				}})
		}
	}
	return out, err
}

// orphans picks flows whose answers come from an address of ours that is nobody's.
type orphans struct {
	subnets []netip.Prefix
	lives   func(netip.Addr) bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f orphans) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	server, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	server = server.Unmap()
	return ok && !f.lives(server) && slices.ContainsFunc(f.subnets, func(p netip.Prefix) bool { return p.Contains(server) })
}

func (k *Kernel) flowsLeft(subnets []netip.Prefix, lives func(netip.Addr) bool) (out []Garbage, err error) {
	if len(subnets) == 0 || !k.anyFlows() {
		return nil, nil
	}
	pick := orphans{subnets, lives}
	for _, fam := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		all, e := k.ct.ConntrackTableList(netlink.ConntrackTable, fam)
		if e != nil && !errors.Is(e, netlink.ErrDumpInterrupted) {
			err = errors.Join(err, fmt.Errorf("list flows: %w", e))
		}
		n, first := 0, ""
		for _, f := range all {
			if pick.MatchConntrackFlow(f) {
				if n++; n == 1 {
					first = fmt.Sprintf("%s to %s", f.Forward.SrcIP, f.Reverse.SrcIP)
				}
			}
		}
		if n > 0 {
			out = append(out, Garbage{Kind: "flows", Name: fmt.Sprintf("%d, such as %s", n, first), Why: "they lead to addresses that no container has any more",
				Take: func(context.Context) error {
					_, err := k.ct.ConntrackDeleteFilters(netlink.ConntrackTable, fam, pick)
					return err
				}})
		}
	}
	return out, err
}
