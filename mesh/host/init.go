package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
)

// Init makes a mesh of this host. Cut off, it goes on at the next start, or when it is
// said again.
func (h *Host) Init(ctx context.Context, q InitRequest) (*Joined, error) {
	done, err := h.change(ctx, "mesh init")
	if err != nil {
		return nil, err
	}
	defer done()
	st, _ := h.current()
	if err := h.alone("mesh init", st); err != nil {
		return nil, err
	}
	if st == nil {
		if st, err = h.wished(q); err != nil {
			return nil, err
		}
		if err := h.found(st); err != nil {
			return nil, err
		}
	} else if addr, err := h.ownAddress(q.Listen); q.Listen != "" && (err != nil || addr != st.Listen) {
		return nil, errors.Join(err, cnm.Conflict("mesh init was begun with --listen %s, and is not through: say that, or linkspan mesh leave --force first", st.Listen))
	}
	r, err := h.start(ctx, st)
	if err != nil {
		return nil, err
	}
	if err := h.through(ctx, r); err != nil {
		return nil, err
	}
	line, err := h.createToken(ctx, q.TTL)
	if err != nil {
		return nil, err
	}
	st, _ = h.current()
	j := &Joined{Mesh: st.Mesh, Name: st.Name, Addr: st.Listen.String(), Role: st.Role, Join: line}
	return j, nil
}

// alone refuses a second mesh on this host. A mesh that is just being made is none yet.
func (h *Host) alone(what string, st *State) error {
	h.mu.Lock()
	broken := h.broken
	h.mu.Unlock()
	switch {
	case broken != nil:
		return broken
	case h.cfg.External != nil:
		return cnm.Conflict("%s: the daemon's --mesh says that the mesh of this host is in an etcd cluster that exists already, and a host is in one mesh only: start the daemon without --mesh, or leave it at that", what)
	case st == nil || st.Phase == PhaseInit && what == "mesh init" || st.Phase == PhaseJoining && what == "mesh join":
		return nil
	case st.Phase == PhaseLeaving:
		return cnm.Conflict("%s: this host is about to leave mesh %s, and is not through: say linkspan mesh leave again, with --force if the others cannot be reached", what, st.Mesh)
	case st.Phase == PhaseInit || st.Phase == PhaseJoining:
		return cnm.Conflict("%s: this host is about to become part of mesh %s, and is not through: wait, or give it up with linkspan mesh leave --force", what, st.Mesh)
	}
	return cnm.Conflict("%s: this host is in mesh %s already, as %s at %s, and a host is in one mesh only. To let another host in: linkspan mesh token create; to leave this mesh: linkspan mesh leave", what, st.Mesh, st.Name, st.Listen)
}

// wished is the state that a person asks for.
func (h *Host) wished(q InitRequest) (*State, error) {
	addr, err := h.ownAddress(q.Listen)
	if err != nil {
		return nil, err
	}
	name, err := h.name(q.Name)
	if err != nil {
		return nil, err
	}
	voters := q.Voters
	if voters == 0 {
		voters = 3
	}
	if voters != 1 && voters != 3 && voters != 5 {
		return nil, cnm.Invalid("--members %d: 1, 3 or 5 hosts run etcd; an even number survives no more losses than one less", q.Voters)
	}
	if q.TTL != 0 && (q.TTL < time.Minute || q.TTL > trust.MaxTTL) { // not after all is made
		return nil, cnm.Invalid("--ttl %s: a token is good for a minute at least and %d days at most", q.TTL, trust.MaxTTL/(24*time.Hour))
	}
	if err := h.free(addr, append(h.cfg.Ports.memberPorts(), h.cfg.Ports.hostPorts()...)); err != nil {
		return nil, err
	}
	return &State{Phase: PhaseInit, Mesh: mesh.NewID(), Host: mesh.NewID(), Name: name, Listen: addr, Role: RoleMember, Voters: voters,
		Ports: h.cfg.Ports, Endpoints: []string{port(addr, h.cfg.Ports.Etcd)}, Gates: []string{port(addr, h.cfg.Ports.Gate)}}, nil
}

// found makes the folder of a new mesh, with its CA and this host's certificate.
func (h *Host) found(st *State) error {
	s, err := h.dir.fresh()
	if err != nil {
		return err
	}
	now := time.Now()
	ca, err := trust.NewCA(st.Mesh, st.Mesh, now)
	if err != nil {
		return err
	}
	if err := h.certify(s, ca, st, now); err != nil {
		return err
	}
	if err := s.save(st); err != nil {
		return err
	}
	return h.dir.take()
}

// certify keeps the CA, and a certificate of its for this host.
func (h *Host) certify(s folder, ca *trust.CA, st *State, now time.Time) error {
	f := trust.Folder(s.tls())
	key, err := trust.NewKey()
	if err != nil {
		return err
	}
	leaf, err := ca.Issue(trust.Subject{ID: st.Host, Name: st.Name, Addr: st.Listen}, key.Public(), now)
	if err != nil {
		return err
	}
	return s.step("certify", func() error { return errors.Join(f.SaveCA(ca), f.SaveHost(ca, leaf, key)) })
}

// start has what the folder says run, unless it does.
func (h *Host) start(ctx context.Context, st *State) (*running, error) {
	h.mu.Lock()
	have := h.running
	h.mu.Unlock()
	if have != nil {
		return have, nil
	}
	r, err := h.prepare(ctx, st)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.state, h.running = st, r
	begun := h.begun
	h.mu.Unlock()
	if begun {
		r.begin()
	}
	return r, nil
}

// through waits until this host is in the mesh, or says why it is not.
func (h *Host) through(ctx context.Context, r *running) error {
	ctx, cancel := within(ctx, 2*steps, "it took too long")
	defer cancel()
	for {
		st, _ := h.current()
		if st.Phase == PhaseJoined {
			return r.bring(ctx, st)
		}
		err := r.finish(ctx)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, cnm.ErrUnavailable) || ctx.Err() != nil:
			return fmt.Errorf("%w; it goes on by itself when that is mended, or give it up with linkspan mesh leave --force", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; it goes on by itself when that is mended, or give it up with linkspan mesh leave --force", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// inside is as in, and the host must be through with joining.
func (h *Host) inside(what string) (*State, *running, error) {
	st, r, err := h.in(what)
	if err != nil {
		return nil, nil, err
	}
	if st.Phase != PhaseJoined || r.mesh == nil {
		return nil, nil, cnm.Errorf(cnm.ErrUnavailable, "%s: this host is %s mesh %s at this moment: see linkspan mesh status", what, phaseWords(st.Phase), st.Mesh)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fenced {
		return nil, nil, cnm.Conflict("%s: mesh %s has forgotten this host: join again with linkspan mesh join HOST:%d --token TOKEN", what, st.Mesh, st.Ports.Gate)
	}
	return st, r, nil
}

func phaseWords(p Phase) string {
	switch p {
	case PhaseInit:
		return "making"
	case PhaseJoining:
		return "joining"
	case PhaseLeaving:
		return "leaving"
	}
	return "in"
}
