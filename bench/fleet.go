package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/store/etcd"
)

// fleet are hosts of a mesh without containers: each has its own way to etcd and its
// own part in the mesh, as a daemon has, and an ear in place of the controller.
type fleet struct {
	members []string
	hosts   []*member
	runs    sync.WaitGroup
	end     context.CancelFunc
}

type member struct {
	*mesh.Mesh
	host  mesh.Host
	store *etcd.Store
	ear   *ear
}

// ear counts what a host hears. Endpoints are numbered, one bit each.
type ear struct {
	mu       sync.Mutex
	heard    map[string][]uint64 // by network
	networks map[string]*cnm.Network
	changes  atomic.Int64 // of endpoints, told
}

func (e *ear) Networks(_ context.Context, all []*cnm.Network) {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.networks)
	for _, n := range all {
		e.networks[n.ID] = n
	}
}

func (e *ear) Remote(_ context.Context, network string, c cnm.RemoteChange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.heard[network]
	if c.Whole {
		clear(set)
	}
	for _, r := range c.Came {
		i, err := strconv.Atoi(strings.TrimPrefix(r.ID, "e"))
		if err != nil {
			continue
		}
		for len(set) <= i/64 {
			set = append(set, 0)
		}
		set[i/64] |= 1 << (i % 64)
	}
	e.heard[network] = set
	e.changes.Add(int64(len(c.Came)))
}

func (e *ear) Peers(context.Context)                                   {}
func (e *ear) Ask(context.Context, string, netip.Addr, string) error   { return nil }
func (e *ear) Unask(ctx context.Context, network string, a netip.Addr) {}
func (e *ear) count(network string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.heard[network] {
		n += bits.OnesCount64(w)
	}
	return n
}

func (e *ear) has(network string, i int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.heard[network]
	return i/64 < len(set) && set[i/64]&(1<<(i%64)) != 0
}

func (e *ear) knows(network string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.networks[network] != nil
}

// newFleet founds a mesh and has n hosts join it.
func newFleet(ctx context.Context, endpoints []string, n int) (*fleet, error) {
	f := &fleet{members: endpoints}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	f.end = end
	log := slog.New(slog.DiscardHandler)
	for i := range n {
		st, err := etcd.Open(ctx, etcd.Options{Endpoints: endpoints, Prefix: "/linkspan/v1/", Log: log})
		if err != nil {
			return f, err
		}
		h := &member{store: st, ear: &ear{heard: map[string][]uint64{}, networks: map[string]*cnm.Network{}}}
		f.hosts = append(f.hosts, h)
		if i == 0 {
			if _, err := mesh.Found(ctx, st, "", "bench"); err != nil {
				return f, err
			}
		}
		h.host, err = mesh.Enroll(ctx, st, mesh.Host{Name: fmt.Sprintf("host%03d", i), Role: "client", Addr: netip.AddrFrom4([4]byte{10, 88, byte(i / 200), byte(i%200 + 1)})})
		if err != nil {
			return f, err
		}
		h.Mesh, err = mesh.New(mesh.Config{Store: st, Self: h.host, Sink: h.ear, Log: log, Place: mesh.Place{Dev: "eth0", MTU: 1500}})
		if err != nil {
			return f, err
		}
		f.runs.Go(func() { _ = h.Run(run) })
	}
	return f, f.until(ctx, "know the others", func(h *member) bool { return len(h.Peers()) == n-1 })
}

// close ends all hosts.
func (f *fleet) close() {
	f.end()
	f.runs.Wait()
	var all sync.WaitGroup
	for _, h := range f.hosts {
		all.Go(func() { _ = h.store.Close() })
	}
	all.Wait()
}

// until waits until something is so on every host.
func (f *fleet) until(ctx context.Context, what string, is func(*member) bool) error {
	return untilAll(ctx, f.hosts, what, is)
}

func untilAll(ctx context.Context, hosts []*member, what string, is func(*member) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for _, h := range hosts {
		for !is(h) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("host %s does not %s: %w", h.host.Name, what, context.Cause(ctx))
			case <-time.After(200 * time.Microsecond):
			}
		}
	}
	return nil
}

// network makes one, and has hosts follow it.
func (f *fleet) network(ctx context.Context, name, subnet string, hosts []*member) (*cnm.Network, error) {
	n := &cnm.Network{Name: name, Driver: "overlay", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix(subnet)}}}
	if err := f.hosts[0].Create(ctx, n, nil, nil); err != nil {
		return nil, err
	}
	if err := untilAll(ctx, hosts, "know network "+name, func(h *member) bool { return h.ear.knows(n.ID) }); err != nil {
		return nil, err
	}
	for _, h := range hosts {
		h.Follow(n)
	}
	return n, nil
}

// endpoint is the record of a container with a name, an alias and a port.
func endpoint(h *member, network string, i int) cnm.Remote {
	id := fmt.Sprintf("%064x", i)
	return cnm.Remote{ID: fmt.Sprintf("e%d", i), Host: h.host.ID, Container: id, ContainerName: fmt.Sprintf("shop-web-%d", i),
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 90, byte(i >> 8), byte(i)}), 16)},
		MAC:   fmt.Sprintf("02:42:0a:5a:%02x:%02x", i>>8&255, i&255), Names: []string{fmt.Sprintf("shop-web-%d", i), "web", id[:12]}, Exposed: []string{"80/tcp"}}
}
