package host

import (
	"context"
	"strings"

	"linkspan/cnm"
)

// reconcileExternal brings what the folder says and what --mesh says together.
func (h *Host) reconcileExternal(st *State) (*State, error) {
	x := h.cfg.External
	switch {
	case x == nil && st != nil && st.external():
		h.note = "the daemon runs without --mesh, and this host is still in the mesh of the etcd at " + strings.Join(st.Endpoints, ", ") + ": start it with --mesh again, or give back what it holds there with linkspan mesh leave"
		h.log.Warn("mesh: " + h.note)
		return st, nil
	case x == nil:
		return st, nil
	case st != nil && !st.external():
		return nil, cnm.Conflict("--mesh names an etcd cluster that exists already, and this host is in mesh %s, which it has made or joined; a host is in one mesh only: start the daemon without --mesh, or without it say linkspan mesh leave first", st.Mesh)
	}
	name, err := h.name(x.Name)
	if err != nil {
		return nil, err
	}
	addr := x.Listen
	if !addr.IsValid() {
		// Without a route to it, that which it was before, or the next try finds it.
		if addr, err = sourceTo(context.Background(), x.Endpoints[0]); err != nil && st != nil {
			addr, err = st.Listen, nil
		}
		if err != nil {
			return nil, err
		}
		if addr.IsLoopback() {
			if st == nil {
				return nil, cnm.Invalid("--mesh %s is on this host itself, and by which address the other hosts reach it is not known: name it with --mesh-listen", x.Endpoints[0])
			}
			addr = st.Listen
		}
	} else if !h.has(addr) {
		return nil, cnm.Invalid("--mesh-listen %s is not an address of this host", addr)
	}
	if x.CA == "" {
		h.log.Warn("mesh: etcd is spoken to without TLS: whoever reaches its port changes every network of the mesh; name certificates with --mesh-ca, --mesh-cert and --mesh-key", "endpoints", x.Endpoints)
	}
	if st == nil {
		s, err := h.dir.fresh()
		if err != nil {
			return nil, err
		}
		st = &State{Phase: PhaseJoining, Host: newID(), Name: name, Listen: addr, Role: RoleExternal, Ports: h.cfg.Ports, Endpoints: x.Endpoints, CA: x.CA, Cert: x.Cert, Key: x.Key, User: x.User, PasswordFile: x.PasswordFile}
		if err := s.save(st); err != nil {
			return nil, err
		}
		return st, h.dir.take()
	}
	next := st.clone()
	next.Endpoints, next.Ports = x.Endpoints, h.cfg.Ports
	next.CA, next.Cert, next.Key = x.CA, x.Cert, x.Key
	next.User, next.PasswordFile = x.User, x.PasswordFile
	if x.Name != "" && x.Name != st.Name {
		return nil, cnm.Conflict("--mesh-name %s: this host is %s in the mesh, and keeps its name: linkspan mesh leave --force without --mesh gives it up", x.Name, st.Name)
	}
	if addr != st.Listen && st.Phase == PhaseJoined {
		return nil, cnm.Conflict("--mesh-listen %s: this host is at %s in the mesh, and the others reach it there: give it that address, or leave without --mesh (linkspan mesh leave --force) and start with it again", addr, st.Listen)
	}
	next.Listen = addr
	return next, h.dir.save(next)
}
