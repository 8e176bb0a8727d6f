package linux

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// deleteLink removes a host link of ours; a stranger that holds the name now is
// left alone, ours being gone. Deleting a veth takes 20-30 ms (RCU), so with slow
// it is only taken out of use here: down, without master, in the doomed group, under
// a name that frees its own; the background deletes the group. The caller holds hostMu.
func (k *Kernel) deleteLink(name string, slow bool) error {
	l, err := k.rt.linkByName(name)
	if err != nil || l == nil {
		return err
	}
	if l.group != k.group {
		k.log.Info("link is not ours any more, left alone", "link", name, "is", l.what())
		return nil
	}
	if !slow {
		return gone(k.rt.delLink(l.index))
	}
	// Two messages, since kernels before 6.2 rename only what is down already.
	err = k.rt.set(l.index, name, 0, unix.IFF_UP, u32(unix.IFLA_MASTER, 0), u32(unix.IFLA_GROUP, k.doom))
	if err != nil {
		return gone(err) // its namespace went in between, and took it along
	}
	k.back.doomed()
	k.point("between doom and rename link " + name)
	return gone(k.rt.set(l.index, name, 0, 0, str(unix.IFLA_IFNAME, fmt.Sprintf("lsd%d", l.index))))
}

// gone takes "no such device" as success.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
