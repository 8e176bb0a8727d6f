package host

import "time"

// Glance is what can be told of this host's part in the mesh without asking anybody.
type Glance struct {
	Mesh, Name string
	Role       Role
	Phase      Phase
	// Reachable says that etcd answered when it was asked last; Since since when that is
	// so, and Error why not.
	Reachable bool
	Since     time.Time
	Error     string
	// Alive and Dead count the other hosts, by their sign of life.
	Alive, Dead int
	// Queue is how many changes of this host wait to be written.
	Queue int
	// Expires is when this host's certificate ends; zero: it has none of the mesh's.
	Expires time.Time
	// Serving says that this member's etcd runs; DB is the size of its data, in bytes.
	Serving bool
	DB      int64
	// Stuck are networks that cannot be written, each with why.
	Stuck map[string]string
}

// Glance is nil of a host in no mesh. It never waits.
func (h *Host) Glance() *Glance {
	st, r := h.current()
	if st == nil {
		return nil
	}
	g := &Glance{Mesh: st.Mesh, Name: st.Name, Role: st.Role, Phase: st.Phase}
	if r == nil {
		return g
	}
	if r.isFenced() {
		g.Phase = PhaseForgotten
	}
	health := r.store.Health()
	g.Reachable, g.Since, g.Error = health.OK, health.Since, words(health.Err)
	if r.identity != nil {
		g.Expires = r.identity.Certificate().NotAfter
	}
	if s := r.serving(); s != nil {
		st := s.Status()
		g.Serving, g.DB = st.Err == nil && st.Leader != 0, st.DBSize
	}
	if r.mesh != nil {
		known := r.mesh.Status()
		g.Queue, g.Stuck = known.Queue, known.Stuck
		for _, p := range r.mesh.Peers() {
			if p.Alive {
				g.Alive++
			} else {
				g.Dead++
			}
		}
	}
	return g
}
