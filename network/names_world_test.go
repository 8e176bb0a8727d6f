package network

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"linkspan/cnm"
	"linkspan/dns"
	"linkspan/keeper"
)

// resolver is the keeper's part of names, in memory.
type resolver struct {
	mu     sync.Mutex
	fail   error
	views  map[string]dns.View
	zones  map[string]map[string]dns.Record
	opened int // sockets
}

// open is Config.Resolver.
func (k *sockets) open(path string) (*dns.Sockets, error) {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	k.names.opened++
	return &dns.Sockets{}, k.names.fail
}

func (k *sockets) SetView(_ context.Context, v dns.View, s *dns.Sockets) error {
	r := &k.names
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.views[v.Sandbox]; !there && s == nil {
		return cnm.NotFound("no view of %s", v.Sandbox)
	}
	if r.views == nil {
		r.views = map[string]dns.View{}
	}
	r.views[v.Sandbox] = v
	return nil
}

func (k *sockets) RemoveView(_ context.Context, id string) error {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	delete(k.names.views, id)
	return nil
}

func (k *sockets) Views(context.Context) ([]string, error) {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	return slices.Collect(maps.Keys(k.names.views)), nil
}

func (k *sockets) SetNames(_ context.Context, zone string, recs []dns.Record, whole bool) error {
	r := &k.names
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.zones == nil {
		r.zones = map[string]map[string]dns.Record{}
	}
	if r.zones[zone] == nil || whole {
		r.zones[zone] = map[string]dns.Record{}
	}
	for _, rec := range recs {
		r.zones[zone][rec.Endpoint] = rec
	}
	return nil
}

func (k *sockets) RemoveNames(_ context.Context, zone string, ids []string) error {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	for _, id := range ids {
		delete(k.names.zones[zone], id)
	}
	return nil
}

func (k *sockets) KeepZones(_ context.Context, keep []string) error {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	maps.DeleteFunc(k.names.zones, func(z string, _ map[string]dns.Record) bool { return !slices.Contains(keep, z) })
	return nil
}

func (k *sockets) Retarget(_ context.Context, reqs []keeper.PortRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range reqs {
		i := slices.IndexFunc(k.own[r.Owner], func(h keeper.PortRequest) bool {
			h.ForwardTo = r.ForwardTo
			return h == r
		})
		if i < 0 {
			return cnm.NotFound("no such reservation: %v", r)
		}
		k.own[r.Owner][i] = r
		k.retargets++
	}
	return nil
}

// known is all that the resolver knows, as text.
func (k *sockets) known() (out []string) {
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	for _, v := range k.names.views {
		out = append(out, fmt.Sprintf("view %.6s: own %v, links %v, upstreams %v, closed %v, search %v, %d zones", v.Sandbox, v.Own, v.Links, v.Upstreams, v.Closed, v.Search, len(v.Zones)))
	}
	for z, recs := range k.names.zones {
		for _, r := range recs {
			out = append(out, fmt.Sprintf("name %.6s %v = %v %v", z, r.Names, r.Addrs, r.Ports))
		}
	}
	slices.Sort(out)
	return out
}
