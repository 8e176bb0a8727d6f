package check

import (
	"context"
	"net/netip"
	"time"

	"linkspan/cnm"
)

// passing is how long the echo of one probe is waited for.
const passing = 300 * time.Millisecond

// Passes says whether packets of that many bytes, IP header and all, pass on the wire to a
// peer, by some probes: known is false where it cannot be told, since small ones do not
// pass either or the peer cannot be asked.
func (c *Checker) Passes(ctx context.Context, p cnm.Peer, size int) (passes, known bool) {
	if size <= floor(p.Addr) {
		return true, false
	}
	s, err := c.greet(ctx, p)
	if err != nil {
		return false, false
	}
	defer s.Close()
	conn, err := dialProbe(ctx, c.cfg.In, netip.AddrPortFrom(p.Addr, c.cfg.Port))
	if err != nil {
		return false, false
	}
	b := &burst{conn: conn, session: s.session, key: s.key, extra: ipHeader(p.Addr)}
	defer b.listen()()
	for range 3 { // what is lost by chance comes the next time
		for i, at := range b.send(ctx, []int{smallSize, size, size}, 0, passing) {
			if at == 0 {
				continue
			}
			known = true
			if i > 0 {
				return true, true
			}
		}
	}
	return false, known && ctx.Err() == nil
}
