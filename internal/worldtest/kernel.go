package worldtest

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
)

// Kernel answers as it is filled; by namespace, "" the host's.
type Kernel struct {
	Links     map[string][]reading.Interface
	Table     map[string][]reading.Route
	Listening map[string][]reading.Socket
	Rules     *ruleset.Ruleset
	Tracked   []reading.Flow
	Err       error
}

var _ reading.Reader = (*Kernel)(nil)

// Interfaces implements reading.Reader, as do the others.
func (k *Kernel) Interfaces(_ context.Context, ns string) ([]reading.Interface, error) {
	return k.Links[ns], k.Err
}

func (k *Kernel) Route(context.Context, string, reading.RouteQuery) (reading.RouteAnswer, error) {
	return reading.RouteAnswer{}, k.Err
}

func (k *Kernel) Routes(_ context.Context, ns string) ([]reading.Route, error) {
	return k.Table[ns], k.Err
}

func (k *Kernel) Neighbours(context.Context, string) ([]reading.Neighbour, error) { return nil, k.Err }

func (k *Kernel) FDB(context.Context, string) ([]reading.FDBEntry, error) { return nil, k.Err }

func (k *Kernel) Sockets(_ context.Context, ns string) ([]reading.Socket, error) {
	return k.Listening[ns], k.Err
}

func (k *Kernel) Flows(context.Context, string, reading.FlowFilter) ([]reading.Flow, error) {
	return k.Tracked, k.Err
}

func (k *Kernel) Ruleset(context.Context, string) (*ruleset.Ruleset, error) {
	if k.Rules == nil && k.Err == nil {
		return &ruleset.Ruleset{}, nil
	}
	return k.Rules, k.Err
}

func (k *Kernel) Sysctl(_ context.Context, _, name string) (string, error) {
	return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// New makes the usual world: the default bridge with a container that publishes ports
// and one that shares its network stack; networks that are internal, have IPv6, or
// keep their containers apart; the host's own network; and containers that do not run.
func New() *World {
	w := &World{Gone: map[string]bool{}, Other: map[string]dataplane.Object{}, Live: &Kernel{}}
	bridge := w.AddNetwork("bridge", "docker0", []string{"172.17.0.0/16"})
	shop := w.AddNetwork("shop", "br-shop", []string{"172.18.0.0/16"})
	vault := w.AddNetwork("vault", "br-vault", []string{"172.19.0.0/16"})
	vault.Internal = true
	six := w.AddNetwork("six", "br-six", []string{"10.77.0.0/24", "fd00:77::/64"})
	apart := w.AddNetwork("apart", "br-apart", []string{"10.88.0.0/24"}, "com.docker.network.bridge.enable_icc=false")
	host := &cnm.Network{ID: ID("nhost"), Name: "host", Driver: "host", Predefined: true}
	none := &cnm.Network{ID: ID("nnone"), Name: "none", Driver: "null", Predefined: true}
	w.Nets = append(w.Nets, host, none)

	web := w.Run("web", []cnm.PublishedPort{Port("8080:80/tcp"), Port("127.0.0.1:9090:90/udp")}, bridge)
	w.Run("db", nil, shop, vault)
	w.Run("api", []cnm.PublishedPort{Port("20000-20031:20000/tcp")}, shop)
	w.Run("v6", []cnm.PublishedPort{Port("8081:80/tcp")}, six)
	first := w.Run("first", nil, apart)
	second := w.Run("second", nil, apart)
	second.Endpoints[0].Links = []cnm.Link{{Target: first.Owner, Alias: "first", Ports: []string{"80/tcp"}, Addrs: []netip.Addr{first.Endpoints[0].Addrs[0].Addr()}}}
	w.Run("mon", nil, host)
	side := w.Ctrs[0]
	side.ID, side.Name, side.Mode = ID("cside"), "side", "container:"+web.Owner
	web.Members = append(web.Members, side.ID)
	w.Ctrs = append(w.Ctrs, side)
	w.Stopped("old", 137, "shop")
	w.Ctrs[0].Health = "healthy"

	up := func(i int, name, kind string, peer int, addrs ...string) reading.Interface {
		l := reading.Interface{Index: i, Name: name, Kind: kind, MTU: 1500, Up: true, Carrier: true, MAC: fmt.Sprintf("52:54:00:00:00:%02x", i), Peer: peer}
		for _, a := range addrs {
			l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
		}
		return l
	}
	links := []reading.Interface{up(1, "lo", "", 0, "127.0.0.1/8"), up(2, "eth0", "", 0, "192.168.99.31/24", "fe80::1/64"), up(3, "eth1", "", 0)}
	links[2].Carrier = false
	for _, n := range w.Nets {
		if d := n.Options["com.docker.network.bridge.name"]; d != "" {
			links = append(links, up(len(links)+1, d, "bridge", 0))
		}
	}
	for _, s := range w.Boxes {
		inside := []reading.Interface{up(1, "lo", "", 0)}
		for _, e := range s.Endpoints {
			if e.HostIf == "" {
				continue
			}
			at := len(links) + 1
			links = append(links, up(at, e.HostIf, "veth", 2))
			inside = append(inside, up(2, e.IfName, "veth", at))
		}
		if !s.Host {
			w.Live.Links = set(w.Live.Links, s.Path, inside)
		}
	}
	w.Live.Links = set(w.Live.Links, "", links)
	w.Live.Table = map[string][]reading.Route{"": {{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.168.99.1"), Link: "eth0", Table: 254, Type: "unicast"}}}
	return w
}

func set[V any](m map[string]V, k string, v V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[k] = v
	return m
}
