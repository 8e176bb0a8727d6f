package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
	"linkspan/store/etcd/server"
)

const (
	// steadily is how often it is looked whether all is as it should be; soon, when
	// something is not.
	steadily = 10 * time.Second
	soon     = time.Second
	// steps is how long one step of what follows may take.
	steps = 30 * time.Second
)

// keep brings what runs here to what this host is to do, again and again: after a crash in
// the middle of a change as after a change by another host.
func (r *running) keep(ctx context.Context) {
	said := ""
	for {
		err := r.step(ctx)
		wait := steadily
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTurn):
			wait = soon / 10
			err = nil
		case err != nil:
			wait = soon
			if err.Error() != said {
				r.h.log.Warn("mesh: " + err.Error())
			}
		}
		said = words(err)
		select {
		case <-ctx.Done():
			return
		case <-r.bell:
		case <-time.After(wait):
		}
	}
}

// errTurn: somebody else is changing something at this moment.
var errTurn = errors.New("it is another's turn")

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// step is one look. While a person changes something it does nothing: they do it.
func (r *running) step(ctx context.Context) error {
	h := r.h
	select {
	case h.changing <- struct{}{}:
		defer func() { <-h.changing }()
	default:
		return errTurn
	}
	st, now := h.current()
	if now != r || st == nil || ctx.Err() != nil {
		return nil
	}
	ctx, cancel := within(ctx, 2*steps, "it took too long")
	defer cancel()
	return r.bring(ctx, st)
}

// bring does what is next. The caller has the turn to change.
func (r *running) bring(ctx context.Context, st *State) error {
	switch st.Phase {
	case PhaseInit, PhaseJoining:
		return r.finish(ctx)
	case PhaseLeaving:
		_, err := r.h.leave(ctx, st, r, false)
		return err
	}
	err := r.roles(ctx, st)
	r.mu.Lock()
	r.roleErr = err
	r.mu.Unlock()
	return errors.Join(err, r.addresses(ctx))
}

// finish is what making or joining a mesh comes to: the record in the common store, and
// then package mesh. It can be cut off and done again at any point.
func (r *running) finish(ctx context.Context) error {
	h := r.h
	st, _ := h.current()
	st = st.clone()
	self := mesh.Host{ID: st.Host, Name: st.Name, Addr: st.Listen, Role: string(st.Role), Version: h.cfg.Version}
	if h.cfg.Used != nil {
		self.Prefixes = h.cfg.Used(ctx)
	}
	if st.Phase == PhaseInit {
		if err := r.serve(ctx, st); err != nil {
			return err
		}
		if err := r.serving().Wait(ctx); err != nil {
			return err
		}
		if st.Restored {
			fit, err := r.restored(ctx, st)
			if err != nil {
				return err
			}
			st, self.ID = fit.clone(), fit.Host
		}
		if _, err := mesh.Found(ctx, r.store, st.Mesh, st.Mesh); err != nil {
			return err
		}
		if err := r.wishVoters(ctx, st.Voters); err != nil {
			return err
		}
	}
	if st.external() {
		if err := r.found(ctx, st); err != nil {
			return err
		}
	}
	self, err := r.enroll(ctx, self)
	if err != nil {
		return err
	}
	st.Phase, st.Self, st.Restored = PhaseJoined, self, false
	if err := r.open(st); err != nil {
		return err
	}
	if err := h.put(st); err != nil {
		r.mesh = nil
		return err
	}
	if h.cfg.Attach != nil {
		if err := h.cfg.Attach(ctx, r.mesh); err != nil {
			h.log.Error("what is on networks of the mesh is not as it should be", "err", err)
		}
	}
	r.goMesh()
	return nil
}

