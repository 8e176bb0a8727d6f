package host

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
	"linkspan/store"
)

// gate is the one of this member, where hosts join and renew.
type gate struct {
	stop context.CancelFunc
	done chan struct{}
}

func (g *gate) Close() {
	g.stop()
	<-g.done
}

// settings are those of the mesh that a host learns when it joins.
type settings struct {
	Ports  Ports `json:"ports"`
	Voters int   `json:"voters,omitempty"`
}

// openGate opens this member's, unless it is open.
func (r *running) openGate(st *State) error {
	r.mu.Lock()
	have := r.gate
	r.mu.Unlock()
	if have != nil {
		return nil
	}
	err := r.listen(st)
	r.mu.Lock()
	r.gateErr = err
	r.mu.Unlock()
	return err
}

func (r *running) listen(st *State) error {
	h := r.h
	ca, err := trust.Folder(h.dir.tls()).CA()
	if err != nil {
		return err
	}
	if !ca.CanSign() {
		return r.fetchCA(r.ctx, st)
	}
	at := port(st.Listen, st.Ports.Gate)
	l, err := net.Listen("tcp", at)
	if err != nil {
		if taken := h.free(st.Listen, st.Ports.memberPorts()[:1]); taken != nil {
			return taken
		}
		return cnm.Errorf(cnm.ErrUnavailable, "hosts cannot join here: %w", err)
	}
	tg := &trust.Gate{CA: ca, Identity: r.identity, Store: r.store, Admit: r.admit, Log: h.log,
		Place: func(context.Context) (trust.Place, error) {
			st, _ := h.current()
			if st == nil {
				return trust.Place{}, cnm.Errorf(cnm.ErrUnavailable, "this host is leaving the mesh")
			}
			b, err := json.Marshal(settings{st.Ports, st.Voters})
			return trust.Place{Endpoints: r.store.Endpoints(), Gates: r.gates(st), Settings: b}, err
		},
		Host: r.known,
	}
	ctx, stop := context.WithCancel(r.ctx)
	g := &gate{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		if err := tg.Serve(ctx, l); err != nil && ctx.Err() == nil {
			h.log.Error("hosts cannot join here any more", "err", err)
		}
	}()
	r.mu.Lock()
	r.gate = g
	r.mu.Unlock()
	return nil
}

// admit says whether a host of that name and address can join, before its token is used
// up. The truth is written by its enrolment.
func (r *running) admit(ctx context.Context, q trust.Request) ([]store.Op, error) {
	hosts, err := records(ctx, r.store)
	if err != nil {
		return nil, err
	}
	for _, o := range hosts {
		alive := ""
		if _, ok, err := r.store.Get(ctx, "alive/"+o.ID); err == nil {
			alive = map[bool]string{true: ", and is there now", false: ", and is not there now"}[ok]
		}
		switch {
		case o.ID == q.ID && o.Name == q.Name && o.Addr == q.Addr:
			return nil, nil // it asks again
		case o.ID == q.ID:
			return nil, cnm.Conflict("host %s at %s has the id %s in the mesh, and asks as %s at %s: say linkspan mesh forget %s at a host of the mesh, then join again", o.Name, o.Addr, o.ID, q.Name, q.Addr, o.Name)
		case strings.EqualFold(o.Name, q.Name):
			return nil, cnm.Conflict("the name %s is taken in the mesh by the host at %s, which joined on %s%s: join with --name ANOTHER, or, if that host is no more, say linkspan mesh forget %s at a host of the mesh",
				q.Name, o.Addr, o.Joined.Format(time.DateOnly), alive, o.Name)
		case o.Addr == q.Addr:
			return nil, cnm.Conflict("the address %s is that of host %s in the mesh%s: name another one of this host with --listen, or, if that host is no more, say linkspan mesh forget %s at a host of the mesh",
				q.Addr, o.Name, alive, o.Name)
		}
	}
	return nil, nil
}

// known is the record of a host that shows its certificate.
func (r *running) known(ctx context.Context, id string) (trust.Host, error) {
	hosts, err := records(ctx, r.store)
	if err != nil {
		return trust.Host{}, err
	}
	for _, o := range hosts {
		if o.ID == id {
			return trust.Host{Name: o.Name, Addr: o.Addr, Member: Role(o.Role) == RoleMember}, nil
		}
	}
	return trust.Host{}, cnm.NotFound("the mesh has no host %s", id)
}

// records are all hosts', by name.
func records(ctx context.Context, st store.Store) ([]mesh.Host, error) {
	entries, _, err := st.List(ctx, "hosts/")
	if err != nil {
		return nil, err
	}
	var out []mesh.Host
	for _, e := range entries {
		var o mesh.Host
		if json.Unmarshal(e.Value, &o) == nil {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Host) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// The words of people about etcd's members, in the common store.
const (
	votersKey  = "wish/voters"  // how many there shall be
	clientKeys = "wish/client/" // <host>: not this one
)

func (r *running) wishVoters(ctx context.Context, n int) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = r.store.Commit(ctx, store.Op{Key: votersKey, Value: b, Guard: true})
	if errors.Is(err, store.ErrCompare) {
		return nil
	}
	return err
}

// grow has more hosts run etcd when there are enough of them: an odd number, and not more
// than are wished. It is asked when a host has joined; what it returns are those hosts.
func (r *running) grow(ctx context.Context) (promoted []string, err error) {
	e, ok, err := r.store.Get(ctx, votersKey)
	if err != nil || !ok {
		return nil, err
	}
	var wished int
	if err := json.Unmarshal(e.Value, &wished); err != nil {
		return nil, nil // by a newer Linkspan
	}
	hosts, err := records(ctx, r.store)
	if err != nil {
		return nil, err
	}
	no, _, err := r.store.List(ctx, clientKeys)
	if err != nil {
		return nil, err
	}
	refused := map[string]bool{}
	for _, e := range no {
		refused[strings.TrimPrefix(e.Key, clientKeys)] = true
	}
	for _, o := range toPromote(hosts, refused, wished) {
		if _, ok, err := r.store.Get(ctx, "alive/"+o.ID); (err != nil || !ok) && o.ID != r.h.id() {
			continue
		}
		if err := r.mesh.SetRole(ctx, o.ID, string(RoleMember)); err != nil {
			return promoted, err
		}
		promoted = append(promoted, o.Name)
	}
	return promoted, nil
}

// toPromote are those who joined first, so many that an odd number runs etcd.
func toPromote(hosts []mesh.Host, refused map[string]bool, wished int) []mesh.Host {
	var can []mesh.Host
	members := 0
	for _, o := range hosts {
		switch {
		case Role(o.Role) == RoleMember:
			members++
		case !refused[o.ID]:
			can = append(can, o)
		}
	}
	want := min(wished, members+len(can))
	if want%2 == 0 {
		want--
	}
	if want <= members {
		return nil
	}
	slices.SortFunc(can, func(a, b mesh.Host) int {
		if c := a.Joined.Compare(b.Joined); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return can[:want-members]
}

func (h *Host) id() string {
	if st, _ := h.current(); st != nil {
		return st.Host
	}
	return ""
}
