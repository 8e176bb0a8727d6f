package live

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/nfnl"
	"linkspan/dataplane/reading"
)

// neighbourStates are bits of ndm_state (neighbour.h).
var neighbourStates = map[uint16]string{unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale",
	unix.NUD_DELAY: "delay", unix.NUD_PROBE: "probe", unix.NUD_FAILED: "failed", unix.NUD_NOARP: "noarp",
	unix.NUD_PERMANENT: "permanent", unix.NUD_NONE: "none"}

// neigh is RTM_NEWNEIGH, of any family.
type neigh struct {
	family byte
	link   int
	state  uint16
	flags  byte
	mac    string
	dst    netip.Addr
	master int
	vlan   int
	age    time.Duration
}

func neighOf(b []byte) (n neigh, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return n, false
	}
	n = neigh{family: b[0], link: int(int32(binary.NativeEndian.Uint32(b[4:]))), state: binary.NativeEndian.Uint16(b[8:]), flags: b[10]}
	nfnl.Each(b[unix.SizeofNdMsg:], func(typ uint16, d []byte) {
		switch typ {
		case unix.NDA_DST:
			n.dst, _ = netip.AddrFromSlice(d)
		case unix.NDA_LLADDR:
			n.mac = net.HardwareAddr(d).String()
		case unix.NDA_MASTER:
			n.master = int(nfnl.Num(d))
		case unix.NDA_CACHEINFO: // struct nda_cacheinfo: confirmed, used, updated; in USER_HZ
			if len(d) >= 12 {
				n.age = time.Duration(binary.NativeEndian.Uint32(d[8:])) * (time.Second / 100)
			}
		case unix.NDA_VLAN:
			n.vlan = int(nfnl.Num(d))
		}
	})
	return n, true
}

func (k *Kernel) neighs(ctx context.Context, ns string, family byte) (all []neigh, links map[int]string, err error) {
	err = ask(ns, unix.NETLINK_ROUTE, func(c *nfnl.Conn) error {
		if links, err = names(ctx, c); err != nil {
			return err
		}
		h := make([]byte, unix.SizeofNdMsg)
		h[0] = family
		err := c.Dump(ctx, nfnl.Message{Type: unix.RTM_GETNEIGH, Body: h}, func() { all = nil }, func(typ uint16, b []byte) {
			if n, ok := neighOf(b); ok && typ == unix.RTM_NEWNEIGH {
				all = append(all, n)
			}
		})
		if missing(err) {
			return nil
		}
		return err
	})
	return all, links, err
}

// Neighbours lists ARP's and neighbour discovery's entries.
func (k *Kernel) Neighbours(ctx context.Context, ns string) ([]reading.Neighbour, error) {
	found, links, err := k.neighs(ctx, ns, unix.AF_UNSPEC)
	var all []reading.Neighbour
	for _, n := range found {
		if n.family == unix.AF_INET || n.family == unix.AF_INET6 {
			all = append(all, reading.Neighbour{Link: links[n.link], Addr: n.dst, MAC: n.mac, State: neighbourStates[n.state], Updated: n.age})
		}
	}
	return all, err
}

// FDB lists what bridges (and VXLAN devices) know of who is where. Of a bridge's static
// entries, NUD_NOARP is "static" and NUD_PERMANENT "local" (br_fdb.c, fdb_to_nud).
func (k *Kernel) FDB(ctx context.Context, ns string) ([]reading.FDBEntry, error) {
	found, links, err := k.neighs(ctx, ns, unix.AF_BRIDGE)
	var all []reading.FDBEntry
	for _, n := range found {
		all = append(all, reading.FDBEntry{MAC: n.mac, Link: links[n.link], Bridge: links[n.master], Dst: n.dst, VLAN: n.vlan,
			Static: n.state&(unix.NUD_NOARP|unix.NUD_PERMANENT) != 0,
			Local:  n.state&unix.NUD_PERMANENT != 0 && n.flags&unix.NTF_SELF == 0})
	}
	return all, err
}