// enroll writes this host's record, or finds it written by a try that was cut off.
func (r *running) enroll(ctx context.Context, self mesh.Host) (mesh.Host, error) {
	hosts, err := records(ctx, r.store)
	if err != nil {
		return self, err
	}
	for _, o := range hosts {
		if o.ID == self.ID && o.Name == self.Name && o.Addr == self.Addr {
			return o, nil
		}
	}
	return mesh.Enroll(ctx, r.store, self)
}

// found finds the mesh of an external etcd, or makes it: the first host does.
func (r *running) found(ctx context.Context, st *State) error {
	rec, err := mesh.Found(ctx, r.store, "", "")
	if err != nil {
		return err
	}
	if st.Mesh != "" && st.Mesh != rec.ID {
		return cnm.Conflict("the etcd of --mesh holds mesh %s, and this host was in mesh %s: linkspan mesh leave --force gives the old one up", rec.ID, st.Mesh)
	}
	st.Mesh = rec.ID
	return nil
}

// serve starts this member's etcd, unless it runs.
func (r *running) serve(ctx context.Context, st *State) (err error) {
	r.mu.Lock()
	have := r.server
	r.mu.Unlock()
	if have != nil {
		return nil
	}
	s, err := server.Open(ctx, r.serverConfig(st))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server, r.startErr = s, err
	return err
}

func (r *running) serverConfig(st *State) server.Config {
	f := trust.Folder(r.h.dir.tls())
	c := server.Config{Name: st.Name, Dir: r.h.dir.etcd(), Client: addrPort(st.Listen, st.Ports.Etcd), Peer: addrPort(st.Listen, st.Ports.Peer),
		Cert: f.HostFile(), Key: f.HostFile(), CA: f.CAFile(), Cluster: st.Cluster, Existing: st.Cluster != "", Token: st.Mesh, Log: r.h.log}
	if _, err := os.Stat(f.RevokedFile()); err == nil {
		c.CRL = f.RevokedFile()
	}
	return c
}

// roles brings this host to the role that the mesh has for it.
func (r *running) roles(ctx context.Context, st *State) error {
	if st.external() {
		return nil
	}
	if r.isFenced() {
		r.stopServing()
		return nil
	}
	// What the state says runs before anybody is asked: there may be no majority without
	// this member.
	data := r.h.dir.hasData()
	if st.Role == RoleMember && data {
		if err := r.serve(ctx, st); err != nil {
			return err
		}
	}
	want, err := r.wish(ctx, st)
	if err != nil {
		return errors.Join(err, r.gateIf(st))
	}
	s := r.serving()
	removed := s != nil && s.Removed()
	switch {
	case st.Role == RoleMember && want == RoleClient, removed && want != RoleMember:
		return r.demote(ctx, st)
	case st.Role == RoleClient && want == RoleMember, removed, st.Learner, st.Role == RoleMember && !data:
		return r.promote(ctx, st, removed || st.Role == RoleMember && !data && !st.Learner)
	}
	return r.gateIf(st)
}

// gateIf opens the gate of a member.
func (r *running) gateIf(st *State) error {
	if st.Role != RoleMember || st.Learner || r.serving() == nil {
		return nil
	}
	return r.openGate(st)
}

