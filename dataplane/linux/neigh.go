package linux

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// Neighbours and forwarding databases share one message (linux/neighbour.h: struct
// ndmsg): of the family AF_BRIDGE it is an entry of a forwarding database, which
// NTF_SELF finds on the device and NTF_MASTER on the bridge that it is a port of.

// ntfSticky keeps a bridge's entry from moving to another port when a frame with its
// source comes in there (linux/neighbour.h, since 4.20).
const ntfSticky = 0x40

// ndaProtocol says who made a neighbour (linux/neighbour.h, since 5.0): as with routes, a
// person's own on a bridge of ours are theirs.
const ndaProtocol = 12

const sizeofNdmsg = 12

// neigh is one entry, wanted or observed.
type neigh struct {
	family, flags uint8
	state         uint16
	index         int
	master        int // ifindex of the bridge that the entry is of; 0: the device's own
	mac           net.HardwareAddr
	dst           netip.Addr
	protocol      byte // who made a neighbour
	special       bool // of a VLAN, or through another device: none of ours
}

func (n neigh) body() []byte {
	ne := nl.NativeEndian()
	b := make([]byte, sizeofNdmsg, 48)
	b[0] = n.family
	ne.PutUint32(b[4:], uint32(n.index))
	ne.PutUint16(b[8:], n.state)
	b[10] = n.flags
	if n.dst.IsValid() {
		b = appendAttr(b, unix.NDA_DST, n.dst.AsSlice())
	}
	if n.mac != nil {
		b = appendAttr(b, unix.NDA_LLADDR, n.mac)
	}
	if n.protocol != 0 {
		b = appendAttr(b, ndaProtocol, []byte{n.protocol})
	}
	return b
}

func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func parseNeigh(m []byte) (n neigh, ok bool) {
	if len(m) < sizeofNdmsg {
		return n, false
	}
	ne := nl.NativeEndian()
	n.family, n.index, n.state, n.flags = m[0], int(int32(ne.Uint32(m[4:]))), ne.Uint16(m[8:]), m[10]
	eachAttr(m[sizeofNdmsg:], func(t int, b []byte) {
		switch t {
		case unix.NDA_DST:
			n.dst, _ = netip.AddrFromSlice(b)
		case unix.NDA_LLADDR:
			n.mac = append(net.HardwareAddr(nil), b...)
		case ndaProtocol:
			if len(b) > 0 {
				n.protocol = b[0]
			}
		case unix.NDA_MASTER:
			if len(b) == 4 {
				n.master = int(ne.Uint32(b))
			}
		case unix.NDA_VLAN, unix.NDA_VNI, unix.NDA_IFINDEX, unix.NDA_PORT:
			n.special = true
		}
	})
	return n, true
}

// fdb says whether an entry is of the sort that is declared on a VXLAN device: a way to
// another host, or a static one of its bridge. The kernel's own are others: the MACs of
// the devices themselves are permanent in the bridge's, what it learns is reachable.
func (n neigh) fdb(dev string) (o dataplane.FDB, ok bool) {
	if n.family != unix.AF_BRIDGE || n.special || len(n.mac) != 6 {
		return o, false
	}
	o = dataplane.FDB{Dev: dev, MAC: n.mac.String()}
	if n.master != 0 {
		return o, n.state&unix.NUD_NOARP != 0 && !n.dst.IsValid()
	}
	o.Dst = n.dst
	return o, n.dst.IsValid()
}

// neighbour says whether an entry is a permanent neighbour that bears our mark.
func (n neigh) neighbour(link string) (o dataplane.Neighbour, ok bool) {
	ip := n.family == unix.AF_INET || n.family == unix.AF_INET6
	return dataplane.Neighbour{Link: link, Addr: n.dst, MAC: n.mac.String()},
		ip && n.dst.IsValid() && n.state&unix.NUD_PERMANENT != 0 && n.flags&unix.NTF_PROXY == 0 && n.protocol == routeProtocol
}

// wanted is the entry of a declared object; del is for its deletion.
func wantedNeigh(o dataplane.Object, index int, del bool) (n neigh, flags int, err error) {
	mac := ""
	flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	switch o := o.(type) {
	case dataplane.FDB:
		mac = o.MAC
		n = neigh{family: unix.AF_BRIDGE, index: index, dst: o.Dst, flags: unix.NTF_SELF, state: unix.NUD_PERMANENT}
		switch {
		case !o.Dst.IsValid():
			n.flags, n.state = unix.NTF_MASTER|ntfSticky, unix.NUD_NOARP
		case o.MAC == dataplane.FDBDefault:
			flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND
		case del:
			n.dst = netip.Addr{} // wherever it leads now
		}
	case dataplane.Neighbour:
		mac = o.MAC
		n = neigh{family: unix.AF_INET, index: index, dst: o.Addr, state: unix.NUD_PERMANENT, protocol: routeProtocol}
		if o.Addr.Is6() {
			n.family = unix.AF_INET6
		}
		if del {
			mac = ""
		}
	}
	if del {
		flags = 0
	}
	if mac != "" {
		if n.mac, err = net.ParseMAC(mac); err != nil {
			return n, 0, fmt.Errorf("%s: %w", o.Key(), err)
		}
	}
	return n, flags, nil
}

// fdbs lists the forwarding database of one port and of its bridge there. The filter is
// an ifinfomsg, by a habit that the kernel keeps (rtnl_fdb_dump, valid_fdb_dump_legacy).
func (c *rtnl) fdbs(index int) ([]neigh, error) {
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	return c.neighs("forwarding database", index, msg)
}

// neighbours lists those of one link, or, with index 0, of all.
func (c *rtnl) neighbours(index int) ([]neigh, error) {
	parts := []nl.NetlinkRequestData{&rawMessage{make([]byte, sizeofNdmsg)}}
	if index != 0 {
		parts = append(parts, u32(unix.NDA_IFINDEX, uint32(index)))
	}
	return c.neighs("neighbours", index, parts...)
}

func (c *rtnl) neighs(what string, index int, parts ...nl.NetlinkRequestData) (out []neigh, err error) {
	msgs, err := c.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, parts...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	for _, m := range msgs {
		if n, ok := parseNeigh(m); ok && (index == 0 || n.index == index) {
			out = append(out, n)
		}
	}
	return out, nil
}

// rawMessage is bytes as the library wants them.
type rawMessage struct{ b []byte }

func (m *rawMessage) Len() int          { return len(m.b) }
func (m *rawMessage) Serialize() []byte { return m.b }
