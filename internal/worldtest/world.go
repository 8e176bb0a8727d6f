// Package worldtest is a host made up for tests of those who explain: networks of
// every sort, containers in every state, their declared objects as the real drivers
// plan them, and a kernel that has what a test wants it to have. It needs no root.
package worldtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
	"linkspan/driver"
	"linkspan/driver/bridge"
)

// Table is the world's.
const Table = "linkspan_123456"

// World is the host. Its fields may be changed before it is asked.
type World struct {
	Nets  []*cnm.Network
	Boxes []*cnm.Sandbox
	Ctrs  []diagnose.Container
	// Gone are the keys of declared objects that the kernel does not have; Other has
	// those that it has otherwise.
	Gone  map[string]bool
	Other map[string]dataplane.Object
	// Live is what the kernel says.
	Live *Kernel
	// Err is what all questions are answered with.
	Err error
}

// Diagnose is the world as explanations see it.
func (w *World) Diagnose() *diagnose.World {
	return &diagnose.World{Declared: w, Kernel: w.Live, Table: Table}
}

// Networks implements diagnose.Declared.
func (w *World) Networks() []*cnm.Network { return w.Nets }

// Sandboxes implements diagnose.Declared.
func (w *World) Sandboxes() []*cnm.Sandbox { return w.Boxes }

// Containers implements diagnose.Declared.
func (w *World) Containers() []diagnose.Container { return w.Ctrs }

// Objects implements diagnose.Declared, with the plans of the bridge driver.
func (w *World) Objects(context.Context) ([]dataplane.Object, error) {
	if w.Err != nil {
		return nil, w.Err
	}
	env := driver.Env{Table: Table}
	host := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerHost}, Reason: "containers reach the outside only through a host that forwards"}
	st := dataplane.NewState(dataplane.BasePage(Table), dataplane.Sysctl{Meta: host, Name: "net/ipv4/ip_forward", Value: "1", Shared: true},
		dataplane.GuardForwarding(host, Table, true))
	for _, n := range w.Nets {
		if n.Driver != "bridge" {
			continue
		}
		objs, err := bridge.Driver{}.Network(env, n)
		if err != nil {
			return nil, err
		}
		st.Add(objs...)
	}
	for _, s := range w.Boxes {
		objs, err := w.sandbox(env, s)
		if err != nil {
			return nil, err
		}
		st.Add(objs...)
	}
	return st.All(), nil
}

func (w *World) sandbox(env driver.Env, s *cnm.Sandbox) ([]dataplane.Object, error) {
	if s.Host {
		return nil, nil
	}
	meta := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerSandbox, ID: s.ID, Name: s.OwnerName}, Reason: "the network stack of " + s.OwnerName}
	objs := []dataplane.Object{dataplane.Namespace{Meta: meta, Path: s.Path}}
	if s.Answers {
		meta.Reason = "names are asked of 127.0.0.11, where the resolver answers"
		objs = append(objs, dataplane.Redirect{Meta: meta, NS: s.Path})
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, n := range w.Nets {
			if n.ID != e.NetworkID || n.Driver != "bridge" {
				continue
			}
			var ports []cnm.PublishedPort
			if len(e.Gateways) > 0 {
				ports = s.Ports
			}
			more, err := bridge.Driver{}.Endpoint(env, n, s, e, ports)
			if err != nil {
				return nil, err
			}
			objs = append(objs, more...)
		}
	}
	return objs, nil
}

// ObserveKeys is what the kernel has of the wanted objects.
func (w *World) ObserveKeys(_ context.Context, want []dataplane.Object) (*dataplane.State, error) {
	st := dataplane.NewState()
	for _, o := range want {
		if other, ok := w.Other[o.Key()]; ok {
			st.Add(other)
		} else if !w.Gone[o.Key()] {
			st.Add(o)
		}
	}
	return st, w.Err
}

// ID makes a whole id of a short name: the same one every time.
func ID(name string) string {
	h := hex.EncodeToString([]byte(name))
	return (h + strings.Repeat("0", 64))[:64]
}

