package linux

import (
	"bytes"
	"context"
	"net/netip"
	"os"
)

// HostPrefixes are the host's routes and the subnets of its addresses, leaving
// out what is on links of ours: what a new pool must not overlap.
func (k *Kernel) HostPrefixes(context.Context) ([]netip.Prefix, error) {
	rt, err := k.hostRTNL()
	if err != nil {
		return nil, err
	}
	defer rt.close()
	v, err := newView("", rt)
	if err != nil {
		return nil, err
	}
	if err := v.layers(); err != nil {
		return nil, err
	}
	ours := func(index int) bool { l := v.byIdx[index]; return l != nil && l.group == k.group }
	var out []netip.Prefix
	for _, a := range v.addrs {
		if !ours(a.index) {
			out = append(out, a.prefix.Masked())
		}
	}
	for _, r := range v.routes {
		if !ours(r.index) {
			out = append(out, r.dst.Masked())
		}
	}
	return out, nil
}

func (k *Kernel) hostRTNL() (rt *rtnl, err error) {
	err = k.inHost(func() error {
		rt, err = newRTNL()
		return err
	})
	return rt, err
}

// BridgeNF says whether bridged IPv4 packets pass nftables in this kernel's
// namespace (kernel documentation, networking/bridge: br_netfilter). Without
// the module they do not.
func (k *Kernel) BridgeNF() (on bool) {
	k.inHost(func() error {
		b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
		on = err == nil && bytes.Equal(bytes.TrimSpace(b), []byte("1"))
		return nil
	})
	return on
}
