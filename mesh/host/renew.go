package host

import (
	"context"
	"net"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/mesh/trust"
)

// revocations is how often members list certificates that count no more.
const revocations = time.Minute

// renew keeps this host's certificate good, and at members the list of those that are not.
func (r *running) renew(ctx context.Context) {
	h := r.h
	trust.Folder(h.dir.tls()).Tidy()
	r.work.Go(func() {
		renewer := trust.Renewer{Identity: r.identity, Log: h.log, Renew: func(ctx context.Context) (*trust.Answer, error) {
			st, now := h.current()
			if now != r || st == nil || st.Phase != PhaseJoined {
				return nil, cnm.Errorf(cnm.ErrUnavailable, "this host is not in the mesh yet")
			}
			return nil, r.renewNow(ctx, st)
		}}
		renewer.Run(ctx)
	})
	tick := time.NewTicker(revocations)
	defer tick.Stop()
	for {
		st, now := h.current()
		if now == r && st != nil && st.Phase == PhaseJoined && st.Role == RoleMember {
			if err := r.revoke(ctx); err != nil && ctx.Err() == nil {
				h.log.Debug("certificates that count no more are not listed anew", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renewNow gets a new certificate at a gate, and keeps it.
func (r *running) renewNow(ctx context.Context, st *State) error {
	gates := st.Gates
	if st.Role == RoleMember {
		gates = append([]string{port(st.Listen, st.Ports.Gate)}, gates...)
	}
	err := r.h.dir.step("renew", func() error {
		_, err := r.identity.Renew(ctx, gates, nil)
		return err
	})
	r.mu.Lock()
	r.renewErr = err
	r.mu.Unlock()
	return err
}

// fetchCA gets the CA's key from another member: this host is to become one.
func (r *running) fetchCA(ctx context.Context, st *State) error {
	f := trust.Folder(r.h.dir.tls())
	if ca, err := f.CA(); err == nil && ca.CanSign() {
		return nil
	}
	own := port(st.Listen, st.Ports.Gate)
	var gates []string
	for _, g := range append(st.Gates, r.gates(st)...) {
		if g != own {
			gates = append(gates, g)
		}
	}
	ca, err := r.identity.Authority(ctx, gates, nil)
	if err != nil {
		return err
	}
	return r.h.dir.step("authority", func() error { return f.SaveCA(ca) })
}

// revoke lists the certificates of hosts that the mesh does not know any more. One that
// has joined a moment ago may not have its record yet.
func (r *running) revoke(ctx context.Context) error {
	f := trust.Folder(r.h.dir.tls())
	ca, err := f.CA()
	if err != nil || !ca.CanSign() {
		return err
	}
	hosts, err := records(ctx, r.store)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, o := range hosts {
		known[o.ID] = true
	}
	tokens, err := trust.Tokens{Store: r.store}.List(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if time.Since(t.Used) < time.Hour {
			known[t.Host] = true
		}
	}
	list, err := trust.Revoked(ctx, r.store, ca, func(id string) bool { return known[id] }, time.Now())
	if err != nil {
		return err
	}
	return r.h.dir.step("revoked", func() error { return f.SaveRevoked(list) })
}

func addrPort(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

// hostOf is the host in a URL or in HOST:PORT.
func hostOf(s string) string {
	if at := hostPort(s); at != "" {
		s = at
	}
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		return s
	}
	return host
}
