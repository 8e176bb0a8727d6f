package linux

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// While our page is gone, flows that begin are not translated, and conntrack keeps them
// so for their whole life, however soon the page is back: a container's UDP sender would
// go on to leave with an address that nobody outside can answer. So when the page is made
// anew, flows that a container began and that should carry the host's address are
// forgotten: their next packet begins them again.

// untranslated picks them.
type untranslated struct{ inside []netip.Prefix }

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f untranslated) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	src, ok := netip.AddrFromSlice(flow.Forward.SrcIP)
	dst, also := netip.AddrFromSlice(flow.Forward.DstIP)
	back, three := netip.AddrFromSlice(flow.Reverse.DstIP)
	server, four := netip.AddrFromSlice(flow.Reverse.SrcIP)
	src, dst, back, server = src.Unmap(), dst.Unmap(), back.Unmap(), server.Unmap()
	if !ok || !also || !three || !four || src != back || dst != server || !f.has(src) || f.has(dst) || dst.IsLoopback() || dst.IsMulticast() {
		return false
	}
	// One that was answered has found a way; TCP would not survive another.
	tcp, is := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
	return flow.Forward.Protocol != unix.IPPROTO_TCP || is && tcp.State == synSent
}

// synSent is TCP_CONNTRACK_SYN_SENT (nf_conntrack_tcp.h).
const synSent = 1

func (f untranslated) has(a netip.Addr) bool {
	return slices.ContainsFunc(f.inside, func(p netip.Prefix) bool { return p.Contains(a) })
}

// gapTries is how often it is waited for the page's elements, which come right after it.
const gapTries = 10

// gap notes that the page was made anew.
func (b *background) gap() { b.give(func() bool { b.gaps = gapTries; return true }) }

// forgetGap forgets what began while there was none; left are the tries left.
func (b *background) forgetGap(left int) {
	t := tableRef{"inet", b.k.cfg.Table}
	sets, err := b.k.nft.sets(t)
	if err != nil || !b.k.anyFlows() {
		return
	}
	f := untranslated{}
	for _, name := range []string{"masquerade4", "masquerade6"} {
		s, ok := sets[name]
		if !ok {
			continue
		}
		els, err := b.k.setObjects(t, s)
		if err != nil {
			continue
		}
		for _, e := range els {
			if p, ok := prefixOf(e.KeyRaw, e.Last); ok {
				f.inside = append(f.inside, p)
			}
		}
	}
	if len(f.inside) == 0 {
		if left > 1 {
			b.give(func() bool { b.gaps = max(b.gaps, left-1); return true })
		}
		return
	}
	for _, fam := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := b.k.ct.ConntrackDeleteFilters(netlink.ConntrackTable, fam, f); err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			b.k.log.Warn("flows that began while the firewall page was gone are not forgotten", "err", err)
		}
	}
}
