package linux

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// What a VXLAN device puts around a packet, in bytes: inner Ethernet 14, VXLAN 8, UDP 8,
// and the outer IP header of 20 or 40 (RFC 7348; vxlan.h: vxlan_headroom).
const (
	overhead4 = 50
	overhead6 = 70
)

func overhead(o dataplane.VXLAN) int {
	if o.Local.Is6() {
		return overhead6
	}
	return overhead4
}

// genNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): a device without a link-local
// address of its own sends no neighbour discovery of its own through the tunnel.
const (
	ifla6GenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	genNone      = 1
)

func (a *applier) vxlan(v dataplane.Verb, o dataplane.VXLAN) (err error) {
	k := a.k
	master, dev, err := k.tunnelEnds(o)
	if err != nil {
		return err
	}
	fresh := false
	defer func() {
		if err == nil {
			k.madeVXLAN(o, master, dev, fresh)
		}
	}()
	if v == dataplane.Create {
		err := k.makeVXLAN(o, master, dev)
		if !errors.Is(err, unix.EEXIST) {
			fresh = err == nil
			return err
		}
	}
	l, err := k.ours(o.Name)
	switch {
	case err != nil:
		return err
	case l == nil:
		return missing("", o.Name)
	case l.kind != "vxlan":
		return cnm.Conflict("%s is ours but no VXLAN device (%s)", o.Name, l.what())
	case o.Remade(k.vxlanOf(l, o.Dev, dev)):
		if err := gone(k.rt.delLink(l.index)); err != nil {
			return err
		}
		fresh = true
		return k.makeVXLAN(o, master, dev)
	}
	return k.adjustVXLAN(l, o, master, dev)
}

// tunnelEnds finds the bridge and the underlay's device; nil where none is named.
func (k *Kernel) tunnelEnds(o dataplane.VXLAN) (master, dev *link, err error) {
	if !o.Local.IsValid() {
		return nil, nil, cnm.Invalid("VXLAN device %s has no address of this host", o.Name)
	}
	if o.Master != "" {
		if master, err = k.ours(o.Master); err != nil {
			return nil, nil, err
		}
		if master == nil || master.kind != "bridge" {
			return nil, nil, fmt.Errorf("its bridge %s does not exist", o.Master)
		}
	}
	if o.Dev != "" {
		if dev, err = k.rt.linkByName(o.Dev); err != nil {
			return nil, nil, err
		}
		if dev == nil {
			return nil, nil, fmt.Errorf("the device of its underlay, %s, does not exist: %w", o.Dev, unix.ENODEV)
		}
		if most := dev.mtu - overhead(o); o.InnerMTU() > most {
			return nil, nil, cnm.Invalid("packets of %d bytes do not fit through %s (MTU %d, of which the tunnel takes %d): at most %d",
				o.InnerMTU(), o.Dev, dev.mtu, overhead(o), most)
		}
	}
	return master, dev, nil
}

// makeVXLAN makes it, with our mark, in one message; it is down until the ports' flags
// are set and the plan has it up.
func (k *Kernel) makeVXLAN(o dataplane.VXLAN, master, dev *link) error {
	mac, err := k.mac(o.Name, o.MAC)
	if err != nil {
		return err
	}
	data := []*nl.RtAttr{u32(nl.IFLA_VXLAN_ID, o.VNI), bytesOf(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, o.UDPPort())),
		bytesOf(nl.IFLA_VXLAN_LEARNING, flagByte(false))}
	if o.Local.Is6() {
		data = append(data, bytesOf(nl.IFLA_VXLAN_LOCAL6, o.Local.AsSlice()))
	} else {
		data = append(data, bytesOf(nl.IFLA_VXLAN_LOCAL, o.Local.AsSlice()))
	}
	if dev != nil {
		data = append(data, u32(nl.IFLA_VXLAN_LINK, uint32(dev.index)))
	}
	attrs := []nl.NetlinkRequestData{u32(unix.IFLA_MTU, uint32(o.InnerMTU())), nl.NewRtAttr(unix.IFLA_ADDRESS, mac),
		nest(unix.IFLA_LINKINFO, str(nl.IFLA_INFO_KIND, "vxlan"), nest(nl.IFLA_INFO_DATA, data...))}
	if master != nil {
		attrs = append(attrs, u32(unix.IFLA_MASTER, uint32(master.index)))
	}
	err = k.create(o.Name, attrs...)
	if errors.Is(err, unix.EEXIST) {
		err = k.numberTaken(o, err, func() error { return k.create(o.Name, attrs...) })
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return cnm.Unsupported("this kernel has no VXLAN devices (modprobe vxlan): %w", err)
	case err != nil:
		return err
	}
	k.point("between create and alias link " + o.Name)
	k.alias(o.Name, o.Meta)
	l, err := k.ours(o.Name)
	if err != nil || l == nil {
		return errors.Join(err, missing("", o.Name))
	}
	if err := k.rt.set(l.index, o.Name, 0, 0, nest(unix.IFLA_AF_SPEC, nest(unix.AF_INET6, bytesOf(ifla6GenMode, []byte{genNone})))); err != nil {
		k.log.Debug("IPv6 link-local address not kept off", "link", o.Name, "err", err) // no IPv6, no such address
	}
	k.point("between making and port of link " + o.Name)
	return k.tunnelPort(l.index, master)
}

