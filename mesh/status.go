package mesh

import (
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
)

// Status is how this host's part in the mesh is.
type Status struct {
	Mesh     string // its id
	MeshName string
	// Host is this one as it wishes to be known.
	Host Host
	// Reachable says whether the common store answers, Since since when; Err is why not.
	Reachable bool
	Since     time.Time
	Err       error
	// Fenced says why this host is no member any more; empty: it is.
	Fenced string
	// Queue is how many changes of this host are not written yet.
	Queue int
	// Revision is the highest of the store that was seen.
	Revision int64
	// Stuck are networks that cannot be written, each with why.
	Stuck map[string]string
	// Networks, Followed and Remote count global networks, those followed, and the
	// endpoints elsewhere that are known.
	Networks, Followed, Remote int
	// Blocks and Borrowed count this host's own, Granted what others borrowed.
	Blocks, Borrowed, Granted int
}

// Status says how it is now.
func (m *Mesh) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Mesh: m.cfg.Mesh, MeshName: m.record.Name, Host: m.self,
		Reachable: m.health.reached && m.health.err == nil && m.foreign == nil, Since: m.health.since,
		Fenced: m.fenced, Queue: len(m.queue.keys) + len(m.queue.releases), Revision: m.health.rev,
		Networks: len(m.networks), Stuck: map[string]string{},
	}
	switch {
	case m.health.err != nil:
		s.Err = m.health.err
	case m.foreign != nil:
		s.Err = m.foreign
	case !m.health.reached:
		s.Err = cnm.Errorf(cnm.ErrUnavailable, "the mesh's store was not reached yet")
	}
	for _, f := range m.follows {
		if f.active {
			s.Followed++
			for key := range f.endpoints.items {
				if !strings.Contains(key, "/"+m.id+"/") {
					s.Remote++
				}
			}
		}
	}
	for id, o := range m.own {
		s.Blocks += len(o.Blocks)
		s.Borrowed += len(o.Singles)
		s.Granted += len(o.Grants)
		if o.stuck != "" {
			s.Stuck[id] = o.stuck
		}
	}
	return s
}

// HostState is a host as it is seen from here.
type HostState struct {
	Host
	Self  bool
	Alive bool
	// Seen is when it was last seen alive; zero: not since this process began.
	Seen time.Time
}

// Hosts are all of the mesh, this one included, by name, each as the store has it.
// There are none while this host was forgotten, or has left.
func (m *Mesh) Hosts() []HostState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fenced != "" || m.left {
		return nil
	}
	var out []HostState
	for id, h := range m.hosts {
		s := HostState{Host: h, Self: id == m.id, Alive: m.alive[id], Seen: m.seen[id]}
		if s.Alive {
			s.Seen = time.Now()
		}
		if s.Self {
			s.Alive, s.Seen = true, time.Now()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b HostState) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Record is the mesh's, as last known.
func (m *Mesh) Record() Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record
}
