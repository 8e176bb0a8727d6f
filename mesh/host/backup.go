package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/mesh/trust"
	"linkspan/store"
	"linkspan/store/etcd/server"
)

func newID() string { return mesh.NewID() }

// Backup writes all that the mesh has in common. This member's own etcd gives it: a
// majority is not needed.
func (h *Host) Backup(ctx context.Context, w io.Writer) error {
	const what = "mesh backup"
	st, r, err := h.in(what)
	if err != nil {
		return err
	}
	if st.external() {
		return cnm.Conflict("mesh backup: the mesh of this host is in an etcd cluster that exists already: back that up (etcdctl snapshot save)")
	}
	r.mu.Lock()
	s := r.server
	r.mu.Unlock()
	if st.Role != RoleMember || st.Learner || s == nil {
		return cnm.Conflict("mesh backup: this host runs no etcd: say it at a member (%s), which has the key of the mesh's authority too", strings.Join(st.Endpoints, ", "))
	}
	ca, err := trust.Folder(h.dir.tls()).CA()
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	snap, n, err := h.snapshot(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		_ = snap.Close()
		_ = h.dir.step("snapshot.remove", func() error { return os.Remove(snap.Name()) })
	}()
	a := Archive{Format: archiveFormat, Mesh: st.Mesh, Created: time.Now().UTC().Truncate(time.Second), Host: st.Name, Revision: s.Status().Revision, Bytes: n,
		Endpoints: st.Endpoints, Ports: st.Ports, Voters: st.Voters, Hosts: 1}
	if r.mesh != nil {
		a.Hosts = len(r.mesh.Peers()) + 1
	}
	m, err := json.Marshal(a)
	if err != nil {
		return err
	}
	p := newPacker(w, a.Created)
	return errors.Join(p.addBytes(entryManifest, m), p.addBytes(entryCA, ca.PEM()), p.addBytes(entryCAKey, key), p.add(entryEtcd, n, snap), p.end())
}

