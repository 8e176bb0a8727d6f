package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh/trust"
)

// TestBadInput: what is wrong is said, with the object, the reason and the cure, and
// leaves nothing behind.
func TestBadInput(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b := newMachine(t, 1, nil), newMachine(t, 2, nil)
	ctx := t.Context()

	// Before there is a mesh.
	_, err := b.host.CreateToken(ctx, 0)
	fails(t, err, cnm.ErrConflict, "this host is in no mesh", "linkspan mesh init --listen ADDRESS", "linkspan mesh join HOST:2380")
	_, err = b.host.Leave(ctx, false)
	fails(t, err, cnm.ErrConflict, "mesh leave: this host is in no mesh")
	fails(t, b.host.Backup(ctx, nil), cnm.ErrConflict, "this host is in no mesh")
	for want, q := range map[string]InitRequest{
		"--listen is missing: name this host's own address":      {},
		"--listen 192.0.2.1 is not an address of this host":      {Listen: "192.0.2.1"},
		"--members 2: 1, 3 or 5 hosts run etcd; an even number":  {Listen: "10.213.0.1", Voters: 2},
		`"-x" is no name for a host`:                             {Listen: "10.213.0.1", Name: "-x"},
		"--ttl 1s: a token is good for a minute at least and 30": {Listen: "10.213.0.1", TTL: time.Second},
	} {
		_, err := a.host.Init(ctx, q)
		fails(t, err, cnm.ErrInvalid, want)
	}

	// Ports that others hold.
	for proto, p := range map[string]uint16{"tcp 2379 etcd's clients": 2379, "tcp 2380 hosts that join": 2380, "tcp 2381 etcd's members": 2381, "udp 4789 VXLAN": 4789} {
		f := strings.SplitN(proto, " ", 3)
		var holder interface{ Close() error }
		if f[0] == "tcp" {
			holder, err = net.Listen("tcp", fmt.Sprintf("10.213.0.1:%d", p))
		} else {
			holder, err = net.ListenPacket("udp", fmt.Sprintf("0.0.0.0:%d", p))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.host.Init(ctx, InitRequest{Listen: a.addr()})
		fails(t, err, cnm.ErrConflict, fmt.Sprintf("%s port %d, which the mesh needs for %s, is held by", strings.ToUpper(f[0]), p, f[2]), fmt.Sprintf("(pid %d)", os.Getpid()), "--mesh-port ")
		holder.Close()
	}
	if left, _ := os.ReadDir(a.root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	a.init(InitRequest{Voters: 1})
	good := a.token()
	join := func(q JoinRequest) error {
		if q.Gate == "" {
			q.Gate = good.Gate
		}
		if q.Listen == "" {
			q.Listen = b.addr()
		}
		_, err := b.host.Join(ctx, q)
		return err
	}
	// Tokens.
	fails(t, join(JoinRequest{}), cnm.ErrInvalid, "there is no token", "linkspan mesh token")
	fails(t, join(JoinRequest{Token: "hello"}), cnm.ErrInvalid, "this is no token")
	fails(t, join(JoinRequest{Token: good.Token[:40]}), cnm.ErrInvalid, "the token has 40 characters")
	swapped := "a"
	if good.Token[30] == 'a' {
		swapped = "b"
	}
	fails(t, join(JoinRequest{Token: good.Token[:30] + swapped + good.Token[31:]}), cnm.ErrInvalid, "the token is mistyped")
	gone := a.token()
	if _, err := a.host.RevokeToken(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	fails(t, join(JoinRequest{Token: gone.Token}), cnm.ErrForbidden, "token "+gone.ID+" was revoked", "linkspan mesh token")
	_, err = a.host.RevokeToken(ctx, "nope")
	fails(t, err, cnm.ErrNotFound, "the mesh has none of this id", "linkspan mesh token ls")
	_, err = a.host.CreateToken(ctx, time.Second)
	fails(t, err, cnm.ErrInvalid, "a minute at least")

	// Gates.
	fails(t, join(JoinRequest{Token: good.Token, Gate: "10.213.0.9:2380"}), cnm.ErrUnavailable, "10.213.0.9:2380")
	fails(t, join(JoinRequest{Token: good.Token, Gate: "10.213.0.3:2380"}), cnm.ErrUnavailable, "nothing listens at 10.213.0.3:2380", "is the daemon there and TCP port 2380 open?")
	fails(t, join(JoinRequest{Token: good.Token, Gate: "no.such.host.invalid"}), cnm.ErrNotFound, "no.such.host.invalid")
	fails(t, join(JoinRequest{Token: good.Token, Gate: "10.213.0.1:x"}), cnm.ErrInvalid, "is no host of a mesh")
	fails(t, join(JoinRequest{Token: good.Token, Gate: "10.213.0.1:2379"}), nil, "10.213.0.1:2379")
	fails(t, join(JoinRequest{Token: good.Token, Gate: "10.213.0.2"}), cnm.ErrInvalid, "10.213.0.2 is this host itself", "linkspan mesh init")
	fails(t, join(JoinRequest{Token: good.Token, Listen: "192.0.2.9"}), cnm.ErrInvalid, "not an address of this host")

	// Another mesh's token, and another mesh's gate.
	c := newMachine(t, 3, nil)
	c.init(InitRequest{Voters: 1})
	fails(t, join(JoinRequest{Token: c.token().Token}), cnm.ErrForbidden, "the host at 10.213.0.1:2380 is not of the mesh that the token is for", "nothing was sent to it")

	// Names and addresses that are taken.
	fails(t, join(JoinRequest{Token: good.Token, Name: "HOST1"}), cnm.ErrConflict, "the name HOST1 is taken in the mesh by the host at 10.213.0.1", "is there now", "--name ANOTHER", "linkspan mesh forget host1")
	d := newMachine(t, 1, func(c *Config) { c.Ports = Ports{Gate: 3380, Etcd: 3379, Peer: 3381}; c.Hostname = "other" })
	_, err = d.host.Join(ctx, JoinRequest{Gate: "10.213.0.3", Token: c.token().Token, Listen: "10.213.0.3"})
	fails(t, err, cnm.ErrInvalid, "is this host itself")

	// After all that the token is still good, and then it is used.
	if err := join(JoinRequest{Token: good.Token}); err != nil {
		t.Fatal(err)
	}
	e := newMachine(t, 4, nil)
	_, err = e.host.Join(ctx, JoinRequest{Gate: good.Gate, Token: good.Token, Listen: e.addr()})
	fails(t, err, cnm.ErrForbidden, "token "+good.ID+" was used by host host2", "a token lets one host in")
	_, err = b.host.RevokeToken(ctx, good.ID)
	fails(t, err, cnm.ErrConflict, "host host2 joined with it", "linkspan mesh forget host2")

	// Other ports than the mesh's.
	f := newMachine(t, 4, func(c *Config) { c.Ports = Ports{VXLAN: 8472} })
	l := a.token()
	_, err = f.host.Join(ctx, JoinRequest{Gate: l.Gate, Token: l.Token, Listen: f.addr()})
	fails(t, err, cnm.ErrConflict, "the mesh uses port 4789 for vxlan, and this daemon 8472", "--mesh-port vxlan=4789", "the same token")
	f.close()
	f.cfg = nil
	f.open()
	f.join(l) // the same token
	if _, err := f.host.Join(ctx, JoinRequest{Gate: l.Gate, Token: a.token().Token}); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "a host is in one mesh only") {
		t.Errorf("%v", err)
	}
	// Containers are on networks of the mesh.
	f.close()
	f.cfg = func(c *Config) { c.Busy = func() []string { return []string{"c1", "c2"} } }
	f.open()
	_, err = f.host.Leave(ctx, false)
	fails(t, err, cnm.ErrConflict, "containers c1 and c2 are on networks of the mesh: stop them", "--force")
	if _, err := f.host.Leave(ctx, true); err != nil {
		t.Error(err)
	}
}

// TestClocks: hosts whose clocks are far apart.
func TestClocks(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, nil)
	a.init(InitRequest{Voters: 1})
	l := a.token()
	key, err := trust.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	_, err = trust.Join(t.Context(), l.Gate, l.Token, trust.Request{ID: "x", Name: "late", Addr: a.host.state.Listen.Next()}, key, func() time.Time { return time.Now().Add(-time.Hour) })
	fails(t, err, cnm.ErrConflict, "the clock of late", "behind that of host1", "chrony")
}

// TestDamaged: a folder that cannot be read does not keep the daemon from starting; it is
// said, and can be given up.
func TestDamaged(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, nil)
	a.init(InitRequest{Voters: 1})
	path := a.host.dir.config()
	a.close()
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.open()
	s := a.status()
	if len(s.Words) != 1 || !strings.Contains(s.Words[0], path+" is damaged") {
		t.Errorf("%q", s.Words)
	}
	_, err := a.host.Init(t.Context(), InitRequest{Listen: a.addr()})
	fails(t, err, cnm.ErrInvalid, "is damaged")
	if _, err := a.host.Leave(t.Context(), false); err == nil {
		t.Error("a damaged folder is given up without --force")
	}
	if _, err := a.host.Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a.init(InitRequest{Voters: 1})
}

