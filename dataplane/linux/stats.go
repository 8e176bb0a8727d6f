package linux

import (
	"cmp"
	"context"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// LinkStats reads the counters of the interfaces in a sandbox, loopback left out,
// by name.
func (k *Kernel) LinkStats(_ context.Context, ns string) ([]dataplane.LinkStats, error) {
	s, err := openSandbox(ns)
	if err != nil {
		return nil, err
	}
	defer s.close()
	msgs, err := s.rt.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, err
	}
	var out []dataplane.LinkStats
	for _, m := range msgs {
		if st, ok := parseStats(m); ok {
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(a, b dataplane.LinkStats) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// parseStats reads IFLA_STATS64 (if_link.h, struct rtnl_link_stats64: 64-bit numbers,
// first packets, bytes, errors and dropped, each received and sent).
func parseStats(m []byte) (st dataplane.LinkStats, ok bool) {
	h := nl.DeserializeIfInfomsg(m)
	if h.Flags&unix.IFF_LOOPBACK != 0 {
		return st, false
	}
	ne := nl.NativeEndian()
	eachAttr(m[h.Len():], func(t int, b []byte) {
		switch t {
		case unix.IFLA_IFNAME:
			st.Name = unix.ByteSliceToString(b)
		case unix.IFLA_STATS64:
			for i, to := range []*uint64{&st.RxPackets, &st.TxPackets, &st.RxBytes, &st.TxBytes, &st.RxErrors, &st.TxErrors, &st.RxDropped, &st.TxDropped} {
				if at := 8 * i; len(b) >= at+8 {
					*to, ok = ne.Uint64(b[at:]), true
				}
			}
		}
	})
	return st, ok
}
