package host

import (
	"context"
	"time"

	"linkspan/cnm"
	"linkspan/mesh/trust"
)

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