// TestExpired: a host that was off until its certificate had ended comes back with a token.
func TestExpired(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b := newMachine(t, 1, nil), newMachine(t, 2, nil)
	a.init(InitRequest{Voters: 1})
	b.join(a.token())
	b.close()
	f := trust.Folder(b.host2dir())
	ca, err := trust.Folder(a.host.dir.tls()).CA()
	if err != nil {
		t.Fatal(err)
	}
	key, _ := trust.NewKey()
	st, _ := folder{path: Folder(b.root)}.load()
	leaf, err := ca.Issue(trust.Subject{ID: st.Host, Name: st.Name, Addr: st.Listen}, key.Public(), time.Now().Add(-91*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SaveHost(ca, leaf, key); err != nil {
		t.Fatal(err)
	}
	b.open()
	s := b.status()
	if all := strings.Join(s.Words, "\n"); !strings.Contains(all, "the certificate of host host2 expired on") || !strings.Contains(all, "`linkspan mesh join` with that token") {
		t.Errorf("%s", all)
	}
	c := newMachine(t, 3, nil)
	c.init(InitRequest{Voters: 1})
	_, err = b.host.Join(t.Context(), JoinRequest{Gate: "10.213.0.1", Token: c.token().Token})
	fails(t, err, cnm.ErrConflict, "the token is of another mesh")
	j := b.join(a.token())
	if !strings.Contains(strings.Join(j.Notes, ""), "has a new certificate") {
		t.Errorf("%+v", j)
	}
	eventually(t, time.Minute, "host2 is well", func() bool { s := b.status(); return s.Etcd.Reachable && len(s.Words) == 0 })
}

func (m *machine) host2dir() string { return folder{path: Folder(m.root)}.tls() }

// TestSlow: an init whose context ends goes on, and can be said again.
func TestCutOff(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := a.host.Init(ctx, InitRequest{Listen: a.addr(), Voters: 1})
	if err == nil {
		return // faster than its end
	}
	j := a.init(InitRequest{Voters: 1})
	if j.Join == nil || j.Role != RoleMember {
		t.Errorf("%+v", j)
	}
}

// TestLeaveGoesOn: a leave that was cut off goes on when the daemon starts again.
func TestLeaveGoesOn(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b := newMachine(t, 1, nil), newMachine(t, 2, nil)
	a.init(InitRequest{Voters: 1})
	b.join(a.token())
	b.close()
	f := folder{path: Folder(b.root)}
	st, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	st.Phase = PhaseLeaving
	if err := f.save(st); err != nil {
		t.Fatal(err)
	}
	b.open()
	eventually(t, time.Minute, "host2 is in no mesh", func() bool { return b.status().Phase == PhaseNone })
	eventually(t, time.Minute, "host1 knows it no more", func() bool { return len(a.host.Mesh().Peers()) == 0 })
	if left, _ := os.ReadDir(b.root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	b.join(a.token())
}
