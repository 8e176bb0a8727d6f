package metrics

import (
	"cmp"
	"slices"
)

func (s *scrape) mesh(m *Mesh) {
	if m == nil {
		return
	}
	is := map[bool]float64{true: 1}
	s.send(s.meshStore, is[m.StoreUp])
	s.send(s.meshHosts, float64(m.Alive), "yes")
	s.send(s.meshHosts, float64(m.Dead), "no")
	s.send(s.meshForgotten, is[m.Forgotten])
	s.send(s.meshQueue, float64(m.Queue))
	if !m.Expires.IsZero() {
		s.send(s.meshExpiry, float64(m.Expires.Unix()))
	}
	if m.Member {
		s.send(s.meshMember, is[m.MemberUp])
		s.send(s.meshBytes, float64(m.Bytes))
	}
	for _, p := range m.Paths {
		s.send(s.meshLoss, p.Loss, p.Host, p.Path)
		if p.RTT > 0 {
			s.send(s.meshRTT, p.RTT.Seconds(), p.Host, p.Path)
		}
		if p.MTU > 0 {
			s.send(s.meshMTU, float64(p.MTU), p.Host, p.Path)
		}
	}
}

func (s *scrape) containersBy(states map[string]int) {
	for state, n := range states {
		s.send(s.containers, float64(n), state)
	}
}

func (s *scrape) endpoints(all []Endpoint) {
	seen := map[[3]string]bool{}
	for _, e := range all {
		key := [3]string{e.Container, e.Network, e.Interface}
		if seen[key] {
			continue // the same labels twice would spoil the whole scrape
		}
		seen[key] = true
		for _, v := range []struct {
			m *metric
			n uint64
		}{
			{s.receiveBytes, e.Receive.Bytes}, {s.receivePackets, e.Receive.Packets}, {s.receiveErrors, e.Receive.Errors}, {s.receiveDrops, e.Receive.Drops},
			{s.transmitBytes, e.Transmit.Bytes}, {s.transmitPackets, e.Transmit.Packets}, {s.transmitErrors, e.Transmit.Errors}, {s.transmitDrops, e.Transmit.Drops},
		} {
			s.send(v.m, float64(v.n), key[0], key[1], key[2])
		}
	}
}

func (s *scrape) ports(all []Port) {
	seen := map[Port]bool{}
	for _, p := range all {
		key := p
		key.Connections = 0
		if !seen[key] {
			seen[key] = true
			s.send(s.connections, float64(p.Connections), p.Container, p.HostIP, p.Port, p.Protocol)
		}
	}
}

func (s *scrape) resolver(r Resolver) {
	s.send(s.queries, float64(r.Queries))
	s.send(s.tcpQueries, float64(r.TCP))
	for kind, n := range r.Answers {
		s.send(s.answers, float64(n), kind)
	}
	s.send(s.views, float64(r.Views))
	s.send(s.names, float64(r.Names))
	s.send(s.cacheEntries, float64(r.CacheEntries))
	s.send(s.cacheBytes, float64(r.CacheBytes))
	for _, u := range servers(r.Upstreams, most) {
		s.send(s.upstreamUp, map[bool]float64{false: 1}[u.Down], u.Server)
		if u.RTT > 0 {
			s.send(s.upstreamRTT, u.RTT.Seconds(), u.Server)
		}
		s.send(s.upstreamAsked, float64(u.Asked), u.Server)
		s.send(s.upstreamAnswered, float64(u.Answered), u.Server)
		s.send(s.upstreamFailed, float64(u.Failed), u.Server)
		s.send(s.strays, float64(u.Strays), u.Server)
	}
}

// servers adds up what is known of the same server.
func servers(all []Upstream, most int) []Upstream {
	byName := map[string]*Upstream{}
	var out []*Upstream
	add := func(name string, u Upstream) {
		sum := byName[name]
		if sum == nil {
			sum = &Upstream{Server: name}
			byName[name] = sum
			out = append(out, sum)
		}
		sum.Down = sum.Down || u.Down
		sum.RTT = max(sum.RTT, u.RTT)
		sum.Asked, sum.Answered, sum.Failed, sum.Strays = sum.Asked+u.Asked, sum.Answered+u.Answered, sum.Failed+u.Failed, sum.Strays+u.Strays
	}
	for _, u := range all {
		add(u.Server, u)
	}
	slices.SortStableFunc(out, func(a, b *Upstream) int {
		return cmp.Or(cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Server, b.Server))
	})
	if len(out) > most {
		rest := out[most-1:]
		out = slices.Clone(out[:most-1])
		for _, u := range rest {
			add("other", *u)
		}
	}
	var sums []Upstream
	for _, u := range out {
		sums = append(sums, *u)
	}
	return sums
}

func (s *scrape) repair(r Repairs) {
	s.send(s.objects, float64(r.Objects))
	for kind, n := range r.Repaired {
		s.send(s.repairs, float64(n), kind)
	}
	for kind, n := range r.Failures {
		s.send(s.failures, float64(n), kind)
	}
	s.send(s.checks, float64(r.Checks))
	s.send(s.backoffs, float64(r.Backoffs))
	if r.Checked >= 0 {
		s.send(s.checked, r.Checked.Seconds())
		s.send(s.took, r.Took.Seconds())
	}
}

func (s *scrape) pools(all []Pool) {
	for _, p := range all {
		s.send(s.used, float64(p.Used), p.Network, p.Subnet)
		s.send(s.free, float64(p.Free), p.Network, p.Subnet)
	}
}

func (s *scrape) dropped(rules map[string]uint64) {
	for rule, n := range rules {
		s.send(s.drops, float64(n), rule)
	}
}
