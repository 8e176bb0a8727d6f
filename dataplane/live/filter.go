package live

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
)

// sizeofTcmsg is struct tcmsg of rtnetlink.h: family, padding, interface, handle, parent,
// info.
const sizeofTcmsg = 20

// parents are where filters hang (pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS and
// _EGRESS; the older ingress qdisc has its own handle).
var parents = map[string]map[uint32]string{
	"clsact":  {0xfffffff2: "tc ingress", 0xfffffff3: "tc egress"},
	"ingress": {0xffff0000: "tc ingress"},
}

// filters are the interfaces that have filters of tc, by index. What they do is not read:
// they are programs.
func filters(ctx context.Context, c *nfnl.Conn) (map[int][]string, error) {
	hooked := map[int]string{}
	err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETQDISC, Body: make([]byte, sizeofTcmsg)}, func() { clear(hooked) }, func(_ uint16, b []byte) {
		if len(b) < sizeofTcmsg {
			return
		}
		nfnl.Each(b[sizeofTcmsg:], func(typ uint16, d []byte) {
			if kind := nfnl.Str(d); typ == unix.TCA_KIND && parents[kind] != nil {
				hooked[int(int32(binary.NativeEndian.Uint32(b[4:])))] = kind
			}
		})
	})
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[int][]string{}
	for link, kind := range hooked {
		for _, parent := range []uint32{0xffff0000, 0xfffffff2, 0xfffffff3} {
			name := parents[kind][parent]
			if name == "" {
				continue
			}
			h := make([]byte, sizeofTcmsg)
			binary.NativeEndian.PutUint32(h[4:], uint32(link))
			binary.NativeEndian.PutUint32(h[12:], parent)
			n := 0
			err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETTFILTER, Body: h}, func() { n = 0 }, func(uint16, []byte) { n++ })
			// The interface may be gone by now.
			if err != nil && !missing(err) && err != unix.ENODEV && err != unix.EINVAL {
				return nil, err
			}
			if n > 0 {
				all[link] = append(all[link], name)
			}
		}
	}
	return all, nil
}