// wish is the role that the others know this host in. Only what was heard from the store
// counts: what is remembered may be of before a change that this host has made since.
func (r *running) wish(ctx context.Context, st *State) (Role, error) {
	r.mu.Lock()
	want := r.wished
	r.mu.Unlock()
	if want != "" {
		return want, nil
	}
	e, ok, err := r.store.Get(ctx, "hosts/"+st.Host)
	if err != nil || !ok {
		return st.Role, err // of a record that is gone package mesh finds out
	}
	var self mesh.Host
	if err := json.Unmarshal(e.Value, &self); err != nil {
		return st.Role, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wished == "" {
		r.wished = Role(self.Role)
	}
	return r.wished, nil
}

// promote makes this host a member: it is added as one that is told everything, starts,
// and counts when it has caught up. anew: it was one, and what it has is of no use.
func (r *running) promote(ctx context.Context, st *State, anew bool) error {
	h := r.h
	if anew {
		r.stopServing()
		// Of a member whose data were lost the others still count the old one.
		if err := r.resign(ctx, st); err != nil {
			return fmt.Errorf("this host is a member of etcd and has no data (any more): the others have to take it anew, and cannot now; if there are none, linkspan mesh restore FILE: %w", err)
		}
		st = st.clone()
		st.Role, st.Learner, st.Cluster = RoleClient, false, ""
		if err := h.put(st); err != nil {
			return err
		}
	}
	c, err := r.cluster(r.likely(st))
	if err != nil {
		return err
	}
	defer c.Close()
	if !st.Learner {
		if err := h.free(st.Listen, st.Ports.memberPorts()); err != nil {
			return fmt.Errorf("this host is to run etcd, and cannot: %w", err)
		}
		if err := r.fetchCA(ctx, st); err != nil {
			return err
		}
		if err := h.dir.step("etcd.clear", func() error { return os.RemoveAll(h.dir.etcd()) }); err != nil {
			return h.dir.words(err)
		}
	}
	if r.serving() == nil {
		if st, err = r.asLearner(ctx, c, st); err != nil {
			return err
		}
	}
	if err := r.serve(ctx, st); err != nil {
		return err
	}
	id, err := r.memberID(ctx, c, st)
	if err != nil {
		return err
	}
	if err := c.Promote(ctx, id); err != nil {
		return err
	}
	next := st.clone()
	next.Learner, next.Cluster = false, ""
	if err := h.put(next); err != nil {
		return err
	}
	h.log.Info("this host runs etcd for the mesh", "member", st.Name)
	return r.openGate(next)
}

// asLearner has etcd's members know this host, and remembers what it has to be told of
// them: that changes while others are promoted too.
func (r *running) asLearner(ctx context.Context, c *server.Cluster, st *State) (*State, error) {
	next := st.clone()
	_, cluster, err := c.AddLearner(ctx, st.Name, r.serverConfig(st).PeerURL())
	switch {
	case errors.Is(err, cnm.ErrConflict) && st.Learner:
		return st, nil // it has started already, before a restart
	case err != nil:
		return nil, err
	}
	if st.Learner && cluster == st.Cluster {
		return st, nil
	}
	next.Role, next.Learner, next.Cluster = RoleMember, true, cluster
	return next, r.h.put(next)
}

func (r *running) serving() *server.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// memberID is this host's among etcd's members; not found: it is none.
func (r *running) memberID(ctx context.Context, c *server.Cluster, st *State) (uint64, error) {
	ms, err := c.Members(ctx)
	if err != nil {
		return 0, err
	}
	peer := r.serverConfig(st).PeerURL()
	for _, m := range ms {
		if slices.Contains(m.PeerURLs, peer) {
			return m.ID, nil
		}
	}
	return 0, cnm.NotFound("etcd has no member at %s", peer)
}

// demote makes this host a client of the others: it is taken out of the members first, so
// that no majority counts on it.
func (r *running) demote(ctx context.Context, st *State) error {
	h := r.h
	// Whom to ask from now on is asked while there is an answer.
	if err := r.members(ctx); err != nil {
		h.log.Debug("etcd's members are not known anew", "err", err)
	}
	next := st.clone()
	next.Role, next.Learner, next.Cluster = RoleClient, false, ""
	own := port(st.Listen, st.Ports.Etcd)
	next.Endpoints = slices.DeleteFunc(r.likely(st), func(e string) bool { return e == own })
	if len(next.Endpoints) == 0 {
		return cnm.Conflict("this host is the only member of etcd that it knows of, and stays one")
	}
	if err := r.resign(ctx, st); err != nil {
		return err
	}
	if err := h.put(next); err != nil {
		return err
	}
	if err := r.store.SetEndpoints(next.Endpoints); err != nil {
		return err
	}
	h.log.Info("this host runs etcd no more", "member", st.Name)
	r.stopServing()
	return r.drop()
}

// resign takes this host out of etcd's members.
func (r *running) resign(ctx context.Context, st *State) error {
	c, err := r.cluster(r.likely(st))
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := r.memberID(ctx, c, st)
	switch {
	case errors.Is(err, cnm.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return c.Remove(ctx, id)
}

// drop removes what only members have.
func (r *running) drop() error {
	h := r.h
	return h.dir.words(h.dir.step("etcd.drop", func() error {
		return errors.Join(os.RemoveAll(h.dir.etcd()), trust.Folder(h.dir.tls()).DropCAKey())
	}))
}

// stopServing ends this member's etcd and gate.
func (r *running) stopServing() {
	r.mu.Lock()
	s, g := r.server, r.gate
	r.server, r.gate = nil, nil
	r.mu.Unlock()
	if g != nil {
		g.Close()
	}
	if s != nil {
		s.Stop()
	}
}

// members has the store ask those who are etcd's members now.
func (r *running) members(ctx context.Context) error {
	c, err := r.cluster(r.store.Endpoints())
	if err != nil {
		return err
	}
	defer c.Close()
	ms, err := c.Members(ctx)
	if err != nil {
		return err
	}
	var eps []string
	for _, m := range ms {
		for _, u := range m.ClientURLs {
			if at := hostPort(u); at != "" && !m.Learner {
				eps = append(eps, at)
			}
		}
	}
	if slices.Sort(eps); len(eps) == 0 {
		return nil
	}
	return r.store.SetEndpoints(slices.Compact(eps))
}

// likely are the members' addresses that are known to the store, and those of hosts that
// are members by their records: what the store knows may be of long ago.
func (r *running) likely(st *State) []string {
	eps := r.store.Endpoints()
	if r.mesh == nil {
		return eps
	}
	for _, o := range r.mesh.Hosts() {
		if at := port(o.Addr, st.Ports.Etcd); Role(o.Role) == RoleMember && !slices.Contains(eps, at) {
			eps = append(eps, at)
		}
	}
	return eps
}

// turning is how long after a change of roles it is asked who the members are: those who
// are promoted begin in the meantime.
const turning = time.Minute

// addresses remembers who the members are now, for the next start.
func (r *running) addresses(ctx context.Context) error {
	h := r.h
	st, _ := h.current()
	if st == nil || st.external() {
		return nil
	}
	roles := ""
	for _, o := range r.mesh.Hosts() {
		roles += o.ID + " " + o.Role + "\n"
	}
	r.mu.Lock()
	if roles != r.roleList {
		r.roleList, r.roleTurn = roles, time.Now()
	}
	turns := time.Since(r.roleTurn) < turning
	r.mu.Unlock()
	if health := r.store.Health(); !health.OK && !health.Since.IsZero() {
		if err := r.store.SetEndpoints(r.likely(st)); err != nil {
			return err
		}
	} else if turns {
		short, cancel := within(ctx, 5*time.Second, "no answer")
		defer cancel()
		if err := r.members(short); err != nil {
			h.log.Debug("etcd's members are not known anew", "err", err)
		}
	}
	next := st.clone()
	next.Endpoints = r.store.Endpoints()
	if gates := r.gates(st); len(gates) > 0 {
		next.Gates = gates
	}
	if slices.Equal(next.Endpoints, st.Endpoints) && slices.Equal(next.Gates, st.Gates) {
		return nil
	}
	return h.put(next)
}

// gates are where hosts join and renew: at every member.
func (r *running) gates(st *State) (out []string) {
	for _, e := range r.store.Endpoints() {
		host, _, err := net.SplitHostPort(e)
		if err != nil {
			continue
		}
		out = append(out, net.JoinHostPort(host, fmt.Sprint(st.Ports.Gate)))
	}
	slices.Sort(out)
	return out
}

// hostPort is the address in a member's URL.
func hostPort(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
