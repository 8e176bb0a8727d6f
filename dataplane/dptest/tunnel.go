package dptest

import (
	"fmt"

	"linkspan/cnm"
	"linkspan/dataplane"
)

// unasked are the objects of which the kernel does not tell that somebody set them: they
// are seen when they are asked for, and never taken back.
func unasked(o dataplane.Object) bool {
	switch o.(type) {
	case dataplane.Sysctl, dataplane.Offload:
		return true
	}
	return false
}

func (k *Kernel) putVXLAN(v dataplane.Verb, o dataplane.VXLAN) error {
	if err := k.nameFree(v, o.Name, o.Key()); err != nil {
		return err
	}
	if _, bridge := k.objs["link "+o.Master].(dataplane.Bridge); o.Master != "" && !bridge {
		return fmt.Errorf("its bridge %s does not exist", o.Master)
	}
	for _, other := range k.objs {
		if p, ok := other.(dataplane.VXLAN); ok && p.Name != o.Name && p.VNI == o.VNI && p.UDPPort() == o.UDPPort() {
			return cnm.Conflict("VNI %d on UDP port %d is in use on this host by %s", o.VNI, o.UDPPort(), p.Name)
		}
	}
	switch have := k.objs[o.Key()].(type) {
	case nil:
	case dataplane.VXLAN:
		if o.Remade(have) {
			k.remove(have)
		} else if have.Master != o.Master {
			k.dropWays(o.Name)
		}
	default:
		return cnm.Conflict("%s is ours but no VXLAN device", o.Name)
	}
	k.store(o)
	return nil
}

// dropWays: a port that leaves its bridge takes the bridge's entries along.
func (k *Kernel) dropWays(port string) {
	for key, o := range k.objs {
		if f, ok := o.(dataplane.FDB); ok && f.Dev == port && !f.Dst.IsValid() {
			delete(k.objs, key)
		}
	}
}

func (k *Kernel) putFDB(o dataplane.FDB) error {
	if err := k.linkThere("", o.Dev); err != nil {
		return err
	}
	v, vxlan := k.objs["link "+o.Dev].(dataplane.VXLAN)
	switch {
	case !vxlan && o.Dst.IsValid():
		return cnm.Conflict("%s is no VXLAN device: it leads no MAC to another host", o.Dev)
	case vxlan && o.Dst.IsValid() && o.Dst.Is4() != v.Local.Is4():
		return fmt.Errorf("%s and %s are not of one address family, as the ends of a tunnel must be", o.Dst, v.Local)
	case vxlan && !o.Dst.IsValid() && v.Master == "":
		return fmt.Errorf("%s is no port of a bridge: operation not supported", o.Dev)
	}
	return nil
}

func (k *Kernel) putOffload(o dataplane.Offload) error {
	if _, foreign := k.strange[o.Link]; !foreign {
		if err := k.linkThere("", o.Link); err != nil {
			return err
		}
	}
	prior := true // as network devices have them
	if have, ok := k.objs[o.Key()].(dataplane.Offload); ok {
		prior = have.On
	}
	if prior != o.On && k.OnShared != nil {
		value := "off"
		if prior {
			value = "on"
		}
		if err := k.OnShared(o.Setting(), value); err != nil {
			return fmt.Errorf("that it is %s could not be recorded, so it stays: %w", value, err)
		}
	}
	k.store(o)
	return nil
}
