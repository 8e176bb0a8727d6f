package trust

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mesh", "tls")
	f := Folder(dir)
	if _, err := f.Identity(); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "join the mesh with a token") {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := f.CA(); !errors.Is(err, cnm.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	ca := testCA(t)
	k := key(t)
	// A host that joins keeps its key first, and finds it again after a kill.
	if err := f.SaveKey(k); err != nil {
		t.Fatal(err)
	}
	again, err := f.Key()
	if err != nil || !again.Equal(k) {
		t.Fatal(err)
	}
	if _, err := f.Identity(); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a key without a certificate: %v", err)
	}
	leaf, err := ca.Issue(Subject{ID: "h1", Name: "host1", Addr: netip.MustParseAddr("fd00::1"), Also: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, k.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.SaveHost(ca, leaf, k), f.SaveCA(ca)); err != nil {
		t.Fatal(err)
	}
	i, err := f.Identity()
	if err != nil || i.Host() != "h1" || i.Name() != "host1" || i.Mesh() != "id-of-shop" || i.CA().Pin() != ca.Pin() {
		t.Fatalf("%v", err)
	}
	got, err := f.CA()
	if err != nil || !got.CanSign() || got.Pin() != ca.Pin() {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := f.DropCAKey(); err != nil {
			t.Error(err)
		}
	}
	if got, err = f.CA(); err != nil || got.CanSign() {
		t.Errorf("%v", err)
	}
	if _, err := got.Issue(Subject{ID: "x"}, k.Public(), time.Now()); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "only the members do") {
		t.Error(err)
	}
	if _, err := got.KeyPEM(); !errors.Is(err, cnm.ErrNotFound) {
		t.Error(err)
	}

	// Nobody else can read them.
	for _, file := range []string{f.HostFile(), f.CAFile()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	// One file serves as certificate and as key.
	if _, err := tls.LoadX509KeyPair(f.HostFile(), f.HostFile()); err != nil {
		t.Error(err)
	}

	// What a killed write left is tidied, what is there stays.
	if err := os.WriteFile(f.HostFile()+".new-123", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Tidy()
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%v", left)
	}

	// Damage is said, with the file and a way on.
	whole, err := os.ReadFile(f.HostFile())
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewCA("x", "other", time.Now())
	kpem, _ := keyPEM(key(t))
	for name, b := range map[string][]byte{
		"empty": nil, "cut": whole[:len(whole)/2], "text": []byte("hello"), "no key": certPEM(leaf, ca.Cert),
		"another key": append(certPEM(leaf, ca.Cert), kpem...), "another CA": append(certPEM(leaf, other.Cert), whole[strings.Index(string(whole), "-----BEGIN PRIV"):]...),
	} {
		if err := os.WriteFile(f.HostFile(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Identity(); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), f.HostFile()+" is damaged") || !strings.Contains(err.Error(), "new token") {
			t.Errorf("%s: %v", name, err)
		}
		if err := i.Reload(); err == nil || i.Host() != "h1" {
			t.Errorf("%s: it was taken", name)
		}
	}
	if err := f.SaveHost(other, leaf, k); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a certificate of another CA was kept: %v", err)
	}
	if err := f.SaveHost(ca, leaf, key(t)); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("a certificate of another key was kept: %v", err)
	}
	if _, err := ParseCA(ca.PEM(), kpem); err == nil || !strings.Contains(err.Error(), "another than its certificate's") {
		t.Error(err)
	}
	if _, err := ParseCA(certPEM(leaf), nil); err == nil {
		t.Error("a host's certificate was taken for a CA")
	}
}

// TestMutual: hosts of one mesh know each other, others they do not.
func TestMutual(t *testing.T) {
	ca, _ := NewCA("m", "shop", time.Now())
	other, _ := NewCA("x", "other", time.Now())
	a, b, c := host(t, ca, "a"), host(t, ca, "b"), host(t, other, "c")
	l, err := tls.Listen("tcp", "127.0.0.1:0", a.Server())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				defer conn.Close()
				_, _ = conn.Write([]byte("x"))
			}(conn)
		}
	}()
	dial := func(cfg *tls.Config) error {
		conn, err := tls.Dial("tcp", l.Addr().String(), cfg)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	if err := dial(b.Client()); err != nil {
		t.Error(err)
	}
	strange := c.Client()
	if err := dial(strange); err == nil {
		t.Error("a host of another mesh trusts this one")
	}
	strange.RootCAs = b.Client().RootCAs
	if err := dial(strange); err == nil {
		t.Error("a host of another mesh was let in")
	}
	// No certificate of this mesh is a CA: a host cannot make others.
	forged, err := (&CA{Cert: b.Certificate(), key: b.cur.Load().key}).Issue(Subject{ID: "a", Name: "a"}, key(t).Public(), time.Now())
	if err == nil && ca.check(forged, time.Now(), 0) == nil {
		t.Error("a host's certificate can sign")
	}
}

func TestGateAddr(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:2380", "10.0.0.1:99": "10.0.0.1:99", " host1 ": "host1:2380", "fd00::1": "[fd00::1]:2380",
		"[fd00::1]": "[fd00::1]:2380", "[fd00::1]:99": "[fd00::1]:99", "https://10.0.0.1:2380/": "10.0.0.1:2380", "etcd://10.0.0.1": "10.0.0.1:2380",
		"": "", ":2380": "", "10.0.0.1:0": "", "10.0.0.1:x": "", "10.0.0.1/24": "", "a b": "", "user@h": "", "http://10.0.0.1": "", "10.0.0.1:70000": "",
	} {
		got, err := GateAddr(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}
