package server

import (
	"crypto/tls"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"linkspan/internal/testlog"
	"linkspan/mesh/trust"
)

// certified is a host's folder of certificates.
func certified(t *testing.T, ca *trust.CA, id string) (trust.Folder, *trust.Identity) {
	t.Helper()
	f := trust.Folder(t.TempDir())
	key, err := trust.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(trust.Subject{ID: id, Name: "host-" + id, Addr: netip.MustParseAddr("10.0.0.1")}, key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	none, err := trust.Revoked(within(t, time.Minute), memory(t), ca, func(string) bool { return true }, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.SaveCA(ca), f.SaveHost(ca, leaf, key), f.SaveRevoked(none)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	i, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return f, i
}

func secure(t *testing.T, name string, f trust.Folder) (Config, *testlog.Log) {
	c, said := config(t, name)
	c.Cert, c.Key, c.CA, c.CRL = f.HostFile(), f.HostFile(), f.CAFile(), f.RevokedFile()
	return c, said
}

func tlsPut(t *testing.T, url string, tc *tls.Config, patience time.Duration) error {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: tc, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, err = cl.Put(within(t, patience), "k", "v")
	return err
}

// TestTLS: members and clients must have certificates of the mesh, renewed ones are taken
// without a restart, and those of forgotten hosts count no more.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, err := trust.NewCA("m1", "shop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fa, ia := certified(t, ca, "a")
	fb, ib := certified(t, ca, "b")
	ac, said := secure(t, "a", fa)
	bc, _ := secure(t, "b", fb)
	start(t, ac)
	if out := said.String(); out != "" {
		t.Errorf("logged without need:\n%s", out)
	}
	if err := tlsPut(t, ac.ClientURL(), ib.Client(), time.Minute); err != nil {
		t.Fatalf("a host of the mesh: %v", err)
	}

	// The peers' port, both ways.
	cl, err := NewCluster(ClusterConfig{Endpoints: []string{ac.ClientURL()}, TLS: ia.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	promote(t, cl, &bc)
	if hs, err := cl.Health(within(t, time.Minute)); err != nil || len(hs) != 2 || hs[0].Err != nil || hs[1].Err != nil {
		t.Errorf("%+v %v", hs, err)
	}

	other, _ := trust.NewCA("m2", "other", time.Now())
	_, io := certified(t, other, "c")
	strange := io.Client()
	strange.RootCAs = ib.Client().RootCAs // it trusts us, we do not trust it
	for what, tc := range map[string]*tls.Config{"another mesh's": strange, "no certificate": {RootCAs: ib.Client().RootCAs}, "one that does not trust us": io.Client()} {
		if err := tlsPut(t, ac.ClientURL(), tc, 2*time.Second); err == nil {
			t.Errorf("%s: let in", what)
		}
	}
	// On the peers' port, too.
	for _, at := range []netip.AddrPort{ac.Client, ac.Peer} {
		conn, err := tls.Dial("tcp", at.String(), strange)
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3: the refusal comes with the first read
			conn.Close()
		}
		if err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s takes another mesh's certificate: %v", at, err)
		}
	}

	// A renewed certificate is in use at the next handshake.
	key, _ := trust.NewKey()
	leaf, err := ca.Issue(trust.Subject{ID: "a", Name: "host-a", Addr: netip.MustParseAddr("10.0.0.1")}, key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := fa.SaveHost(ca, leaf, key); err != nil {
		t.Fatal(err)
	}
	for _, at := range []netip.AddrPort{ac.Client, ac.Peer} {
		conn, err := tls.Dial("tcp", at.String(), ib.Client())
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0]; got.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
			t.Errorf("%s shows the old certificate", at)
		}
		conn.Close()
	}

	// A host that is no more.
	_, gone := certified(t, ca, "gone")
	if err := tlsPut(t, ac.ClientURL(), gone.Client(), time.Minute); err != nil {
		t.Fatal(err)
	}
	st := memory(t)
	for _, i := range []*trust.Identity{ib, gone} {
		if err := trust.Issued(within(t, time.Second), st, i.Certificate()); err != nil {
			t.Fatal(err)
		}
	}
	list, err := trust.Revoked(within(t, time.Second), st, ca, func(id string) bool { return id != "gone" }, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := fa.SaveRevoked(list); err != nil {
		t.Fatal(err)
	}
	if err := tlsPut(t, ac.ClientURL(), gone.Client(), 2*time.Second); err == nil {
		t.Error("a forgotten host's certificate still counts")
	}
	if err := tlsPut(t, ac.ClientURL(), ib.Client(), time.Minute); err != nil {
		t.Errorf("one that is not forgotten: %v", err)
	}
	if info, err := os.Stat(fa.RevokedFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}
