package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// mesh is an authority, as each mesh has one.
type mesh struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newMesh(t testing.TB, name string) *mesh {
	t.Helper()
	m := &mesh{t: t}
	m.key, m.cert = m.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return m
}

func (m *mesh) sign(c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, by := m.cert, m.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return key, out
}

// host makes a certificate for a server and client at an address.
func (m *mesh) host(addr string, until time.Time) tls.Certificate {
	key, cert := m.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "host"}, IPAddresses: []net.IP{net.ParseIP(addr)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (m *mesh) client() *tls.Config {
	return m.config(m.host("127.0.0.1", time.Now().Add(time.Hour)))
}

func (m *mesh) config(c tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(m.cert)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
}

// files writes a certificate and its key where an etcd reads them.
func (m *mesh) files(c tls.Certificate) (ca, cert, key string) {
	dir := m.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			m.t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		m.t.Fatal(err)
	}
	return write("ca", "CERTIFICATE", m.cert.Raw), write("cert", "CERTIFICATE", c.Certificate[0]), write("key", "PRIVATE KEY", der)
}

// secured starts an etcd with mutual TLS.
func secured(t testing.TB, m *mesh, c tls.Certificate) string {
	t.Helper()
	conf := config(t, 1)[0]
	for i := range conf.ListenClientUrls {
		conf.ListenClientUrls[i].Scheme, conf.AdvertiseClientUrls[i].Scheme = "https", "https"
	}
	ca, cert, key := m.files(c)
	conf.ClientTLSInfo.TrustedCAFile, conf.ClientTLSInfo.CertFile, conf.ClientTLSInfo.KeyFile = ca, cert, key
	conf.ClientTLSInfo.ClientCertAuth = true
	ready(t, start(t, conf))
	return clientURL(conf)
}

func TestTrust(t *testing.T) {
	t.Parallel()
	ours, other := newMesh(t, "mesh ours"), newMesh(t, "mesh of another")
	good := secured(t, ours, ours.host("127.0.0.1", time.Now().Add(time.Hour)))
	elsewhere := secured(t, ours, ours.host("10.9.9.9", time.Now().Add(time.Hour)))
	old := secured(t, ours, ours.host("127.0.0.1", time.Now().Add(-time.Minute)))
	_, c := one(t)
	plainText := clientURL(c)

	stranger := ours.client()
	stranger.Certificates = other.client().Certificates
	insistent, theirs := ours.client(), other.host("127.0.0.1", time.Now().Add(time.Hour))
	insistent.Certificates = nil
	insistent.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &theirs, nil }
	expired := ours.config(ours.host("127.0.0.1", time.Now().Add(-time.Minute)))
	nothing := ours.client()
	nothing.Certificates = nil

	for _, c := range []struct {
		name, at string
		conf     *tls.Config
		say      string
		trust    bool
	}{
		{"good", good, ours.client(), "", false},
		{"the server is of another mesh", good, other.client(), `its certificate is of another mesh: "CN=mesh ours" signed it, whom this host does not trust`, true},
		{"this host is of another mesh", good, stranger, "it wants a certificate of its mesh, and this host has none of it", true},
		{"this host is of another mesh and sends it", good, insistent, "it refuses this host's certificate (unknown certificate authority)", true},
		{"this host's ran out", good, expired, "it refuses this host's certificate (expired certificate)", true},
		{"this host has none", good, nothing, "it wants a certificate of its mesh, and this host has none of it", true},
		{"for another address", elsewhere, ours.client(), "its certificate is for other addresses: ", true},
		{"the server's ran out", old, ours.client(), "its certificate holds from ", true},
		{"no TLS there", plainText, ours.client(), "it may not speak TLS there", false},
		{"TLS there", good, nil, "it may want TLS, with certificates", false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			s := open(t, Options{Endpoints: []string{c.at}, TLS: c.conf, CallTimeout: time.Second})
			_, err := s.Commit(t.Context(), put("a", "1"))
			if c.name == "good" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, cnm.ErrUnavailable) || errors.Is(err, ErrCertificate) != c.trust || !strings.Contains(err.Error(), c.say) {
				t.Fatalf("%v\n want %q, a certificate's fault %v", err, c.say, c.trust)
			}
			t.Log(err)
		})
	}
}

// TestRenewed: a certificate that is renewed is used by the next connection, with the
// store open.
func TestRenewed(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "mesh")
	at := secured(t, m, m.host("127.0.0.1", time.Now().Add(time.Hour)))
	r := newRelay(t, at)
	now := m.host("127.0.0.1", time.Now().Add(time.Hour))
	asked := 0
	conf := m.client()
	conf.Certificates = nil
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { asked++; return &now, nil }
	s := open(t, Options{Endpoints: []string{r.l.Addr().String()}, TLS: conf})
	if err := get(s, "a"); err != nil {
		t.Fatal(err)
	}
	r.set(true)
	r.set(false)
	eventually(t, time.Minute, func() error { return get(s, "a") })
	if asked < 2 {
		t.Errorf("asked for the certificate %d times", asked)
	}
}
