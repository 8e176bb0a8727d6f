package host

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
)

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
	r.wake(ctx, st)
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

// wake waits, not for long, until the others see this host's sign of life.
func (r *running) wake(ctx context.Context, st *State) {
	for range 30 {
		if ok, err := r.lives(ctx, st.Host); ok || err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
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
