package host

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func (m *machine) backup() []byte {
	m.t.Helper()
	var b bytes.Buffer
	if err := m.host.Backup(m.t.Context(), &b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

// TestRestore: the majority is lost; the mesh is made again from a backup, on a host that
// is left, or on a new one.
func TestRestore(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b, c := newMachine(t, 1, nil), newMachine(t, 2, nil), newMachine(t, 3, nil)
	j := a.init(InitRequest{})
	b.join(a.token())
	c.join(a.token())
	eventually(t, time.Minute, "three run etcd", func() bool { return b.roleIs(RoleMember)() && c.roleIs(RoleMember)() })
	saved := a.backup()
	info, err := Inspect(bytes.NewReader(saved))
	if err != nil || info.Mesh != j.Mesh || info.Hosts != 3 || info.Host != "host1" || info.Revision == 0 {
		t.Fatalf("%+v %v", info, err)
	}
	if left, _ := os.ReadDir(a.host.dir.path); len(left) > 4 {
		t.Errorf("left of the backup: %v", left)
	}

	_, err = a.host.Restore(t.Context(), RestoreRequest{}, bytes.NewReader(saved))
	fails(t, err, cnm.ErrConflict, "mesh "+j.Mesh+" runs, and a restore would undo")
	x := newMachine(t, 4, nil)
	_, err = x.host.Restore(t.Context(), RestoreRequest{Listen: x.addr()}, bytes.NewReader(saved[:len(saved)-40]))
	fails(t, err, cnm.ErrInvalid, "no whole backup")
	_, err = x.host.Restore(t.Context(), RestoreRequest{}, bytes.NewReader(saved))
	fails(t, err, cnm.ErrInvalid, "--listen is missing")

	// Two of three are lost for good. The third makes the mesh again.
	b.close()
	c.close()
	k, err := a.host.Restore(t.Context(), RestoreRequest{}, bytes.NewReader(saved))
	if err != nil {
		t.Fatal(err)
	}
	if k.Mesh != j.Mesh || k.Name != "host1" || k.Role != RoleMember || !strings.Contains(strings.Join(k.Notes, "\n"), "promote two more hosts") {
		t.Errorf("%+v", k)
	}
	s := a.status()
	if !s.Etcd.Reachable || s.Etcd.Voters != 1 || len(s.Hosts) != 3 {
		t.Errorf("%+v %+v", s.Etcd, s.Hosts)
	}
	// One of the lost comes back: it is no member, or one again, without a hand.
	c.open()
	eventually(t, 90*time.Second, "host3 is of it again", func() bool {
		e := a.status().Etcd
		return c.status().Etcd.Reachable && (c.roleIs(RoleClient)() || c.roleIs(RoleMember)() && e.Voters == 2 && e.Answering == 2)
	})
	eventually(t, time.Minute, "host3 is alive", func() bool {
		for _, p := range a.host.Mesh().Peers() {
			if p.Name == "host3" {
				return p.Alive
			}
		}
		return false
	})
	if _, err := a.host.Promote(t.Context(), "host3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "host3 runs etcd again", c.roleIs(RoleMember))

	// All are lost. A new machine of the name takes the first one's place.
	saved = a.backup()
	was := a.host.id()
	a.close()
	c.close()
	n := newMachine(t, 1, nil)
	if k, err = n.host.Restore(t.Context(), RestoreRequest{Listen: n.addr()}, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if n.host.id() != was || k.Mesh != j.Mesh {
		t.Errorf("%+v: id %s, was %s", k, n.host.id(), was)
	}
	x.join(n.token())
	c.open()
	eventually(t, 90*time.Second, "host3 is of the new one's, whatever its record said", func() bool {
		e := n.status().Etcd
		return c.status().Etcd.Reachable && (c.roleIs(RoleClient)() || c.roleIs(RoleMember)() && e.Voters == 2 && e.Answering == 2)
	})
	_, err = n.host.Restore(t.Context(), RestoreRequest{}, bytes.NewReader(saved))
	fails(t, err, cnm.ErrConflict, "runs")
	_, err = x.host.Restore(t.Context(), RestoreRequest{}, bytes.NewReader(packed(t, Archive{Format: archiveFormat, Mesh: "other"}, "")))
	fails(t, err, nil)
	if err := x.host.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "this host runs no etcd: say it at a member (10.213.0.1:2379)") {
		t.Errorf("%v", err)
	}
}
