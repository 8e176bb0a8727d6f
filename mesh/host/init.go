package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
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

// CreateToken makes a token, and the line for the other host.
func (h *Host) CreateToken(ctx context.Context, ttl time.Duration) (*JoinLine, error) {
	if _, _, err := h.in("mesh token create"); err != nil {
		return nil, err
	}
	return h.createToken(ctx, ttl)
}

func (h *Host) createToken(ctx context.Context, ttl time.Duration) (*JoinLine, error) {
	st, r, err := h.inside("a join token")
	if err != nil {
		return nil, err
	}
	if st.external() {
		return nil, noTokens("a join token")
	}
	ca := r.identity.CA()
	t, rec, err := trust.Tokens{Store: r.store}.Create(ctx, ca, st.Name, ttl)
	if err != nil {
		return nil, err
	}
	gate := gateOf(st)
	return &JoinLine{Gate: gate, Token: t.String(), ID: t.ID, Expires: rec.Expires, Command: "linkspan mesh join " + gate + " --token " + t.String()}, nil
}

// gateOf is where others are sent to: this host's own, if it has one.
func gateOf(st *State) string {
	own := port(st.Listen, st.Ports.Gate)
	if st.Role == RoleMember || len(st.Gates) == 0 {
		return own
	}
	return st.Gates[0]
}

