package host

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"linkspan/mesh"
	"linkspan/store/etcd/server"
)

// Status is the mesh as this host sees it. It answers within seconds, whatever does not.
func (h *Host) Status(ctx context.Context, measure bool) (*Status, error) {
	ctx, cancel := within(ctx, 8*time.Second, "it took too long")
	defer cancel()
	h.mu.Lock()
	st, r, broken, note := h.state, h.running, h.broken, h.note
	h.mu.Unlock()
	s := &Status{Phase: PhaseNone}
	if note != "" {
		s.Words = append(s.Words, note)
	}
	if broken != nil {
		s.Words = append(s.Words, broken.Error())
	}
	if st == nil {
		return s, nil
	}
	s.Phase, s.Mesh = st.Phase, st.Mesh
	s.Self = &Self{ID: st.Host, Name: st.Name, Addr: st.Listen, Role: st.Role}
	if r == nil {
		return s, nil
	}
	if r.isFenced() {
		s.Phase = PhaseForgotten
	}
	var known mesh.Status
	if r.mesh != nil {
		known = r.mesh.Status()
		s.Self.Queue = known.Queue
		if u := r.mesh.Underlay(); u != nil {
			s.Self.Dev, s.Self.MTU = u.Dev, u.MTU
		}
	}
	if h.cfg.Encryption != nil {
		s.Self.Encryption = h.cfg.Encryption()
	}
	s.Etcd = r.etcd(ctx, st)
	if r.identity != nil {
		s.Certificate = &Certificate{NotAfter: r.identity.Certificate().NotAfter, Renews: r.identity.Due()}
		r.mu.Lock()
		s.Certificate.Error = words(r.renewErr)
		r.mu.Unlock()
	}
	if r.mesh != nil {
		s.Hosts = r.hosts(ctx, st, measure)
	}
	s.Words = append(s.Words, r.words(st, s, known)...)
	return s, nil
}

// etcd asks every member how it is.
func (r *running) etcd(ctx context.Context, st *State) *Etcd {
	e := &Etcd{Kind: "embedded", Members: []Member{}}
	if st.external() {
		e.Kind = "external"
	}
	c, err := r.cluster(r.store.Endpoints())
	if err != nil {
		e.Error = err.Error()
		return e
	}
	defer c.Close()
	read := make(chan error, 1)
	go func() {
		_, _, err := r.store.Get(ctx, "mesh") // it has a deadline of its own
		read <- err
	}()
	hs, all := c.Health(ctx)
	err = <-read
	health := r.store.Health()
	e.Reachable, e.Since, e.Error = err == nil, health.Since, words(err)
	if all != nil && err != nil && e.Error == "" {
		e.Error = all.Error()
	}
	for _, m := range hs {
		e.Members = append(e.Members, member(m))
		if !m.Learner {
			e.Voters++
			if m.Err == nil {
				e.Answering++
			}
		}
	}
	slices.SortFunc(e.Members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Endpoint, b.Endpoint)) })
	return e
}

func member(m server.Health) Member {
	out := Member{Name: m.Name, Version: m.Version, DBSize: m.DBSize, State: "follower", Error: words(m.Err)}
	if len(m.ClientURLs) > 0 {
		out.Endpoint = hostPort(m.ClientURLs[0])
	} else if len(m.PeerURLs) > 0 {
		out.Endpoint = hostPort(m.PeerURLs[0])
	}
	switch {
	case m.Err != nil:
		out.State = "away"
	case m.Learner:
		out.State = "learner"
	case m.Leader:
		out.State = "leader"
	case m.LeaderID == 0:
		out.State = "without a leader"
	}
	out.Alarm = strings.Join(m.Alarms, "; ")
	return out
}

