package linux

import (
	"context"
	"fmt"
	"net/netip"

	"linkspan/dataplane"
)

// fewBits: routes this short divide the whole address space (VPNs take 0.0.0.0/1 and
// 128.0.0.0/1) and count as default routes, which no pool overlaps.
const fewBits = 2

// HostPrefixes are the host's routes and the subnets of its addresses, leaving
// out what is on links of ours: what a new pool must not overlap.
func (k *Kernel) HostPrefixes(ctx context.Context) ([]netip.Prefix, error) {
	routes, err := k.HostRoutes(ctx)
	var out []netip.Prefix
	for _, r := range routes {
		out = append(out, r.Prefix)
	}
	return out, err
}

// HostRoutes are the same with what each is for. Routes of /2 and shorter are left
// out.
func (k *Kernel) HostRoutes(context.Context) ([]dataplane.HostRoute, error) {
	v, err := k.hostView()
	if err != nil {
		return nil, err
	}
	name := func(index int) string {
		if l := v.byIdx[index]; l != nil {
			return l.name
		}
		return "another interface"
	}
	// What is about to be deleted is nobody's any more.
	ours := func(index int) bool { l := v.byIdx[index]; return l != nil && (k.mine(l) || l.group == k.doom) }
	var out []dataplane.HostRoute
	for _, a := range v.addrs {
		if !ours(a.index) {
			out = append(out, dataplane.HostRoute{Prefix: a.prefix.Masked(), What: "address of " + name(a.index)})
		}
	}
	for _, r := range v.routes {
		if r.unreachable || k.marked(r) || ours(r.index) || r.dst.Bits() <= fewBits {
			continue
		}
		what := "route via dev " + name(r.index)
		if r.via.IsValid() {
			what = fmt.Sprintf("route via %s dev %s", r.via, name(r.index))
		}
		out = append(out, dataplane.HostRoute{Prefix: r.dst.Masked(), What: what})
	}
	return out, nil
}

// HostLink says what the link of that name is; one that is about to be deleted does
// not exist.
func (k *Kernel) HostLink(_ context.Context, name string) (dataplane.HostLink, error) {
	rt, err := k.hostRTNL()
	if err != nil {
		return dataplane.HostLink{}, err
	}
	defer rt.close()
	l, err := rt.linkByName(name)
	if err != nil || l == nil || l.group == k.doom {
		return dataplane.HostLink{}, err
	}
	out := dataplane.HostLink{Exists: true, Bridge: l.kind == "bridge", Ours: k.mine(l), What: l.what(), MTU: l.mtu}
	all, err := rt.addrs()
	for _, a := range all {
		if ip := a.prefix.Addr(); a.index == l.index && !(ip.Is6() && ip.IsLinkLocalUnicast()) {
			out.Addrs = append(out.Addrs, a.prefix)
		}
	}
	return out, err
}

func (k *Kernel) hostView() (*view, error) {
	rt, err := k.hostRTNL()
	if err != nil {
		return nil, err
	}
	defer rt.close()
	v, err := newView("", rt)
	if err != nil {
		return nil, err
	}
	return v, v.layers()
}

func (k *Kernel) hostRTNL() (rt *rtnl, err error) {
	err = k.inHost(func() error {
		rt, err = newRTNL()
		return err
	})
	return rt, err
}
