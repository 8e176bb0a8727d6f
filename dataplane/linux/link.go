package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// link is what the engine reads of a network interface.
type link struct {
	index, master int
	name, kind    string
	group, flags  uint32
	mtu           int
	mac           net.HardwareAddr
	peer          int  // ifindex of a veth's other end
	peerNS        int  // nsid of the namespace the other end is in; -1: the same or unknown
	nfCall        bool // a bridge's
	port          portFlags
	vxlan         *vxlanLink
}

// portFlags are what a bridge keeps of its port.
type portFlags struct{ hairpin, isolated, learning, flood, mcast, bcast, suppress bool }

// vxlanLink is what a VXLAN device says of itself.
type vxlanLink struct {
	id       uint32
	dev      int // ifindex of the underlay; 0: none
	local    netip.Addr
	port     uint16
	learning bool
}

func (l *link) up() bool { return l.flags&unix.IFF_UP != 0 }

func (l *link) what() string {
	k := l.kind
	if k == "" {
		k = "device"
	}
	return fmt.Sprintf("%s, group %d", k, l.group)
}

// skipStats leaves the counters out of answers (rtnetlink.h, RTEXT_FILTER_SKIP_STATS).
func skipStats() *nl.RtAttr { return u32(unix.IFLA_EXT_MASK, 1<<3) }

// links returns all interfaces of the namespace.
func (c *rtnl) links() ([]*link, error) {
	msgs, err := c.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), skipStats())
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]*link, 0, len(msgs))
	for _, m := range msgs {
		out = append(out, parseLink(m))
	}
	return out, nil
}

// linkByName returns nil without an error when there is none.
func (c *rtnl) linkByName(name string) (*link, error) {
	l, err := c.getLink(nl.NewIfInfomsg(unix.AF_UNSPEC), str(unix.IFLA_IFNAME, name), skipStats())
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", name, err)
	}
	return l, nil
}

// linkByIndex likewise.
func (c *rtnl) linkByIndex(index int) (*link, error) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	return c.getLink(msg, skipStats())
}

func (c *rtnl) getLink(parts ...nl.NetlinkRequestData) (*link, error) {
	m, err := c.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, parts...)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseLink(m), nil
}

// set changes an existing link: flags and attributes in one message.
func (c *rtnl) set(index int, name string, flags, mask uint32, attrs ...nl.NetlinkRequestData) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, mask
	parts := []nl.NetlinkRequestData{msg}
	if index == 0 {
		parts = append(parts, str(unix.IFLA_IFNAME, name))
	}
	return c.do(unix.RTM_NEWLINK, 0, append(parts, attrs...)...)
}

// setPort sets a bridge port's flags in one message.
func (c *rtnl) setPort(index int, hairpin, isolated bool) error {
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	return c.do(unix.RTM_SETLINK, 0, msg, nest(unix.IFLA_PROTINFO,
		bytesOf(nl.IFLA_BRPORT_MODE, flagByte(hairpin)), bytesOf(nl.IFLA_BRPORT_ISOLATED, flagByte(isolated))))
}

func (c *rtnl) delLink(index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	return c.do(unix.RTM_DELLINK, 0, msg)
}

// delGroup deletes all links of a group, which takes little longer than one.
func (c *rtnl) delGroup(group uint32) error {
	return c.do(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), u32(unix.IFLA_GROUP, group))
}

// nsid is the id by which this namespace knows the one behind fd, or -1 when it
// never had a link into it (rtnetlink: RTM_GETNSID).
func (c *rtnl) nsid(fd int) int {
	m, err := c.get(unix.RTM_GETNSID, unix.RTM_NEWNSID, nl.NewRtGenMsg(), u32(unix.NETNSA_FD, uint32(fd)))
	if err != nil {
		return -1
	}
	id := -1
	if len(m) > nsidHeader {
		eachAttr(m[nsidHeader:], func(t int, b []byte) {
			if t == unix.NETNSA_NSID {
				id = int(int32(nl.NativeEndian().Uint32(b)))
			}
		})
	}
	return id
}

