package linux

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/netns"
)

// defaultMTU is what the kernel gives to bridges and veths.
const defaultMTU = 1500

// aliasMax is IFALIASZ without the final NUL (linux/if.h).
const aliasMax = 255

func mtuOf(n int) int {
	if n == 0 {
		return defaultMTU
	}
	return n
}

// hostLink makes or takes away a link of the host, one at a time; what is heard of it
// meanwhile is judged after.
func (a *applier) hostLink(v dataplane.Verb, name string, plug, unplug func() error) error {
	k := a.k
	k.hostMu.Lock()
	defer k.hostMu.Unlock()
	defer k.made.begin(name)()
	if v == dataplane.Delete {
		k.made.forget(name)
		return unplug()
	}
	return plug()
}

func (a *applier) bridge(v dataplane.Verb, o dataplane.Bridge) (err error) {
	k := a.k
	fresh := false
	defer func() {
		if err == nil {
			k.madeBridge(o, fresh)
		}
	}()
	mac, err := k.mac(o.Name, o.MAC)
	if err != nil {
		return err
	}
	if o.NFCall {
		if err := k.needBridgeNF(o.Name); err != nil {
			return err
		}
	}
	if v == dataplane.Create {
		// The MTU comes after: only a change of it tells the bridge not to follow its
		// ports' (br_mtu_auto_adjust). STP is off by default, and without it a port
		// forwards at once, whatever forward_delay says (br_make_forwarding).
		err := k.create(o.Name, nl.NewRtAttr(unix.IFLA_ADDRESS, mac), bridgeInfo(o, o.NFCall))
		if err == nil {
			fresh = true
			k.alias(o.Name, o.Meta)
		} else if !errors.Is(err, unix.EEXIST) {
			return err
		}
		if err == nil && mtuOf(o.MTU) == defaultMTU {
			return nil
		}
	}
	l, err := k.ours(o.Name)
	if err != nil {
		return err
	}
	if l == nil {
		return missing("", o.Name)
	}
	if l.kind != "bridge" {
		return cnm.Conflict("%s is ours but no bridge (%s)", o.Name, l.what())
	}
	var attrs []nl.NetlinkRequestData
	if l.mtu != mtuOf(o.MTU) {
		attrs = append(attrs, u32(unix.IFLA_MTU, uint32(mtuOf(o.MTU))))
	}
	if l.mac.String() != mac.String() {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_ADDRESS, mac))
	}
	if l.nfCall != o.NFCall {
		attrs = append(attrs, bridgeInfo(o, true))
	}
	if len(attrs) == 0 {
		return nil
	}
	return k.rt.set(l.index, o.Name, 0, 0, attrs...)
}

// bridgeInfo says what kind of link it is and, when told to, sets what only bridges
// have. A kernel without br_netfilter ignores it.
func bridgeInfo(o dataplane.Bridge, all bool) *nl.RtAttr {
	kind := str(nl.IFLA_INFO_KIND, "bridge")
	if !all {
		return nest(unix.IFLA_LINKINFO, kind)
	}
	return nest(unix.IFLA_LINKINFO, kind, nest(nl.IFLA_INFO_DATA,
		bytesOf(nl.IFLA_BR_NF_CALL_IPTABLES, flagByte(o.NFCall)), bytesOf(nl.IFLA_BR_NF_CALL_IP6TABLES, flagByte(o.NFCall))))
}

