package overlay

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// The option keys of networks, spelt as Docker's; the port is ours.
const (
	optVNIs      = "com.docker.network.driver.overlay.vxlanid_list"
	optPort      = "com.docker.network.driver.overlay.port"
	optEncrypted = "encrypted"
)

// maxVNI is the largest number that 24 bits hold (RFC 7348).
const maxVNI = 1<<24 - 1

// securePort is the UDP port of encrypted networks, of which nothing is ever on the wire
// in plain text: theirs are apart from the others'.
const securePort = 4790

// options are an overlay network's, decoded once.
type options struct {
	segment.Common
	bridge, tunnel string // the devices
	encrypted      bool
	icc            bool   // default true
	port           int    // UDP; 0: the mesh's
	vni            uint32 // wished; 0: the mesh chooses
}

func decode(n *cnm.Network) (options, error) {
	o := options{Common: segment.Defaults(), icc: true, bridge: segment.DeviceName("br-", n), tunnel: segment.DeviceName("vx-", n)}
	known := map[string]func(string) error{
		optEncrypted:      segment.Switch(&o.encrypted),
		segment.OptICC:    segment.Boolean(&o.icc),
		optPort:           segment.Bounded(&o.port, 1, 65535, "(a UDP port)"),
		optVNIs:           numbers(&o.vni),
		segment.OptBridge: segment.OneName,
	}
	o.Common.Known(known)
	if err := driver.Decode(n, known); err != nil {
		return o, err
	}
	return o, segment.CheckMTU(n, o.MTU)
}

// numbers reads a list of VNIs, of which there is one: Docker has one for each subnet,
// here the subnets of a network share one.
func numbers(to *uint32) func(string) error {
	return func(v string) error {
		for item := range strings.SplitSeq(v, ",") {
			vni, err := strconv.ParseUint(strings.TrimSpace(item), 10, 32)
			switch {
			case err != nil || vni == 0 || vni > maxVNI:
				return fmt.Errorf("%q is no VNI: a number from 1 to %d", strings.TrimSpace(item), maxVNI)
			case *to != 0 && *to != uint32(vni):
				return fmt.Errorf("all subnets of a network share one VNI: give one number")
			}
			*to = uint32(vni)
		}
		return nil
	}
}

// VNIs implements driver.Numbered.
func (Driver) VNIs(n *cnm.Network) ([]uint32, error) {
	o, err := decode(n)
	if err != nil {
		return nil, err
	}
	vnis := make([]uint32, len(n.Pools))
	for i := range vnis {
		vnis[i] = o.vni
	}
	return vnis, nil
}

// number is the network's VNI, or 0 for one that has none yet.
func number(n *cnm.Network) uint32 {
	for _, vni := range n.VNIs {
		if vni != 0 {
			return vni
		}
	}
	return 0
}

// tunnels says whether anything leaves this host for others: an encrypted network stays
// closed until there is a device that encrypts.
func (o options) tunnels(u *cnm.Underlay) bool {
	return u != nil && (!o.encrypted || segment.Encrypts(u))
}

// udp is the port of the network's tunnels.
func (o options) udp(u *cnm.Underlay) uint16 {
	switch {
	case o.port != 0:
		return uint16(o.port)
	case o.encrypted:
		return securePort
	}
	return u.UDPPort()
}

// size is the largest packet of the network's containers, in bytes. What a person wishes
// counts as far as the device takes it: more would vanish without a word.
func (o options) size(env driver.Env) int {
	switch {
	case !o.tunnels(env.Underlay):
		return cmp.Or(o.MTU, env.MTU)
	case o.MTU != 0:
		return min(o.MTU, env.Underlay.DeviceMTU(o.encrypted))
	}
	return env.Underlay.VXLANMTU(o.encrypted)
}