// nsidHeader is sizeof(struct rtgenmsg), aligned.
const nsidHeader = 4

func parseLink(m []byte) *link {
	h := nl.DeserializeIfInfomsg(m)
	ne := nl.NativeEndian()
	l := &link{index: int(h.Index), flags: h.Flags, peerNS: -1}
	eachAttr(m[h.Len():], func(t int, b []byte) {
		switch t {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(b)
		case unix.IFLA_GROUP:
			l.group = ne.Uint32(b)
		case unix.IFLA_MTU:
			l.mtu = int(ne.Uint32(b))
		case unix.IFLA_MASTER:
			l.master = int(ne.Uint32(b))
		case unix.IFLA_ADDRESS:
			l.mac = net.HardwareAddr(append([]byte(nil), b...))
		case unix.IFLA_LINK:
			l.peer = int(ne.Uint32(b))
		case unix.IFLA_LINK_NETNSID:
			l.peerNS = int(int32(ne.Uint32(b)))
		case unix.IFLA_LINKINFO:
			l.parseInfo(b)
		case unix.IFLA_PROTINFO: // in messages of the bridge's family
			l.parsePort(b)
		}
	})
	return l
}

func (l *link) parseInfo(b []byte) {
	slave := ""
	var data []byte
	eachAttr(b, func(t int, b []byte) {
		switch t {
		case nl.IFLA_INFO_KIND:
			l.kind = unix.ByteSliceToString(b)
		case nl.IFLA_INFO_DATA:
			data = b
		case nl.IFLA_INFO_SLAVE_KIND:
			slave = unix.ByteSliceToString(b)
		case nl.IFLA_INFO_SLAVE_DATA:
			if slave == "bridge" {
				l.parsePort(b)
			}
		}
	})
	if l.kind == "vxlan" {
		l.vxlan = parseVXLAN(data)
	}
	if l.kind == "bridge" {
		eachAttr(data, func(t int, b []byte) {
			if t == nl.IFLA_BR_NF_CALL_IPTABLES {
				l.nfCall = len(b) > 0 && b[0] != 0
			}
		})
	}
}

func (l *link) parsePort(b []byte) {
	eachAttr(b, func(t int, b []byte) {
		on := len(b) > 0 && b[0] != 0
		switch t {
		case nl.IFLA_BRPORT_MODE:
			l.port.hairpin = on
		case nl.IFLA_BRPORT_ISOLATED:
			l.port.isolated = on
		case nl.IFLA_BRPORT_LEARNING:
			l.port.learning = on
		case nl.IFLA_BRPORT_UNICAST_FLOOD:
			l.port.flood = on
		case nl.IFLA_BRPORT_MCAST_FLOOD:
			l.port.mcast = on
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			l.port.bcast = on
		case nl.IFLA_BRPORT_NEIGH_SUPPRESS:
			l.port.suppress = on
		}
	})
}

func parseVXLAN(data []byte) *vxlanLink {
	v := &vxlanLink{}
	eachAttr(data, func(t int, b []byte) {
		switch {
		case t == nl.IFLA_VXLAN_ID && len(b) == 4:
			v.id = nl.NativeEndian().Uint32(b)
		case t == nl.IFLA_VXLAN_LINK && len(b) == 4:
			v.dev = int(nl.NativeEndian().Uint32(b))
		case t == nl.IFLA_VXLAN_LOCAL, t == nl.IFLA_VXLAN_LOCAL6:
			v.local, _ = netip.AddrFromSlice(b)
		case t == nl.IFLA_VXLAN_PORT && len(b) == 2:
			v.port = binary.BigEndian.Uint16(b)
		case t == nl.IFLA_VXLAN_LEARNING:
			v.learning = len(b) > 0 && b[0] != 0
		}
	})
	return v
}

func flagByte(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}
