package linux

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// wireguard makes the kernel's device, or marks the keeper's: a TUN device belongs to
// the process that has it open, so that nobody else can make it.
func (a *applier) wireguard(v dataplane.Verb, o dataplane.WireGuard) (err error) {
	k := a.k
	fresh := false
	defer func() {
		if err == nil {
			k.made.note(o.Name, fresh, madeLink{kind: kindOf(o), mtu: mtuOf(o.MTU)})
		}
	}()
	if o.UserSpace {
		k.borrowed.note(o.Name) // it is heard when the keeper makes it, or makes it again
	}
	mtu := u32(unix.IFLA_MTU, uint32(mtuOf(o.MTU)))
	if v == dataplane.Create && !o.UserSpace {
		err := k.create(o.Name, mtu, nest(unix.IFLA_LINKINFO, str(nl.IFLA_INFO_KIND, "wireguard")))
		switch {
		case err == nil:
			fresh = true
			k.alias(o.Name, o.Meta)
			return nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return cnm.Unsupported("this kernel has no WireGuard (modprobe wireguard): %w", err)
		case !errors.Is(err, unix.EEXIST):
			return err
		}
	}
	l, err := k.rt.linkByName(o.Name)
	switch {
	case err != nil:
		return err
	case l == nil && o.UserSpace:
		return fmt.Errorf("the keeper has not made the TUN device %s yet, or closed it: %w", o.Name, unix.ENODEV)
	case l == nil:
		return missing("", o.Name)
	case l.kind != kindOf(o), l.group != k.group && (!o.UserSpace || l.group != 0):
		return conflict(l)
	}
	var attrs []nl.NetlinkRequestData
	if l.group != k.group {
		fresh = true
		attrs = append(attrs, u32(unix.IFLA_GROUP, k.group))
	}
	if l.mtu != mtuOf(o.MTU) {
		attrs = append(attrs, mtu)
	}
	if len(attrs) == 0 {
		return nil
	}
	if err := k.rt.set(l.index, o.Name, 0, 0, attrs...); err != nil {
		return err
	}
	k.alias(o.Name, o.Meta)
	return nil
}

func kindOf(o dataplane.WireGuard) string {
	if o.UserSpace {
		return "tun"
	}
	return "wireguard"
}
