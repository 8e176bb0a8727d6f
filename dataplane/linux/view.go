package linux

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
)

// view reads one namespace, each table at most once.
type view struct {
	ns     string // pin path; empty: the host
	rt     *rtnl
	byIdx  map[int]*link
	byName map[string]*link
	addrs  []address
	routes []route4or6
	neighs []neigh // of links of ours in the host: entries that are declared
	nsid   int     // by which the host knows it
}

func newView(ns string, rt *rtnl) (*view, error) {
	v := &view{ns: ns, rt: rt, byIdx: map[int]*link{}, byName: map[string]*link{}, nsid: -1}
	links, err := rt.links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		v.byIdx[l.index], v.byName[l.name] = l, l
	}
	return v, nil
}

// layers reads addresses and routes.
func (v *view) layers() (err error) {
	if v.addrs, err = v.rt.addrs(); err != nil {
		return err
	}
	v.routes, err = v.rt.routes()
	return err
}

// entries reads the forwarding databases of the VXLAN devices that keep lets through,
// and the neighbours of all such links that may have permanent ones.
func (v *view) entries(keep func(*link) bool) error {
	v.neighs = []neigh{}
	var some []int
	for _, l := range v.byIdx {
		if !keep(l) {
			continue
		}
		if l.kind != "veth" {
			some = append(some, l.index)
		}
		if l.kind != "vxlan" {
			continue
		}
		all, err := v.rt.fdbs(l.index)
		if err != nil {
			return err
		}
		for _, n := range all {
			if _, ok := n.fdb(l.name); ok {
				v.neighs = append(v.neighs, n)
			}
		}
	}
	if len(some) > fewLinks {
		some = []int{0} // one list of all
	}
	for _, index := range some {
		all, err := v.rt.neighbours(index)
		if err != nil {
			return err
		}
		for _, n := range all {
			if _, ok := n.neighbour(""); ok {
				v.neighs = append(v.neighs, n)
			}
		}
	}
	return nil
}

// fewLinks is up to where the neighbours of links are read one link after the other.
const fewLinks = 8

// objects returns what hangs on the links that keep lets through: permanent
// addresses without what the kernel makes by itself (link-local IPv6, loopback's),
// up flags, and routes that the kernel did not make.
func (v *view) objects(keep func(*link) bool) (out []dataplane.Object) {
	for _, l := range v.byIdx {
		if keep(l) && l.up() {
			out = append(out, dataplane.Up{NS: v.ns, Link: l.name})
		}
	}
	for _, a := range v.addrs {
		l := v.byIdx[a.index]
		ip := a.prefix.Addr()
		if l == nil || !keep(l) || !a.permanent || ip.IsLoopback() {
			continue
		}
		// In a sandbox a person may have given one (--link-local-ip).
		if ip.Is6() && ip.IsLinkLocalUnicast() && (v.ns == "" || a.proto == protoMadeLL) {
			continue
		}
		out = append(out, dataplane.Addr{NS: v.ns, Link: l.name, Prefix: a.prefix, Stranded: v.ns == "" && v.stranded(l, a.prefix)})
	}
	for _, n := range v.neighs {
		l := v.byIdx[n.index]
		if l == nil || !keep(l) {
			continue
		}
		if o, ok := n.neighbour(l.name); ok {
			out = append(out, o)
		} else if o, ok := n.fdb(l.name); ok {
			out = append(out, o)
		}
	}
	for _, r := range v.routes {
		l := v.byIdx[r.index]
		if l == nil || !keep(l) || r.protocol == unix.RTPROT_KERNEL || r.protocol == unix.RTPROT_RA ||
			v.ns == "" && r.protocol != routeProtocol {
			continue
		}
		out = append(out, dataplane.Route{NS: v.ns, Dst: r.dst, Via: r.via, Link: l.name, OnLink: r.onLink && r.via.IsValid()})
	}
	return out
}

// stranded says that the route to an address's subnet was taken away: the kernel makes
// it with the address, as long as the link is up and obeys no VRF.
func (v *view) stranded(l *link, p netip.Prefix) bool {
	if !l.up() || l.master != 0 || p.Bits() == p.Addr().BitLen() {
		return false
	}
	for _, r := range v.routes {
		if r.index == l.index && r.dst == p.Masked() {
			return false
		}
	}
	return true
}

// hostView reads the host, and linkObject makes objects of its links.
func (k *Kernel) linkObject(host *view, l *link, peers []*view) dataplane.Object {
	if l.group != k.group {
		return dataplane.Foreign{Name: l.name, What: l.what()}
	}
	switch l.kind {
	case "bridge":
		return dataplane.Bridge{Name: l.name, MTU: l.mtu, MAC: k.macText(l.name, l.mac), NFCall: l.nfCall}
	case "veth":
		o := dataplane.Veth{Name: l.name, MTU: l.mtu, Hairpin: l.port.hairpin, Isolated: l.port.isolated}
		if m := host.byIdx[l.master]; m != nil {
			o.Master, o.Borrowed = m.name, !k.mine(m)
		}
		for _, p := range peers {
			if other := p.byIdx[l.peer]; p.nsid >= 0 && p.nsid == l.peerNS && other != nil {
				o.PeerNS, o.PeerName, o.PeerMAC = p.ns, other.name, k.macText(l.name+"/"+other.name, other.mac)
			}
		}
		return o
	case "vxlan":
		o := dataplane.VXLAN{Name: l.name, VNI: l.vxlan.id, Local: l.vxlan.local, Port: l.vxlan.port, MTU: l.mtu, MAC: k.macText(l.name, l.mac), Lax: l.lax()}
		if d := host.byIdx[l.vxlan.dev]; d != nil {
			o.Dev = d.name
		}
		if m := host.byIdx[l.master]; m != nil {
			o.Master = m.name
		}
		return o
	case "wireguard", "tun":
		return dataplane.WireGuard{Name: l.name, MTU: l.mtu, UserSpace: l.kind == "tun"}
	}
	// Ours by its mark, and of a kind we never make: a bridge of that name with no
	// properties has another Spec than any that is wanted.
	return dataplane.Foreign{Name: l.name, What: l.what()}
}

// setObjects reads the elements of one set.
func (k *Kernel) setObjects(t tableRef, s setInfo) ([]dataplane.Element, error) {
	raw, err := k.nft.elements(t, s)
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", s.name, err)
	}
	if s.interval() {
		return s.intervals(t.family, t.name, raw), nil
	}
	return s.objects(t.family, t.name, raw), nil
}

// objects makes the declared form of a set's elements, one each.
func (s setInfo) objects(family, table string, raw []rawElement) []dataplane.Element {
	out := make([]dataplane.Element, len(raw))
	for i, r := range raw {
		out[i] = s.object(family, table, r)
	}
	return out
}

// tableObjects reads the page and the elements of all its sets.
func (k *Kernel) tableObjects(t tableRef) (out []dataplane.Object, err error) {
	p, err := k.readPage(t)
	if err != nil || p == nil {
		return nil, err
	}
	out = append(out, *p)
	sets, err := k.nft.sets(t)
	if err != nil {
		return nil, err
	}
	for name, s := range sets {
		if !s.holdsElements() || strings.HasPrefix(name, "__") {
			continue
		}
		els, err := k.setObjects(t, s)
		if err != nil {
			return nil, err
		}
		for _, e := range els {
			out = append(out, e)
		}
	}
	return out, nil
}