// AddNetwork makes a network of the bridge driver. Options are "key=value".
func (w *World) AddNetwork(name, device string, subnets []string, options ...string) *cnm.Network {
	n := &cnm.Network{ID: ID("n" + name), Name: name, Driver: "bridge", Options: map[string]string{"com.docker.network.bridge.name": device}, Predefined: name == "bridge"}
	for _, s := range subnets {
		p := netip.MustParsePrefix(s)
		n.Pools = append(n.Pools, cnm.Pool{Subnet: p, Gateway: p.Addr().Next()})
		n.IPv6 = n.IPv6 || p.Addr().Is6()
	}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		n.Options[k] = v
	}
	w.Nets = append(w.Nets, n)
	slices.SortFunc(w.Nets, func(a, b *cnm.Network) int { return strings.Compare(a.Name, b.Name) })
	return n
}

// Run makes a running container on networks; its default route leads through the
// first that is not internal.
func (w *World) Run(name string, ports []cnm.PublishedPort, nets ...*cnm.Network) *cnm.Sandbox {
	id := ID("c" + name)
	s := &cnm.Sandbox{ID: ID("s" + name), Owner: id, OwnerName: name, Members: []string{id}, Path: "/run/linkspan/netns/" + ID("s" + name)[:12], Ports: ports}
	c := diagnose.Container{ID: id, Name: name, Image: "netprobe", State: "running", PID: 4000 + len(w.Ctrs), Mode: "bridge", Exposed: []string{"80/tcp"}}
	routed := false
	for i, n := range nets {
		c.Networks = append(c.Networks, n.Name)
		if n.Driver == "host" {
			s.Host, s.Path = true, "/run/linkspan/hostns/default"
		}
		e := cnm.Endpoint{ID: ID(fmt.Sprintf("e%d%s", i, name)), NetworkID: n.ID, NetworkName: n.Name}
		if n.Driver == "bridge" {
			e.IfName, e.HostIf = fmt.Sprintf("eth%d", i), "veth"+e.ID[2:9]
			w.address(n, &e)
			if n.HasNames() {
				e.Names, s.Resolver, s.Answers = []string{name, id[:12]}, true, true
			}
			if !routed && !n.Internal {
				routed = true
				for _, p := range n.Pools {
					e.Gateways = append(e.Gateways, p.Gateway)
				}
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	if len(nets) > 0 {
		c.Mode = nets[0].Name
	}
	w.Boxes, w.Ctrs = append(w.Boxes, s), append(w.Ctrs, c)
	return s
}

func (w *World) address(n *cnm.Network, e *cnm.Endpoint) {
	used := 0
	for _, s := range w.Boxes {
		for _, o := range s.Endpoints {
			if o.NetworkID == n.ID {
				used++
			}
		}
	}
	for _, p := range n.Pools {
		a := p.Gateway.Next()
		for range used {
			a = a.Next()
		}
		e.Addrs = append(e.Addrs, netip.PrefixFrom(a, p.Subnet.Bits()))
	}
	if e.MAC = cnm.MACFor(e.Addr4().Addr()); e.MAC == "" {
		e.MAC = fmt.Sprintf("02:42:00:00:00:%02x", used+2)
	}
}

// Stopped makes a container that does not run.
func (w *World) Stopped(name string, exit int, nets ...string) {
	w.Ctrs = append(w.Ctrs, diagnose.Container{ID: ID("c" + name), Name: name, Image: "netprobe", State: "exited", ExitCode: exit, Mode: "bridge", Networks: nets})
}

// Port is a published port: "8080:80/tcp", "127.0.0.1:9090:90/udp", "20000-20031:20000/tcp".
func Port(text string) cnm.PublishedPort {
	spec, proto, _ := strings.Cut(text, "/")
	p := cnm.PublishedPort{Proto: proto}
	host, inside := spec[:strings.LastIndexByte(spec, ':')], spec[strings.LastIndexByte(spec, ':')+1:]
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		p.HostIP = netip.MustParseAddr(strings.Trim(host[:i], "[]"))
		host = host[i+1:]
	}
	first, last, ranged := strings.Cut(host, "-")
	_, _ = fmt.Sscan(first, &p.HostPort)
	_, _ = fmt.Sscan(inside, &p.Port)
	if p.HostPortEnd = p.HostPort; ranged {
		_, _ = fmt.Sscan(last, &p.HostPortEnd)
	}
	return p
}