func noTokens(what string) error {
	return cnm.Conflict("%s: the mesh of this host is in an etcd cluster that exists already; a host joins by starting its daemon with the same --mesh, no token is needed", what)
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

// Tokens lists them.
func (h *Host) Tokens(ctx context.Context) (*Tokens, error) {
	st, r, err := h.inside("mesh token ls")
	if err != nil {
		return nil, err
	}
	if st.external() {
		return nil, noTokens("mesh token ls")
	}
	rs, err := trust.Tokens{Store: r.store}.List(ctx)
	if err != nil {
		return nil, err
	}
	out := &Tokens{Tokens: []Token{}}
	for _, t := range rs {
		out.Tokens = append(out.Tokens, Token{ID: t.ID, State: t.State(time.Now()), Created: t.Created, Expires: t.Expires, By: t.By, UsedBy: t.HostName, Used: t.Used})
	}
	return out, nil
}

// RevokeToken takes one back.
func (h *Host) RevokeToken(ctx context.Context, id string) (*Done, error) {
	st, r, err := h.inside("mesh token revoke")
	if err != nil {
		return nil, err
	}
	if st.external() {
		return nil, noTokens("mesh token revoke")
	}
	if err := (trust.Tokens{Store: r.store}).Revoke(ctx, id); err != nil {
		return nil, err
	}
	if t, err := trust.ParseToken(id); err == nil {
		id = t.ID
	}
	return &Done{Did: "token " + id + " lets nobody in any more"}, nil
}

// Join takes this host into the mesh of a gate. Cut off, it can be said again with the
// same token: this host is known by its id and key, which it keeps from its first try on.
func (h *Host) Join(ctx context.Context, q JoinRequest) (*Joined, error) {
	done, err := h.change(ctx, "mesh join")
	if err != nil {
		return nil, err
	}
	defer done()
	st, r := h.current()
	if r != nil && st.Phase == PhaseJoined && r.isFenced() {
		// Forgotten by the others: what it has of them is worth nothing any more.
		if err := h.giveUp(ctx, r); err != nil {
			return nil, err
		}
		st, r = nil, nil
	}
	if r != nil && st.Phase == PhaseJoined && r.identity != nil && time.Now().After(r.identity.Certificate().NotAfter) {
		return h.readmitted(ctx, q, st, r)
	}
	if err := h.alone("mesh join", st); err != nil {
		return nil, err
	}
	var warnings []string
	if st == nil {
		if st, warnings, err = h.admitted(ctx, q); err != nil {
			return nil, err
		}
	} else if name := q.Name; name != "" && name != st.Name {
		// The name that the first try came with was taken since.
		next := st.clone()
		next.Name = name
		if err := h.put(next); err != nil {
			return nil, err
		}
		st = next
	}
	if r, err = h.start(ctx, st); err != nil {
		return nil, err
	}
	if err := h.through(ctx, r); err != nil {
		return nil, err
	}
	st, _ = h.current()
	j := &Joined{Mesh: st.Mesh, Name: st.Name, Addr: st.Listen.String(), Role: st.Role, Notes: warnings}
	grown, err := r.grow(ctx)
	if err != nil {
		h.log.Warn("whether more hosts shall run etcd could not be told", "err", err)
	}
	for _, g := range grown {
		if g == st.Name {
			g = "this host"
		}
		j.Notes = append(j.Notes, g+" begins to run etcd too, so that losing one host changes nothing")
	}
	r.ring()
	return j, nil
}

// readmitted gets a new certificate for a host whose own has expired while it was off: it
// is still in the mesh, and can show nothing.
func (h *Host) readmitted(ctx context.Context, q JoinRequest, st *State, r *running) (*Joined, error) {
	gate, err := gateAddress(q.Gate, h.cfg.Ports.Gate)
	if err != nil {
		return nil, err
	}
	t, err := trust.ParseToken(q.Token)
	if err != nil {
		return nil, err
	}
	if t.Pin != r.identity.CA().Pin() {
		return nil, cnm.Conflict("mesh join: the token is of another mesh, and this host is in mesh %s: linkspan mesh leave --force first, or take a token of that mesh", st.Mesh)
	}
	key, err := trust.NewKey()
	if err != nil {
		return nil, err
	}
	a, err := trust.Join(ctx, gate, q.Token, trust.Request{ID: st.Host, Name: st.Name, Addr: st.Listen, Version: h.cfg.Version}, key, nil)
	if err != nil {
		return nil, err
	}
	if err := h.dir.step("certify", func() error { return trust.Folder(h.dir.tls()).SaveHost(a.CA, a.Certificate, key) }); err != nil {
		return nil, err
	}
	if err := r.identity.Reload(); err != nil {
		return nil, err
	}
	r.ring()
	return &Joined{Mesh: st.Mesh, Name: st.Name, Addr: st.Listen.String(), Role: st.Role, Notes: append(a.Warnings, "it was in this mesh already, and has a new certificate")}, nil
}

// admitted gets a certificate for this host, and makes the folder with it.
func (h *Host) admitted(ctx context.Context, q JoinRequest) (*State, []string, error) {
	gate, err := gateAddress(q.Gate, h.cfg.Ports.Gate)
	if err != nil {
		return nil, nil, err
	}
	if _, err := trust.ParseToken(q.Token); err != nil {
		return nil, nil, err
	}
	var addr netip.Addr
	if q.Listen != "" {
		addr, err = h.ownAddress(q.Listen)
	} else if addr, err = sourceTo(ctx, gate); err == nil && addr.IsLoopback() {
		err = cnm.Invalid("%s is this host itself: name a host of the mesh, or say linkspan mesh init here", q.Gate)
	}
	if err != nil {
		return nil, nil, err
	}
	if ip, _, err := net.SplitHostPort(gate); err == nil && ip == addr.String() {
		return nil, nil, cnm.Invalid("%s is this host itself: name a host of the mesh, or say linkspan mesh init here", q.Gate)
	}
	name, err := h.name(q.Name)
	if err != nil {
		return nil, nil, err
	}
	if err := h.free(addr, h.cfg.Ports.hostPorts()); err != nil {
		return nil, nil, err
	}
	// What a try that was cut off has left is used again.
	s := h.dir.staging()
	st, err := s.load()
	f := trust.Folder(s.tls())
	key, kerr := f.Key()
	if err != nil || st == nil || st.Phase != PhaseJoining || kerr != nil {
		if kerr != nil && !errors.Is(kerr, cnm.ErrNotFound) && !errors.Is(kerr, fs.ErrNotExist) {
			h.log.Warn("a join that was cut off begins anew", "err", kerr)
		}
		if s, err = h.dir.fresh(); err != nil {
			return nil, nil, err
		}
		if key, err = trust.NewKey(); err != nil {
			return nil, nil, err
		}
		st = &State{Phase: PhaseJoining, Host: mesh.NewID(), Role: RoleClient}
		if err := s.step("key", func() error { return f.SaveKey(key) }); err != nil {
			return nil, nil, err
		}
		if err := s.save(st); err != nil {
			return nil, nil, err
		}
	}
	st.Name, st.Listen, st.Ports = name, addr, h.cfg.Ports
	a, err := trust.Join(ctx, gate, q.Token, trust.Request{ID: st.Host, Name: name, Addr: addr, Version: h.cfg.Version}, key, nil)
	if err != nil {
		return nil, nil, err
	}
	var set settings
	if json.Unmarshal(a.Settings, &set) == nil {
		st.Voters = set.Voters
		if err := h.samePorts(set.Ports, st.Ports); err != nil {
			return nil, nil, err
		}
	}
	st.Mesh, st.Endpoints, st.Gates = a.CA.Mesh(), a.Endpoints, a.Gates
	if len(st.Gates) == 0 {
		st.Gates = []string{gate}
	}
	if err := s.step("certify", func() error { return errors.Join(f.SaveCA(a.CA), f.SaveHost(a.CA, a.Certificate, key)) }); err != nil {
		return nil, nil, err
	}
	if err := s.save(st); err != nil {
		return nil, nil, err
	}
	return st, a.Warnings, h.dir.take()
}

// samePorts refuses a host whose tunnels and probes would come to other ports.
func (h *Host) samePorts(theirs, ours Ports) error {
	for _, x := range []struct {
		name         string
		theirs, ours uint16
	}{{"vxlan", theirs.VXLAN, ours.VXLAN}, {"vxlan-secure", theirs.Secure, ours.Secure}, {"wireguard", theirs.Encryption, ours.Encryption}, {"check", theirs.Check, ours.Check}} {
		if x.theirs != 0 && x.theirs != x.ours {
			return cnm.Conflict("the mesh uses port %d for %s, and this daemon %d: start it with --mesh-port %s=%d (or \"mesh-ports\" in its file), then join again with the same token", x.theirs, x.name, x.ours, x.name, x.theirs)
		}
	}
	return nil
}

func (r *running) isFenced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fenced
}
