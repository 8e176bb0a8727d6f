package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/internal/daemontest"
)

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.make("ca", time.Now().Add(time.Hour), true)
	return a
}

// make writes NAME.pem and NAME-key.pem.
func (a *authority) make(name string, until time.Time, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(daemontest.HostAddr)}, IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if ca {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

// client is a TLS client that shows the certificate of that name; "": none.
func (a *authority) client(name string) *tls.Config {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem"))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func tlsConfig(dir string, verify bool) *config.Config {
	return &config.Config{TLS: true, TLSVerify: verify, TLSCACert: filepath.Join(dir, "ca.pem"), TLSCert: filepath.Join(dir, "server.pem"), TLSKey: filepath.Join(dir, "server-key.pem"),
		Hosts: []config.Host{{Proto: "tcp", Addr: "127.0.0.1:0"}}}
}

func TestLoadCertificates(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, dir)
	a.make("server", time.Now().Add(time.Hour), false)
	if certs, err := loadCertificates(&config.Config{}); certs != nil || err != nil {
		t.Errorf("without TLS: %v, %v", certs, err)
	}
	a.make("old", time.Now().Add(-time.Hour), false)
	if err := os.WriteFile(filepath.Join(dir, "empty.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*config.Config){
		"":                     func(*config.Config) {},
		"--tlscert":            func(c *config.Config) { c.TLSCert = "/nowhere.pem" },
		"private key does not": func(c *config.Config) { c.TLSKey = filepath.Join(dir, "ca-key.pem") },
		"has expired on": func(c *config.Config) {
			c.TLSCert, c.TLSKey = filepath.Join(dir, "old.pem"), filepath.Join(dir, "old-key.pem")
		},
		"--tlscacert": func(c *config.Config) { c.TLSCACert = "/nowhere.pem" },
		"in PEM form": func(c *config.Config) { c.TLSCACert = filepath.Join(dir, "empty.pem") },
	} {
		c := tlsConfig(dir, true)
		change(c)
		_, err := loadCertificates(c)
		if want == "" && err != nil || want != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// TestTLSListener: who has no certificate of ours gets no answer, a renewed one
// counts at once, and what is behind a connection is a socket that can be handed on.
func TestTLSListener(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, dir)
	a.make("server", time.Now().Add(time.Hour), false)
	a.make("alice", time.Now().Add(time.Hour), false)
	c := tlsConfig(dir, true)
	certs, err := loadCertificates(c)
	if err != nil {
		t.Fatal(err)
	}
	ls, err := listen(c, certs)
	if err != nil {
		t.Fatal(err)
	}
	l := ls[0]
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			f, err := conn.(interface{ File() (*os.File, error) }).File()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close() // the descriptor alone carries it on, as in the keeper
			go func() {
				b, _ := io.ReadAll(f)
				f.WriteString("heard " + string(b))
				f.Close()
			}()
			return
		}
		io.WriteString(w, r.RemoteAddr)
	})}
	go srv.Serve(l)
	defer srv.Close()
	addr := l.Addr().String()

	get := func(c *tls.Config) (string, error) {
		tr := &http.Transport{TLSClientConfig: c}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + addr + "/")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := get(a.client("alice")); err != nil || !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("with a certificate: %q, %v", got, err)
	}
	if got, err := get(a.client("")); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	other := newAuthority(t, t.TempDir())
	other.make("mallory", time.Now().Add(time.Hour), false)
	theirs := other.client("mallory")
	theirs.RootCAs = a.client("").RootCAs
	if got, err := get(theirs); err == nil {
		t.Errorf("with another authority's certificate: %q", got)
	}
	// A silent client holds nothing up.
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := get(a.client("alice")); err != nil {
		t.Errorf("beside a silent client: %v", err)
	}

	conn, err := tls.Dial("tcp", addr, a.client("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST /hijack HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nall of stdin")
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || !strings.Contains(string(b), "heard ") {
		t.Errorf("handed over: %q, %v", b, err)
	}

	// Renewed: the new certificate is shown to the next client; a broken one changes nothing.
	before := serial(t, addr, a)
	a.make("server", time.Now().Add(time.Hour), false)
	if err := certs.load(c); err != nil {
		t.Fatal(err)
	}
	after := serial(t, addr, a)
	if before == after {
		t.Error("the renewed certificate is not shown")
	}
	if err := os.WriteFile(c.TLSKey, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certs.load(c); err == nil {
		t.Error("a broken key is taken")
	}
	if got := serial(t, addr, a); got != after {
		t.Error("a failed reload changed the certificate")
	}
}

func serial(t *testing.T, addr string, a *authority) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, a.client("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestPlainTCPListener(t *testing.T) {
	ls, err := listen(&config.Config{Hosts: []config.Host{{Proto: "tcp", Addr: "127.0.0.1:0"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(ls)
	host := config.Host{Proto: "tcp", Addr: ls[0].Addr().String()}
	if _, err := listen(&config.Config{Hosts: []config.Host{host}}, nil); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), host.String()) {
		t.Errorf("a taken port: %v", err)
	}
	if err := passedTCP(&config.Config{}, config.Host{Proto: "fd"}, ls[0]); err != nil {
		t.Errorf("the loopback from systemd: %v", err)
	}
	wide, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	if err := passedTCP(&config.Config{}, config.Host{Proto: "fd"}, wide); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("every address from systemd, without TLS: %v", err)
	}
	for _, c := range []*config.Config{{TLS: true}, {TLSGiven: true}} {
		if err := passedTCP(c, config.Host{Proto: "fd"}, wide); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
