package daemon

import (
	"context"
	"sync"

	"linkspan/cnm"
	"linkspan/diagnose/doctor"
	"linkspan/mesh/check"
	"linkspan/mesh/host"
	"linkspan/metrics"
)

// span is what runs beside the mesh as long as this host is in one: encrypted tunnels,
// probes, the watch over the wire.
type span struct {
	encryption *encryption

	mu      sync.Mutex
	checker *check.Checker // nil outside of a mesh
	// pathMTU is the largest packet that passes to every peer, 0: as the device takes;
	// spoilt says that checksums of what goes into tunnels arrive broken.
	pathMTU int
	spoilt  bool
}

// check answers the probes of other hosts, and sends them some.
func (s *span) check(e *engine) func(context.Context, host.Inside) {
	return func(ctx context.Context, in host.Inside) {
		c := check.New(check.Config{ID: in.Host, Name: in.Name, Port: in.Ports.Check, Server: in.Server, Client: in.Client,
			Underlay: in.Mesh.Underlay, Peers: in.Mesh.Peers, Log: e.log, Question: e.asked,
			LastMTU: in.Mesh.PathMTU, FoundMTU: in.Mesh.SetPathMTU,
			PathMTU: func(mtu int) {
				s.mu.Lock()
				changed := s.pathMTU != mtu
				s.pathMTU = mtu
				s.mu.Unlock()
				if changed {
					e.mesh.Replace()
				}
			},
			Spoilt: func() {
				s.mu.Lock()
				changed := !s.spoilt
				s.spoilt = true
				s.mu.Unlock()
				if changed {
					e.log.Warn("checksums of what goes into the mesh's tunnels arrive broken: they are computed before from now on, on the devices of the tunnels alone")
					e.mesh.Replace()
				}
			},
		})
		s.set(c)
		defer s.set(nil)
		c.Run(ctx)
	}
}

func (s *span) set(c *check.Checker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checker = c
	if c == nil {
		s.pathMTU, s.spoilt = 0, false
	}
}

func (s *span) current() *check.Checker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checker
}

// watch looks again where this host is when its links, addresses or routes change.
func (s *span) watch(e *engine) func(context.Context, host.Inside) {
	return func(ctx context.Context, _ host.Inside) {
		news, err := e.kernel.Underlay(ctx)
		if err != nil {
			e.log.Warn("changes of the wire of the mesh are not heard", "err", err)
			return
		}
		for range until(ctx, news) {
			e.mesh.Replace()
		}
	}
}

// measure is what the light probes met lately, by peer.
func (s *span) measure(context.Context, host.Inside) map[string][]host.PathStatus {
	c := s.current()
	if c == nil {
		return nil
	}
	out := map[string][]host.PathStatus{}
	for peer, pulses := range c.Status() {
		for _, p := range pulses {
			loss := p.Loss
			one := host.PathStatus{Path: cnm.Path{Kind: p.Kind}, PathMTU: p.PathMTU, Measured: p.Measured, Error: p.Error}
			if p.RTT > 0 {
				rtt := p.RTT
				one.RTT = &rtt
			}
			if !p.Measured.IsZero() {
				one.Loss = &loss
			}
			out[peer] = append(out[peer], one)
		}
	}
	return out
}

// checked has all hosts probe all others.
func (s *span) checked(ctx context.Context, _ host.Inside) (*host.Checked, error) {
	c := s.current()
	if c == nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh check: probes do not run yet: say it again in a second")
	}
	results, err := c.Check(ctx)
	if err != nil {
		return nil, err
	}
	out := &host.Checked{Pairs: []host.Pair{}}
	for _, r := range results {
		p := host.Pair{From: r.From, To: r.To, Kind: r.Kind, Loss: r.Loss, MTU: r.MTU, Expected: r.Expected, Findings: r.Findings, Error: r.Error, RTTNanos: r.RTT, TCP: r.TCP, Spoilt: r.Spoilt}
		out.Pairs = append(out.Pairs, p)
	}
	return out, nil
}

// meshMetrics is what a scrape tells of the mesh: nobody is asked for it.
func (e *engine) meshMetrics(ctx context.Context) (*metrics.Mesh, error) {
	g := e.mesh.Glance()
	if g == nil {
		return nil, nil
	}
	m := &metrics.Mesh{StoreUp: g.Reachable, Alive: g.Alive, Dead: g.Dead, Forgotten: g.Phase == host.PhaseForgotten, Queue: g.Queue,
		Expires: g.Expires, Member: g.Role == host.RoleMember, MemberUp: g.Serving, Bytes: g.DB}
	names := map[string]string{}
	if in := e.mesh.Mesh(); in != nil {
		for _, p := range in.Peers() {
			names[p.ID] = p.Name
		}
	}
	for peer, paths := range e.span.measure(ctx, host.Inside{}) {
		for _, p := range paths {
			if names[peer] == "" || p.Loss == nil {
				continue // it has left
			}
			one := metrics.Path{Host: names[peer], Path: string(p.Kind), Loss: *p.Loss, MTU: p.PathMTU}
			if p.RTT != nil {
				one.RTT = *p.RTT
			}
			m.Paths = append(m.Paths, one)
		}
	}
	return m, nil
}

// meshSigns are what the doctor is told of the mesh.
func (e *engine) meshSigns(ctx context.Context) *doctor.Mesh {
	s, err := e.mesh.Status(ctx, true)
	if err != nil || s.Phase == host.PhaseNone && len(s.Words) == 0 {
		return nil
	}
	return &doctor.Mesh{ID: s.Mesh, Hosts: len(s.Hosts), Words: s.Words}
}