// numberTaken: something is there already, the name or the VNI. One of ours whose
// deletion has begun is deleted at once.
func (k *Kernel) numberTaken(o dataplane.VXLAN, err error, again func() error) error {
	all, e := k.rt.links()
	if e != nil {
		return errors.Join(err, e)
	}
	named := false
	for _, l := range all {
		named = named || l.name == o.Name
		if l.vxlan == nil || l.vxlan.id != o.VNI || l.vxlan.port != o.UDPPort() || l.name == o.Name && l.group != k.doom {
			continue
		}
		if l.group != k.doom {
			return cnm.Conflict("VNI %d on UDP port %d is in use on this host by %s (%s): delete it (ip link del %s), or give the network another number",
				o.VNI, o.UDPPort(), l.name, l.what(), l.name)
		}
		if e := gone(k.rt.delLink(l.index)); e != nil {
			return errors.Join(err, e)
		}
		return again()
	}
	if !named {
		return again() // it went meanwhile
	}
	return err
}

// vxlanOf is what is there, as far as o.Remade compares it.
func (k *Kernel) vxlanOf(l *link, devName string, dev *link) dataplane.VXLAN {
	have := dataplane.VXLAN{Name: l.name}
	if v := l.vxlan; v != nil {
		have.VNI, have.Local, have.Port = v.id, v.local, v.port
		switch {
		case dev == nil && v.dev != 0:
			have.Dev = fmt.Sprint("index ", v.dev)
		case dev != nil && dev.index == v.dev:
			have.Dev = devName
		}
	}
	return have
}

func (k *Kernel) adjustVXLAN(l *link, o dataplane.VXLAN, master, dev *link) error {
	mac, err := k.mac(o.Name, o.MAC)
	if err != nil {
		return err
	}
	var attrs []nl.NetlinkRequestData
	if l.mtu != o.InnerMTU() {
		attrs = append(attrs, u32(unix.IFLA_MTU, uint32(o.InnerMTU())))
	}
	if l.mac.String() != mac.String() {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_ADDRESS, mac))
	}
	index := 0
	if master != nil {
		index = master.index
	}
	if l.master != index {
		attrs = append(attrs, u32(unix.IFLA_MASTER, uint32(index)))
	}
	if l.vxlan.learning {
		// The number has to be said again, or the kernel takes it for another.
		attrs = append(attrs, nest(unix.IFLA_LINKINFO, str(nl.IFLA_INFO_KIND, "vxlan"), nest(nl.IFLA_INFO_DATA,
			u32(nl.IFLA_VXLAN_ID, o.VNI), bytesOf(nl.IFLA_VXLAN_LEARNING, flagByte(false)))))
	}
	if len(attrs) > 0 {
		if err := k.rt.set(l.index, o.Name, 0, 0, attrs...); err != nil {
			return err
		}
	}
	if l.master == index && !l.lax() {
		return nil
	}
	return k.tunnelPort(l.index, master)
}

// tunnelPort sets what a tunnel's port does otherwise than a container's: the bridge
// answers ARP and ND for what is behind it, learns nothing from it, and sends nothing to
// MACs that it does not know.
func (k *Kernel) tunnelPort(index int, master *link) error {
	if master == nil {
		return nil
	}
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	return k.rt.do(unix.RTM_SETLINK, 0, msg, nest(unix.IFLA_PROTINFO,
		bytesOf(nl.IFLA_BRPORT_LEARNING, flagByte(false)), bytesOf(nl.IFLA_BRPORT_UNICAST_FLOOD, flagByte(false)),
		bytesOf(nl.IFLA_BRPORT_MCAST_FLOOD, flagByte(true)), bytesOf(nl.IFLA_BRPORT_BCAST_FLOOD, flagByte(true)),
		bytesOf(nl.IFLA_BRPORT_NEIGH_SUPPRESS, flagByte(true))))
}

// lax says that a VXLAN device learns, or as a port is not as tunnelPort sets it.
func (l *link) lax() bool {
	return l.vxlan != nil && l.vxlan.learning ||
		l.master != 0 && (l.port.learning || l.port.flood || !l.port.mcast || !l.port.bcast || !l.port.suppress)
}

// unplugHost takes a link that is all in the host out of use, as unplugBridge does.
func (k *Kernel) unplugHost(name string) error {
	l, err := k.mineByName(name)
	if err != nil || l == nil {
		return err
	}
	if l.kind == "tun" {
		// The keeper's: it goes when that closes it. Down and without our mark it is out of use.
		return gone(k.rt.set(l.index, name, 0, unix.IFF_UP, u32(unix.IFLA_GROUP, 0)))
	}
	attrs := []nl.NetlinkRequestData{u32(unix.IFLA_GROUP, k.doom)}
	if l.master != 0 {
		attrs = append(attrs, u32(unix.IFLA_MASTER, 0))
	}
	if err := k.rt.set(l.index, name, 0, unix.IFF_UP, attrs...); err != nil {
		return gone(err)
	}
	k.back.doomed()
	k.point("between doom and rename link " + name)
	return k.freeName(l)
}