// hosts are all that this host knows of, with the ways to them.
func (r *running) hosts(ctx context.Context, st *State, measure bool) (out []HostStatus) {
	h := r.h
	var probes map[string][]PathStatus
	if measure && h.cfg.Measure != nil {
		probes = h.cfg.Measure(ctx, r.inside())
	}
	at := map[string]mesh.HostState{}
	for _, o := range r.mesh.Hosts() {
		at[o.ID] = o
	}
	out = append(out, HostStatus{ID: st.Host, Name: st.Name, Addr: st.Listen, Role: st.Role, Alive: true, Self: true, Version: h.cfg.Version})
	for _, p := range r.mesh.Peers() {
		o := at[p.ID]
		one := HostStatus{ID: p.ID, Name: p.Name, Addr: p.Addr, Alive: p.Alive, Role: cmp.Or(Role(o.Role), RoleClient), Version: o.Version}
		if !p.Alive {
			one.Gone = o.Seen
		}
		if h.cfg.Paths != nil {
			one.Paths = h.cfg.Paths(p)
		}
		one.Paths = merged(one.Paths, probes[p.ID])
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b HostStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// merged adds what was measured to the ways that are known, by their kind.
func merged(paths, probes []PathStatus) []PathStatus {
	for _, m := range probes {
		i := slices.IndexFunc(paths, func(p PathStatus) bool { return p.Kind == m.Kind })
		if i < 0 {
			paths = append(paths, m)
			continue
		}
		p := &paths[i]
		p.RTT, p.Loss, p.PathMTU, p.Measured, p.Error = m.RTT, m.Loss, m.PathMTU, m.Measured, m.Error
	}
	return paths
}

// words are what is not as it should be.
func (r *running) words(st *State, s *Status, known mesh.Status) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	r.mu.Lock()
	serving, gateErr, roleErr := r.startErr, r.gateErr, r.roleErr
	srv := r.server
	r.mu.Unlock()
	switch s.Phase {
	case PhaseForgotten:
		if strings.HasPrefix(known.Fenced, mesh.Copied) {
			say("this host is out of the mesh: %s", known.Fenced)
			break
		}
		say("the mesh has forgotten this host (%s): its containers on networks of the mesh are cut off; to come back: linkspan mesh join HOST:%d --token TOKEN", orDash(known.Fenced), st.Ports.Gate)
	case PhaseInit:
		say("the mesh is being made, and is not through")
	case PhaseJoining:
		say("this host is joining, and is not through: the others do not know it yet")
	case PhaseLeaving:
		say("this host is about to leave, and is not through: say linkspan mesh leave again, with --force if the others cannot be reached")
	}
	e := s.Etcd
	if e != nil && !e.Reachable {
		since := ""
		if !e.Since.IsZero() {
			since = " for " + about(time.Since(e.Since))
		}
		cause, cure := "cannot be reached", "see that it runs ("+strings.Join(r.store.Endpoints(), ", ")+"), and that its port is open"
		if e.Voters > 1 && e.Answering*2 <= e.Voters {
			cause, cure = fmt.Sprintf("has no majority (%d of %d members answer)", e.Answering, e.Voters), "bring members back; if they are lost for good, linkspan mesh restore FILE on one host"
		}
		say("etcd %s%s: %s. What runs goes on, and new containers here get addresses of this host's own blocks; networks cannot be made or removed, and other hosts hear of changes here when it is back. To do: %s", cause, since, e.Error, cure)
	}
	if e != nil && e.Kind == "embedded" && e.Reachable {
		if e.Answering < e.Voters {
			say("%d of %d members of etcd do not answer; with %d more it would have no majority. To do: start them again, or linkspan mesh demote them", e.Voters-e.Answering, e.Voters, e.Answering-e.Voters/2)
		}
		if e.Voters == 2 {
			say("2 members of etcd survive no more losses than 1: promote one more host, or demote one")
		}
	}
	if e != nil {
		for _, m := range e.Members {
			if m.Alarm != "" {
				say("etcd on %s: %s", cmp.Or(m.Name, m.Endpoint), m.Alarm)
			}
		}
	}
	if st.Role == RoleMember && srv == nil && serving != nil {
		say("this host is a member, and its etcd does not run: %v", serving)
	} else if srv != nil && srv.Failed() != nil {
		say("this host is a member, and its etcd does not run: %v", srv.Failed())
	}
	if gateErr != nil {
		say("hosts cannot join here: %v", gateErr)
	}
	if roleErr != nil && serving == nil && gateErr == nil {
		say("%v", roleErr)
	}
	if r.identity != nil {
		if err := r.identity.Warn(time.Now()); err != nil {
			say("%v", err)
		}
	}
	if s.Self.Queue > 0 && e != nil && e.Reachable {
		say("%s to be written for the others; it should take less than a second", waiting(s.Self.Queue))
	}
	for _, o := range s.Hosts {
		if !o.Self && !o.Alive {
			gone := ""
			if !o.Gone.IsZero() {
				gone = " for " + about(time.Since(o.Gone))
			}
			say("host %s (%s) gives no sign of life%s: it is dead or cut off. Its addresses stay its own; if it is gone for good: linkspan mesh forget %s", o.Name, o.Addr, gone, o.Name)
		}
		for _, p := range o.Paths {
			if p.PathMTU > 0 && p.MTU > 0 && p.PathMTU < p.MTU {
				say("to %s by %s only packets of %d bytes pass, and %d are wanted: linkspan mesh check tells more", o.Name, p.Kind, p.PathMTU, p.MTU)
			}
			if p.Error != "" && o.Alive {
				say("to %s by %s: %s", o.Name, p.Kind, p.Error)
			}
		}
	}
	return out
}

// Check probes the ways to all hosts.
func (h *Host) Check(ctx context.Context) (*Checked, error) {
	_, r, err := h.inside("mesh check")
	if err != nil {
		return nil, err
	}
	if h.cfg.Check == nil {
		return &Checked{Words: []string{"probes are not to be had in this daemon"}}, nil
	}
	return h.cfg.Check(ctx, r.inside())
}

// Replace looks again where this host's end is: a device, its MTU or WireGuard changed.
func (h *Host) Replace() {
	st, r := h.current()
	if st == nil || r == nil || r.mesh == nil {
		return
	}
	r.mesh.SetPlace(h.place(st))
	r.mesh.Refresh()
}
