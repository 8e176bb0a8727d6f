package host

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
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
				level := slog.LevelWarn
				if errors.Is(err, errOneByOne) {
					level = slog.LevelInfo
				}
				r.h.log.Log(ctx, level, "mesh: "+err.Error())
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
		if _, err := r.h.leave(ctx, st, r, false); err != nil {
			return err
		}
		go r.h.gone(r) // it waits for the end of what calls this
		return nil
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
