package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
	"linkspan/store"
	"linkspan/store/etcd/server"
)

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
	removed := s != nil && s.Removed() || r.stray(ctx, st)
	switch {
	case st.Role == RoleMember && want == RoleClient, removed && want != RoleMember:
		return r.demote(ctx, st)
	case st.Role == RoleClient && want == RoleMember, removed, st.Learner, st.Role == RoleMember && !data:
		return r.promote(ctx, st, removed || st.Role == RoleMember && !data && !st.Learner)
	case st.Role == RoleClient && r.membersThings():
		return r.drop() // it was killed when it had written down that it is none
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
		// One host at a time: a member that starts is told of all others, and they must be
		// the same until it has begun.
		turn, end := context.WithCancel(ctx)
		defer end()
		if err := r.turn(turn, st); err != nil {
			return err
		}
		if st, err = r.asLearner(ctx, c, st); err != nil {
			return err
		}
	}
	if err := r.serve(ctx, st); err != nil {
		return err
	}
	ms, err := c.Members(ctx)
	if err != nil {
		return err
	}
	id, ok := r.among(ms, st)
	if !ok {
		return cnm.NotFound("etcd has no member at %s", r.serverConfig(st).PeerURL())
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

// turnKey is whose turn it is to become a member, or to be none any more; turnFor is how long it stays a dead
// host's.
const (
	turnKey = "promoting"
	turnFor = 10 * time.Second
)

var errOneByOne = errors.New("etcd's members change one at a time")

// turn takes that turn until ctx ends.
func (r *running) turn(ctx context.Context, st *State) error {
	_, err := r.store.Hold(ctx, store.Op{Key: turnKey, Value: []byte(st.Name), Guard: true}, turnFor)
	if !errors.Is(err, store.ErrCompare) {
		return err
	}
	other := "another host"
	if e, ok, err := r.store.Get(ctx, turnKey); err == nil && ok {
		other = string(e.Value)
	}
	return cnm.Errorf(cnm.ErrUnavailable, "%w: this host waits for %s", errOneByOne, other)
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

// among is this host's id among etcd's members, if it is one.
func (r *running) among(ms []server.Member, st *State) (id uint64, ok bool) {
	peer := r.serverConfig(st).PeerURL()
	for _, m := range ms {
		if slices.Contains(m.PeerURLs, peer) {
			return m.ID, true
		}
	}
	return 0, false
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
	if r.stray(ctx, st) {
		// The store answers, and not by this member: it was restored from a backup, and
		// what this one has is of before.
		r.stopServing()
		if err := r.store.SetEndpoints(next.Endpoints); err != nil {
			return err
		}
	}
	// Of two changes of the members at a time, etcd may forget one.
	turn, end := context.WithCancel(ctx)
	defer end()
	if s := r.serving(); s == nil || !s.Removed() {
		if err := r.turn(turn, st); err != nil {
			return err
		}
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

// resign takes this host out of etcd's members, through another one: its own may be of a
// cluster that is no more.
func (r *running) resign(ctx context.Context, st *State) error {
	ctx, cancel := within(ctx, steps/2, "it took too long")
	defer cancel()
	own := port(st.Listen, st.Ports.Etcd)
	others := slices.DeleteFunc(r.likely(st), func(e string) bool { return e == own })
	if len(others) == 0 {
		return cnm.Conflict("this host knows of no other member of etcd")
	}
	return r.withMembers(ctx, others, func(c *server.Cluster, ms []server.Member) error {
		if id, ok := r.among(ms, st); ok {
			return c.Remove(ctx, id)
		}
		return nil
	})
}

// leaderless is how long a member may be without a leader before it is asked whether it is
// one of those who answer.
const leaderless = 5 * time.Second

// stray says that this member's etcd is of a cluster that is no more: it has no leader,
// and those who answer do not know it.
func (r *running) stray(ctx context.Context, st *State) bool {
	s := r.serving()
	if s == nil {
		return false
	}
	own := s.Status()
	if own.Err != nil || own.Leader != 0 || own.ID == 0 || time.Since(own.Since) < leaderless {
		return false
	}
	ctx, cancel := within(ctx, 5*time.Second, "no answer")
	defer cancel()
	at := port(st.Listen, st.Ports.Etcd)
	known := true
	err := r.withMembers(ctx, slices.DeleteFunc(r.likely(st), func(e string) bool { return e == at }), func(_ *server.Cluster, ms []server.Member) error {
		known = slices.ContainsFunc(ms, func(m server.Member) bool { return m.ID == own.ID })
		return nil
	})
	return err == nil && !known
}

// membersThings says whether there is something that only members have.
func (r *running) membersThings() bool {
	for _, path := range []string{r.h.dir.etcd(), trust.Folder(r.h.dir.tls()).CAKeyFile()} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
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
	if s := r.closeGate(); s != nil {
		s.Stop()
	}
}