func (a *applier) veth(v dataplane.Verb, o dataplane.Veth) (err error) {
	k := a.k
	master, fresh := 0, false
	defer func() {
		if err == nil {
			k.madeVeth(o, master, fresh)
		}
	}()
	if o.Master != "" {
		m, err := k.master(o)
		if err != nil {
			return err
		}
		master = m.index
	}
	if v == dataplane.Create {
		err := a.makePair(o, master)
		if err == nil {
			fresh = true
			return k.portFlags(o)
		}
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return a.adjustVeth(v, o, master)
}

// master finds the bridge that a veth becomes a port of. A borrowed one is any
// bridge but ours: when someone deleted it and it came back, its ports do as well.
func (k *Kernel) master(o dataplane.Veth) (*link, error) {
	m, err := k.rt.linkByName(o.Master)
	switch {
	case err != nil:
		return nil, err
	case m == nil && o.Borrowed:
		return nil, fmt.Errorf("its bridge %s does not exist; make it again: ip link add %s type bridge", o.Master, o.Master)
	case m == nil:
		return nil, fmt.Errorf("its bridge %s does not exist", o.Master)
	case o.Borrowed && m.kind != "bridge":
		return nil, cnm.Conflict("%s is no bridge (%s)", o.Master, m.what())
	case !o.Borrowed && !k.mine(m):
		return nil, conflict(m)
	}
	return m, nil
}

// makePair makes both ends in one message, so that a kill leaves no half: name,
// group, master and MTU here, name, MAC and MTU in the sandbox. Both ends up is for
// later: IFF_UP on the peer fails with ENOTCONN in this message.
func (a *applier) makePair(o dataplane.Veth, master int) error {
	mac, err := a.k.mac(o.Name+"/"+o.PeerName, o.PeerMAC)
	if err != nil {
		return err
	}
	ns, err := a.sandbox(o.PeerNS)
	if err != nil {
		return err
	}
	mtu := u32(unix.IFLA_MTU, uint32(mtuOf(o.MTU)))
	peer := nl.NewRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	for _, at := range []*nl.RtAttr{str(unix.IFLA_IFNAME, o.PeerName), mtu, nl.NewRtAttr(unix.IFLA_ADDRESS, mac),
		u32(unix.IFLA_NET_NS_FD, uint32(ns.ns.Fd()))} {
		peer.AddChild(at)
	}
	info := nest(unix.IFLA_LINKINFO, str(nl.IFLA_INFO_KIND, "veth"), nest(nl.IFLA_INFO_DATA, peer))
	attrs := []nl.NetlinkRequestData{mtu, info}
	if master != 0 {
		attrs = append(attrs, u32(unix.IFLA_MASTER, uint32(master)))
	}
	if err := a.k.create(o.Name, attrs...); err != nil {
		return err
	}
	delete(ns.links, o.PeerName) // an earlier one of that name had another index
	a.k.point("between create and alias link " + o.Name)
	a.k.alias(o.Name, o.Meta)
	return nil
}

// adjustVeth brings a veth that exists to what is wanted. A pair whose other end
// is not where it belongs is made anew.
func (a *applier) adjustVeth(v dataplane.Verb, o dataplane.Veth, master int) error {
	k := a.k
	l, err := k.ours(o.Name)
	if err != nil {
		return err
	}
	if l == nil && v == dataplane.Create && !a.clearDoomedPeer(o) {
		return cnm.Conflict("%s exists already in sandbox %s", o.PeerName, o.PeerNS)
	}
	if l != nil && (l.kind != "veth" || !a.peerIsIn(l, o.PeerNS)) {
		if err := a.unplug(o); err != nil {
			return err
		}
		l = nil
	}
	if l == nil {
		if err := a.makePair(o, master); err != nil {
			return err
		}
		return k.portFlags(o)
	}
	var attrs []nl.NetlinkRequestData
	if l.master != master {
		attrs = append(attrs, u32(unix.IFLA_MASTER, uint32(master)))
	}
	if l.mtu != mtuOf(o.MTU) {
		attrs = append(attrs, u32(unix.IFLA_MTU, uint32(mtuOf(o.MTU))))
	}
	if len(attrs) > 0 {
		if err := k.rt.set(l.index, o.Name, 0, 0, attrs...); err != nil {
			return err
		}
	}
	if l.mtu != mtuOf(o.MTU) {
		if err := a.peerMTU(o, l); err != nil {
			return err
		}
	}
	if l.master == master && l.port.hairpin == o.Hairpin && l.port.isolated == o.Isolated || master == 0 {
		return nil
	}
	return k.rt.setPort(l.index, o.Hairpin, o.Isolated)
}

// peerIsIn says that the other end of l lies in the namespace pinned at path.
func (a *applier) peerIsIn(l *link, path string) bool {
	if s := a.inside[path]; s != nil {
		return l.peerNS >= 0 && a.k.rt.nsid(int(s.ns.Fd())) == l.peerNS
	}
	f, err := netns.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return l.peerNS >= 0 && a.k.rt.nsid(int(f.Fd())) == l.peerNS
}

// peerMTU follows the host end's MTU in the sandbox, whatever the interface is
// called in there now.
func (a *applier) peerMTU(o dataplane.Veth, l *link) error {
	s, err := a.sandbox(o.PeerNS)
	if err != nil {
		return err
	}
	return s.rt.set(l.peer, "", 0, 0, u32(unix.IFLA_MTU, uint32(mtuOf(o.MTU))))
}

// portFlags sets what a new port does not have by default.
func (k *Kernel) portFlags(o dataplane.Veth) error {
	if !o.Hairpin && !o.Isolated || o.Master == "" {
		return nil
	}
	l, err := k.ours(o.Name)
	if err != nil || l == nil {
		return errors.Join(err, missing("", o.Name))
	}
	return k.rt.setPort(l.index, o.Hairpin, o.Isolated)
}

// create makes a link with our mark in the creating message.
func (k *Kernel) create(name string, attrs ...nl.NetlinkRequestData) error {
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC), str(unix.IFLA_IFNAME, name), u32(unix.IFLA_GROUP, k.group)}, attrs...)
	err := k.rt.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// A kill may have come between dooming a link and freeing its name.
	if l, e := k.rt.linkByName(name); e != nil || l == nil || l.group != k.doom || k.freeName(l) != nil {
		return err
	}
	return k.rt.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
}

// alias tells people whose link it is (ip link show). The kernel ignores it in
// the creating message; nothing depends on it.
func (k *Kernel) alias(name string, m dataplane.Meta) {
	if m.Owner.Kind == "" {
		return
	}
	text := m.Owner.String() + ": " + m.Reason
	if len(text) > aliasMax {
		text = text[:aliasMax]
	}
	if err := k.rt.set(0, name, 0, 0, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(text))); err != nil {
		k.log.Debug("alias not set", "link", name, "err", err)
	}
}

// ours looks a host link up: nil when there is none, a conflict when it is a
// stranger's.
func (k *Kernel) ours(name string) (*link, error) {
	l, err := k.rt.linkByName(name)
	if err != nil || l == nil {
		return nil, err
	}
	if l.group != k.group {
		return nil, conflict(l)
	}
	return l, nil
}

// mac parses a wanted address, or derives one from the instance and the link's
// name: a random one could not be recognised by the next process.
func (k *Kernel) mac(name, want string) (net.HardwareAddr, error) {
	if want != "" {
		mac, err := net.ParseMAC(want)
		if err != nil {
			return nil, cnm.Invalid("MAC address of %s: %w", name, err)
		}
		return mac, nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%06x %s", k.cfg.Instance, name))
	return net.HardwareAddr{0x02, 0x4c, sum[0], sum[1], sum[2], sum[3]}, nil // locally administered, unicast
}

// macText is the observed counterpart: empty for the derived address.
func (k *Kernel) macText(name string, have net.HardwareAddr) string {
	if own, err := k.mac(name, ""); err == nil && own.String() == have.String() {
		return ""
	}
	return have.String()
}
