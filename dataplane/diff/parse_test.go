package diff_test

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
)

// parse reads objects, one a line:
//
//	netns PATH
//	bridge NAME [mtu=N] [mac=M]
//	veth NAME [master=B] peer=NS:IF [mac=M] [hairpin] [isolated]
//	foreign NAME WHAT
//	addr|up|wire [NS:]LINK [PREFIX]
//	route [NS:]LINK DST [VIA]
//	unreachable DST
//	vxlan NAME VNI LOCAL [master=B] [mtu=N]
//	wireguard NAME [user-space]
//	fdb DEV MAC [DST]
//	neigh LINK ADDR MAC
//	sysctl [NS:]NAME VALUE [shared]
//	redirect NS
//	page TABLE HASH
//	element SET KEY… [= DATA…]    (guard-element: the closing kind)
func parse(t *testing.T, text string) (objs []dataplane.Object) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		w := strings.Fields(rest)
		opt := map[string]string{}
		for _, f := range w {
			k, v, _ := strings.Cut(f, "=")
			opt[k] = v
		}
		has := func(k string) bool { _, ok := opt[k]; return ok }
		ns, link := "", ""
		if len(w) > 0 {
			ns, link = split(w[0])
		}
		switch kind {
		case "netns":
			objs = append(objs, dataplane.Namespace{Path: w[0]})
		case "bridge":
			objs = append(objs, dataplane.Bridge{Name: w[0], MAC: opt["mac"], MTU: number(opt["mtu"])})
		case "veth":
			pns, pname := split(opt["peer"])
			objs = append(objs, dataplane.Veth{Name: w[0], Master: opt["master"], PeerNS: pns, PeerName: pname,
				PeerMAC: opt["mac"], Hairpin: has("hairpin"), Isolated: has("isolated"), Borrowed: has("borrowed")})
		case "foreign":
			objs = append(objs, dataplane.Foreign{Name: w[0], What: strings.Join(w[1:], " ")})
		case "addr":
			objs = append(objs, dataplane.Addr{NS: ns, Link: link, Prefix: netip.MustParsePrefix(w[1])})
		case "up", "wire":
			objs = append(objs, dataplane.Up{NS: ns, Link: link, Wire: kind == "wire"})
		case "route":
			r := dataplane.Route{NS: ns, Link: link, Dst: netip.MustParsePrefix(w[1])}
			if len(w) > 2 {
				r.Via = netip.MustParseAddr(w[2])
			}
			objs = append(objs, r)
		case "unreachable":
			objs = append(objs, dataplane.Route{Dst: netip.MustParsePrefix(w[0]), Unreachable: true})
		case "vxlan":
			objs = append(objs, dataplane.VXLAN{Name: w[0], VNI: uint32(number(w[1])), Local: netip.MustParseAddr(w[2]), Master: opt["master"], MTU: number(opt["mtu"])})
		case "wireguard":
			objs = append(objs, dataplane.WireGuard{Name: w[0], UserSpace: has("user-space")})
		case "fdb":
			f := dataplane.FDB{Dev: w[0], MAC: w[1]}
			if len(w) > 2 {
				f.Dst = netip.MustParseAddr(w[2])
			}
			objs = append(objs, f)
		case "neigh":
			objs = append(objs, dataplane.Neighbour{Link: w[0], Addr: netip.MustParseAddr(w[1]), MAC: w[2]})
		case "sysctl":
			objs = append(objs, dataplane.Sysctl{NS: ns, Name: link, Value: w[1], Shared: has("shared")})
		case "redirect":
			objs = append(objs, dataplane.Redirect{NS: w[0]})
		case "page":
			objs = append(objs, dataplane.Page{Family: "inet", Table: w[0], Hash: w[1]})
		case "element":
			objs = append(objs, element(rest))
		case "guard-element":
			e := element(rest)
			e.Guard = true
			objs = append(objs, e)
		default:
			t.Fatalf("unknown object %q", line)
		}
	}
	return objs
}

func element(s string) dataplane.Element {
	key, data, _ := strings.Cut(s, " = ")
	set, key, _ := strings.Cut(key, " ")
	e := dataplane.Element{Family: "inet", Table: "lsp", Set: set, KeyText: key, KeyRaw: []byte(key), DataText: data}
	if p, err := netip.ParsePrefix(key); err == nil {
		sub := dataplane.MasqueradeElement(dataplane.Meta{}, "lsp", p)
		e.KeyRaw, e.Last = sub.KeyRaw, sub.Last
	}
	return e
}

func split(s string) (ns, link string) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}

func number(s string) (n int) {
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}
