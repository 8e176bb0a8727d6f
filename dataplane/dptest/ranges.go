package dptest

import (
	"context"
	"net/netip"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// ranges: published ranges stand side by side, change their target, their ends, and
// come from single ports, each in one Apply; two that overlap cannot be.
func (s *suite) ranges() {
	m := meta(dataplane.OwnerPort, "wide")
	a, b := netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3")
	wide := func(first, last uint16, to netip.Addr) dataplane.Object {
		return dataplane.PublishRangeElement(m, table, "tcp", first, last, to)
	}
	page := dataplane.Object(dataplane.BasePage(table))
	var singles []dataplane.Object
	for p := uint16(20000); p < 20100; p++ {
		singles = append(singles, dataplane.PublishElement(m, table, "tcp", netip.Addr{}, p, netip.AddrPortFrom(a, p)))
	}
	was := append([]dataplane.Object{page}, singles...)
	s.must(diff.Create(was))
	for _, now := range [][]dataplane.Object{
		{page, wide(20000, 20099, a)},
		{page, wide(20000, 20099, b)},
		{page, wide(20000, 29999, b), wide(30000, 65535, a)},
		{page, wide(20000, 24999, b), wide(25000, 30000, a), wide(30001, 30001, b)},
		{page, wide(1, 19999, b), wide(25000, 30000, a), wide(30001, 30002, a)},
		was,
		{page, wide(20001, 20002, a)},
	} {
		s.must(diff.Update(was, now))
		s.settled(now)
		was = now
	}
	err := s.Kernel.Apply(context.Background(), diff.Create([]dataplane.Object{wide(20002, 20003, b)}))
	if err == nil || !strings.Contains(err.Error(), "holds a part of 20002-20003 already") {
		s.t.Errorf("an overlap: %v", err)
	}
	s.settled(was)
}