// snapshot is a file of this member's database, to be removed. Its size has to be known
// before it is packed.
func (h *Host) snapshot(ctx context.Context, s *server.Server) (_ *os.File, n int64, err error) {
	f, err := os.CreateTemp(h.dir.path, snapshots)
	if err != nil {
		return nil, 0, h.dir.words(err)
	}
	err = h.dir.step("snapshot", func() error {
		err := s.Snapshot(ctx, f)
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if n, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, h.dir.words(err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, n, h.dir.words(err)
}

// Restore makes the mesh again from an archive, with this host as its only member.
func (h *Host) Restore(ctx context.Context, q RestoreRequest, archive io.Reader) (*Joined, error) {
	const what = "mesh restore"
	done, err := h.change(ctx, what)
	if err != nil {
		return nil, err
	}
	defer done()
	if h.cfg.External != nil {
		return nil, cnm.Conflict("mesh restore: the mesh of this host is in an etcd cluster that exists already: restore that one (etcdutl snapshot restore)")
	}
	st, r := h.current()
	if st != nil {
		if err := h.mayReplace(ctx, st, r); err != nil {
			return nil, err
		}
	}
	a, next, err := h.unpacked(ctx, q, st, archive)
	if err != nil {
		return nil, err
	}
	// From here on the old is given up.
	if r != nil {
		h.mu.Lock()
		attached := r.mesh != nil
		h.running = nil
		h.mu.Unlock()
		if attached && h.cfg.Attach != nil {
			if err := h.cfg.Attach(ctx, nil); err != nil {
				h.log.Error("networks of the mesh are not as they should be", "err", err)
			}
		}
		if err := r.close(); err != nil {
			h.log.Warn("what ran for the mesh has ended with an error", "err", err)
		}
	}
	if err := h.dir.words(h.dir.step("restore", func() error {
		if st == nil {
			return nil
		}
		if err := os.RemoveAll(h.dir.removal()); err != nil {
			return err
		}
		return os.Rename(h.dir.path, h.dir.removal())
	})); err != nil {
		return nil, err
	}
	if err := h.dir.take(); err != nil {
		return nil, err
	}
	if err := h.dir.sweep(); err != nil {
		h.log.Warn("what this host had of the mesh before is not removed", "err", err)
	}
	h.mu.Lock()
	h.broken = nil
	h.mu.Unlock()
	if r, err = h.start(ctx, next); err != nil {
		return nil, err
	}
	if err := h.through(ctx, r); err != nil {
		return nil, err
	}
	st, _ = h.current()
	j := &Joined{Mesh: st.Mesh, Name: st.Name, Addr: st.Listen.String(), Role: st.Role}
	j.Notes = append(j.Notes, fmt.Sprintf("the mesh is as it was at %s; what runs elsewhere and is newer comes back by itself", a.Created.Format("2006-01-02 15:04 MST")))
	if a.Hosts > 1 {
		j.Notes = append(j.Notes, "this is its only member now: linkspan mesh promote two more hosts; hosts that do not find it (linkspan mesh status there) leave with --force and join again")
	}
	return j, nil
}

// mayReplace refuses a restore onto a mesh that runs.
func (h *Host) mayReplace(ctx context.Context, st *State, r *running) error {
	if r == nil {
		return nil
	}
	short, cancel := within(ctx, 5*time.Second, "no answer")
	defer cancel()
	_, _, err := r.store.Get(short, "mesh")
	if err == nil {
		return cnm.Conflict("mesh restore: mesh %s runs, and a restore would undo what has happened in it since the backup: nothing is to be restored; to begin anew all the same, say linkspan mesh leave on every host first", st.Mesh)
	}
	return nil
}

// unpacked makes the staging folder of an archive: the CA, a certificate for this host,
// and etcd's data.
func (h *Host) unpacked(ctx context.Context, q RestoreRequest, st *State, archive io.Reader) (*Archive, *State, error) {
	s, err := h.dir.fresh()
	if err != nil {
		return nil, nil, err
	}
	snap := filepath.Join(s.path, "snapshot.db")
	var cert, key []byte
	bytesTo := func(to *[]byte) func(io.Reader) error {
		return func(r io.Reader) (err error) { *to, err = io.ReadAll(io.LimitReader(r, 1<<20)); return err }
	}
	a, err := unpack(archive, map[string]func(io.Reader) error{
		entryCA: bytesTo(&cert), entryCAKey: bytesTo(&key),
		entryEtcd: func(r io.Reader) error { return s.step("snapshot", func() error { return copyTo(snap, r) }) },
	})
	if err != nil {
		return nil, nil, err
	}
	ca, err := trust.ParseCA(bytes.TrimSpace(cert), key)
	if err != nil {
		return nil, nil, err
	}
	if st != nil && st.Mesh != a.Mesh {
		return nil, nil, cnm.Conflict("mesh restore: the backup is of mesh %s, and this host is in mesh %s; a host is in one mesh only: linkspan mesh leave first, or use the backup of this one", a.Mesh, st.Mesh)
	}
	next := &State{Host: newID(), Ports: h.cfg.Ports, Voters: a.Voters}
	if st != nil {
		next = st.clone()
		next.Self = mesh.Host{}
	}
	if q.Name != "" || st == nil {
		if next.Name, err = h.name(q.Name); err != nil {
			return nil, nil, err
		}
	}
	if q.Listen != "" || st == nil {
		if next.Listen, err = h.ownAddress(q.Listen); err != nil {
			return nil, nil, err
		}
	}
	if st == nil {
		if err := h.samePorts(a.Ports, next.Ports); err != nil {
			return nil, nil, err
		}
		if err := h.free(next.Listen, append(next.Ports.memberPorts(), next.Ports.hostPorts()...)); err != nil {
			return nil, nil, err
		}
	}
	next.Phase, next.Mesh, next.Role, next.Restored = PhaseInit, a.Mesh, RoleMember, true
	next.Learner, next.Cluster = false, ""
	next.Endpoints, next.Gates = []string{port(next.Listen, next.Ports.Etcd)}, []string{port(next.Listen, next.Ports.Gate)}
	if err := h.certify(s, ca, next, time.Now()); err != nil {
		return nil, nil, err
	}
	f := trust.Folder(s.tls())
	c := server.Config{Name: next.Name, Dir: s.etcd(), Client: addrPort(next.Listen, next.Ports.Etcd), Peer: addrPort(next.Listen, next.Ports.Peer),
		Cert: f.HostFile(), Key: f.HostFile(), CA: f.CAFile(), Token: next.Mesh, Log: h.log}
	if err := s.step("etcd.restore", func() error { return server.Restore(ctx, c, snap) }); err != nil {
		return nil, nil, err
	}
	if err := s.step("snapshot.remove", func() error { return os.Remove(snap) }); err != nil {
		return nil, nil, h.dir.words(err)
	}
	return a, next, s.save(next)
}

func copyTo(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// restored makes the records of a restored store fit: this host is its only member, and
// what others have that is newer, they put back. A host of this name that is in it is
// this one, on a new disk.
func (r *running) restored(ctx context.Context, st *State) (*State, error) {
	hosts, err := records(ctx, r.store)
	if err != nil {
		return nil, err
	}
	next := st.clone()
	for _, o := range hosts {
		if o.ID != st.Host && strings.EqualFold(o.Name, st.Name) {
			next.Host = o.ID
		}
	}
	if next.Host != st.Host {
		ca, err := trust.Folder(r.h.dir.tls()).CA()
		if err != nil {
			return nil, err
		}
		if err := r.h.certify(r.h.dir, ca, next, time.Now()); err != nil {
			return nil, err
		}
		if err := r.identity.Reload(); err != nil {
			return nil, err
		}
		if err := r.h.put(next); err != nil {
			return nil, err
		}
	}
	for _, o := range hosts {
		was := o
		switch {
		case o.ID == next.Host:
			o.Addr, o.Role = next.Listen, string(RoleMember)
		case Role(o.Role) == RoleMember:
			o.Role = string(RoleClient)
		}
		if o.Role == was.Role && o.Addr == was.Addr {
			continue
		}
		b, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		if _, err := r.store.Commit(ctx, store.Op{Key: "hosts/" + o.ID, Value: b}); err != nil {
			return nil, err
		}
	}
	if err := mesh.Restored(ctx, r.store); err != nil {
		return nil, err
	}
	return next, nil
}
