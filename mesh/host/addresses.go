package host

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"linkspan/store/etcd/server"
)

// members has the store ask those who are etcd's members now.
func (r *running) members(ctx context.Context) error {
	return r.withMembers(ctx, r.store.Endpoints(), func(_ *server.Cluster, ms []server.Member) error {
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
	})
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
