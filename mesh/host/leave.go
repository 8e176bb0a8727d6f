package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/etcd/server"
)

// Leave takes this host out of its mesh: first from what the others know, then from its
// own folder. Cut off, it goes on at the next start.
func (h *Host) Leave(ctx context.Context, force bool) (*Done, error) {
	done, err := h.change(ctx, "mesh leave")
	if err != nil {
		return nil, err
	}
	defer done()
	h.mu.Lock()
	st, r, broken := h.state, h.running, h.broken
	h.mu.Unlock()
	if broken != nil && force {
		// What cannot be read cannot be given back: only this host forgets.
		if err := errors.Join(h.forgetCache(ctx), h.dir.remove()); err != nil {
			return nil, err
		}
		h.mu.Lock()
		h.state, h.broken = nil, nil
		h.mu.Unlock()
		return &Done{Did: "this host's part in a mesh is removed", Notes: []string{"at a host of that mesh, say linkspan mesh forget " + h.cfg.Hostname}}, nil
	}
	if st == nil || r == nil {
		if _, _, err := h.in("mesh leave"); err != nil {
			return nil, err
		}
	}
	if h.cfg.External != nil {
		return nil, cnm.Conflict("mesh leave: the daemon's --mesh says that this host is in the mesh of %s: stop the daemon, take --mesh away, and start it; then linkspan mesh leave gives back what this host held", strings.Join(st.Endpoints, ", "))
	}
	if busy := h.busy(); len(busy) > 0 && !force && st.Phase != PhaseLeaving {
		return nil, cnm.Conflict("mesh leave: %s on networks of the mesh: stop %s, or take %s off (linkspan network disconnect NETWORK %s); --force leaves all the same, and cuts %s off",
			areOn(busy), themWord(busy), themWord(busy), busy[0], themWord(busy))
	}
	notes, err := h.leave(ctx, st, r, force)
	if err != nil {
		return nil, err
	}
	if err := h.giveUp(ctx, r); err != nil {
		return nil, err
	}
	return &Done{Did: "this host has left mesh " + st.Mesh, Notes: notes}, nil
}

func (h *Host) busy() []string {
	if h.cfg.Busy == nil {
		return nil
	}
	return h.cfg.Busy()
}

func areOn(names []string) string {
	switch n := len(names); {
	case n == 1:
		return "container " + names[0] + " is"
	case n > 4:
		return fmt.Sprintf("containers %s and %d more are", strings.Join(names[:3], ", "), n-3)
	}
	return "containers " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are"
}

func themWord(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "them"
}

// leave tells the others. The caller has the turn to change; notes are for the person.
func (h *Host) leave(ctx context.Context, st *State, r *running, force bool) (notes []string, err error) {
	ctx, cancel := within(ctx, steps, "it took too long")
	defer cancel()
	if st.Phase == PhaseInit || st.Phase == PhaseJoining || r.mesh == nil {
		return nil, nil // the others know nothing of it, or not more than the name
	}
	if r.forgotten() {
		return nil, nil // the others know it no more
	}
	others, err := h.askOthers(ctx, st, r, force)
	if err != nil && !force {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh leave: the others cannot be told: %w; wait until they can, or leave with --force, and say linkspan mesh forget %s at one of them", err, st.Name)
	}
	if err != nil {
		r.mu.Lock()
		r.unheard = true
		r.mu.Unlock()
		return []string{"the others could not be told: say linkspan mesh forget " + st.Name + " at one of them"}, nil
	}
	if len(others) == 0 {
		return []string{"it was the last host: the mesh is no more"}, nil
	}
	if last, err := r.lastVoter(ctx, st); err != nil && !force {
		return nil, err
	} else if last && !force {
		return nil, cnm.Conflict("mesh leave: this host is the last that runs etcd, and %s left: say linkspan mesh promote %s first, or --force, which ends the mesh for them too", areLeft(others), others[0])
	} else if last {
		return []string{"the mesh of " + strings.Join(others, ", ") + " has no etcd any more: what runs there goes on; linkspan mesh restore makes it again from a backup"}, nil
	}
	if st.Phase != PhaseLeaving {
		next := st.clone()
		next.Phase = PhaseLeaving
		if err := h.put(next); err != nil {
			return nil, err
		}
	}
	if err = r.mesh.Leave(ctx); err != nil && r.forgotten() {
		err = nil // a try that was cut off had come so far
	}
	if err == nil && st.Role == RoleMember {
		err = r.resign(ctx, st)
	}
	if err != nil && force {
		return []string{"the others could not be told all: say linkspan mesh forget " + st.Name + " at one of them"}, nil
	}
	return nil, err
}

