package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh/trust"
	"linkspan/store/etcd/server"
)

// someonesEtcd is a cluster that exists already, at 10.213.0.6.
func someonesEtcd(t *testing.T, secure bool) (_ *External, stop func()) {
	t.Helper()
	dir := t.TempDir()
	x := &External{Endpoints: []string{"10.213.0.6:4379"}}
	c := server.Config{Name: "theirs", Dir: filepath.Join(dir, "data"), Client: netip.MustParseAddrPort("10.213.0.6:4379"), Peer: netip.MustParseAddrPort("10.213.0.6:4380")}
	if secure {
		f := trust.Folder(dir)
		ca, err := trust.NewCA("theirs", "theirs", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		key, _ := trust.NewKey()
		leaf, err := ca.Issue(trust.Subject{ID: "theirs", Name: "theirs", Addr: netip.MustParseAddr("10.213.0.6")}, key.Public(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.SaveCA(ca); err != nil {
			t.Fatal(err)
		}
		if err := f.SaveHost(ca, leaf, key); err != nil {
			t.Fatal(err)
		}
		c.Cert, c.Key, c.CA = f.HostFile(), f.HostFile(), f.CAFile()
		x.CA, x.Cert, x.Key = f.CAFile(), f.HostFile(), f.HostFile()
	}
	s, err := server.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return x, s.Stop
}

// TestExternal: hosts are in a mesh since their daemons were started with --mesh, with TLS
// and, with a warning, without.
func TestExternal(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, secure := range []bool{true, false} {
		x, stop := someonesEtcd(t, secure)
		with := func(n int) *machine {
			return newMachine(t, n, func(c *Config) {
				own := *x
				own.Listen = netip.MustParseAddr("10.213.0." + string(rune('0'+n)))
				c.External = &own
			})
		}
		a, b := with(1), with(2)
		for _, m := range []*machine{a, b} {
			eventually(t, time.Minute, "both are alive", func() bool {
				return m.host.Mesh() != nil && len(m.host.Mesh().Peers()) == 1 && m.host.Mesh().Peers()[0].Alive
			})
		}
		if said := strings.Contains(a.log.String(), "etcd is spoken to without TLS"); said == secure {
			t.Errorf("with TLS: %v, warned: %v", secure, said)
		}
		s := a.status()
		if s.Phase != PhaseJoined || s.Etcd.Kind != "external" || !s.Etcd.Reachable || s.Self.Role != RoleExternal || s.Certificate != nil || len(s.Words) != 0 || s.Mesh == "" {
			t.Errorf("%+v %+v", s, s.Etcd)
		}
		_, err := a.host.CreateToken(t.Context(), 0)
		fails(t, err, cnm.ErrConflict, "a host joins by starting its daemon with the same --mesh")
		_, err = a.host.Promote(t.Context(), "host2")
		fails(t, err, cnm.ErrConflict, "no host of the mesh runs one")
		_, err = a.host.Init(t.Context(), InitRequest{Listen: a.addr()})
		fails(t, err, cnm.ErrConflict, "the daemon's --mesh says")
		fails(t, a.host.Backup(t.Context(), nil), cnm.ErrConflict, "etcdctl snapshot save")
		_, err = b.host.Leave(t.Context(), false)
		fails(t, err, cnm.ErrConflict, "take --mesh away")
		if d, err := a.host.Rotate(t.Context()); err != nil || !strings.Contains(d.Did, "no keys of its own") {
			t.Errorf("%+v %v", d, err)
		}

		// A restart of the one; the other goes out: without --mesh it is said, and it leaves.
		a.restart()
		eventually(t, time.Minute, "host1 is back", func() bool { p := a.host.Mesh().Peers(); return len(p) == 1 && p[0].Alive })
		b.close()
		b.cfg = nil
		b.open()
		if s := b.status(); !strings.Contains(strings.Join(s.Words, " "), "the daemon runs without --mesh") {
			t.Errorf("%q", s.Words)
		}
		if _, err := b.host.Leave(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(b.root); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		// A host that has made a mesh is not taken into another.
		b.init(InitRequest{Voters: 1})
		b.close()
		b.cfg = func(c *Config) { c.External = x }
		b.open()
		if s := b.status(); !strings.Contains(strings.Join(s.Words, " "), "a host is in one mesh only: start the daemon without --mesh") {
			t.Errorf("%q", s.Words)
		}
		b.close()
		b.cfg = nil
		b.open()
		if _, err := b.host.Leave(t.Context(), false); err != nil {
			t.Error(err)
		}
		a.close()
		stop()
	}
}

// TestExternalAway: an etcd that is not there keeps no daemon from starting, and the host
// is in the mesh as soon as it is.
func TestExternalAway(t *testing.T) {
	if !isolated(t) {
		return
	}
	a := newMachine(t, 1, func(c *Config) {
		c.External = &External{Endpoints: []string{"10.213.0.6:4379"}, Listen: netip.MustParseAddr("10.213.0.1")}
	})
	s := a.status()
	if s.Phase != PhaseJoining || !strings.Contains(strings.Join(s.Words, " "), "connection refused") {
		t.Errorf("%+v", s)
	}
	someonesEtcd(t, false)
	eventually(t, time.Minute, "host1 is in the mesh", func() bool { return a.status().Phase == PhaseJoined })
	for bad, x := range map[string]*External{
		"--mesh-listen 192.0.2.1 is not an address of this host": {Endpoints: []string{"10.213.0.6:4379"}, Listen: netip.MustParseAddr("192.0.2.1")},
		"--mesh-ca: open /none: no such file":                    {Endpoints: []string{"10.213.0.6:4379"}, CA: "/none", Listen: netip.MustParseAddr("10.213.0.2")},
	} {
		b := newMachine(t, 2, func(c *Config) { c.External = x })
		if s := b.status(); !strings.Contains(strings.Join(s.Words, " "), bad) {
			t.Errorf("%q, want %s", s.Words, bad)
		}
	}
}