// forgotten says that the others have no record of this host any more.
func (r *running) forgotten() bool { return r.isFenced() || r.mesh.Status().Fenced != "" }

func areLeft(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return fmt.Sprintf("%d hosts are", len(names))
}

// hasty is how long it is tried to tell the others with --force: long enough where anybody
// answers. justNow is for how long after its start a member may have no leader yet.
const (
	hasty   = time.Second
	justNow = 5 * time.Second
)

// askOthers waits for this member's etcd, which right after a start may not run yet, and
// asks it, or another one.
func (h *Host) askOthers(ctx context.Context, st *State, r *running, force bool) ([]string, error) {
	patience := 10 * time.Second
	if s := r.serving(); force && (st.Role != RoleMember || s != nil && time.Since(s.Status().Since) > justNow) {
		patience = hasty
	} else if force {
		patience = 3 * time.Second
	}
	waiting, end := within(ctx, patience, "no answer")
	defer end()
	if st.Role == RoleMember {
		if err := r.serve(ctx, st); err == nil {
			_ = r.serving().Wait(waiting)
		}
	}
	if force {
		ctx = waiting
	}
	return h.others(ctx, st, r)
}

// others are the names of all other hosts, as the store has them now.
func (h *Host) others(ctx context.Context, st *State, r *running) ([]string, error) {
	ctx, cancel := within(ctx, 5*time.Second, "no answer")
	defer cancel()
	hosts, err := records(ctx, r.store)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range hosts {
		if o.ID != st.Host {
			out = append(out, o.Name)
		}
	}
	return out, nil
}

// lastVoter says whether etcd would have no member without this host.
func (r *running) lastVoter(ctx context.Context, st *State) (bool, error) {
	if st.Role != RoleMember || st.Learner {
		return false, nil
	}
	voters := 0
	err := r.withMembers(ctx, r.store.Endpoints(), func(_ *server.Cluster, ms []server.Member) error {
		for _, m := range ms {
			if !m.Learner {
				voters++
			}
		}
		return nil
	})
	return voters == 1, err
}

// gone ends a leave that was cut off: the others have been told.
func (h *Host) gone(r *running) {
	h.changing <- struct{}{}
	defer func() { <-h.changing }()
	h.mu.Lock()
	still := h.running == r && !h.closed
	h.mu.Unlock()
	if !still {
		return
	}
	if err := h.giveUp(context.WithoutCancel(r.ctx), r); err != nil {
		h.log.Error("this host has left its mesh, and something is left here", "err", err)
		return
	}
	h.log.Info("this host has left its mesh")
}

// giveUp makes this host one in no mesh. The caller has the turn to change.
func (h *Host) giveUp(ctx context.Context, r *running) error {
	h.mu.Lock()
	attached := h.running != nil && h.running.mesh != nil
	h.running = nil
	h.mu.Unlock()
	if attached && h.cfg.Attach != nil {
		if err := h.cfg.Attach(ctx, nil); err != nil {
			h.log.Error("networks of the mesh that this host has left are not all taken away", "err", err)
		}
	}
	err := r.close()
	if err != nil {
		h.log.Warn("what ran for the mesh has ended with an error", "err", err)
	}
	// The cache first: after the folder nobody would know whose it is.
	if err := h.forgetCache(ctx); err != nil {
		return err
	}
	if err := h.dir.remove(); err != nil {
		return err
	}
	h.mu.Lock()
	h.state, h.broken = nil, nil
	h.mu.Unlock()
	return nil
}

// forgetCache removes what package mesh has kept of the mesh in this host's own store.
func (h *Host) forgetCache(ctx context.Context) error {
	if h.cfg.Local == nil {
		return nil
	}
	entries, _, err := h.cfg.Local.List(ctx, "mesh/")
	if err != nil || len(entries) == 0 {
		return err
	}
	var ops []store.Op
	for _, e := range entries {
		ops = append(ops, store.Op{Key: e.Key})
	}
	_, err = h.cfg.Local.Commit(ctx, ops...)
	return err
}
