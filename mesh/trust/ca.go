// Package trust is who belongs to a mesh: its CA, made at init; the certificates of its
// hosts; the tokens that let one more host in; and the gate, where hosts join, renew their
// certificates and, once promoted, fetch the CA's key.
package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"time"

	"linkspan/cnm"
)

const (
	// CALife is how long the CA is good. Its end is far enough to be another version's
	// concern; Warn says it a year before.
	CALife = 10 * 365 * 24 * time.Hour
	// HostLife is how long a host's certificate is good; it is renewed at two thirds.
	HostLife = 90 * 24 * time.Hour
	// slack is how long before now a certificate begins to be good, for hosts whose clocks
	// are behind. It must be more than MaxSkew.
	slack = 10 * time.Minute
	// MaxSkew is how far two clocks may be apart; SaySkew is said.
	MaxSkew = 5 * time.Minute
	SaySkew = 30 * time.Second
)

// CA is the mesh's certificate authority. Without its key it can only recognise.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes that of a new mesh.
func NewCA(mesh, name string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "Linkspan mesh " + name, Organization: []string{name}, OrganizationalUnit: []string{mesh}},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &CA{Cert: c, key: key}, err
}

// NewKey makes a host's key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func serial() *big.Int {
	b := make([]byte, 16) // RFC 5280, 4.1.2.2: positive, at most 20 octets
	_, _ = rand.Read(b)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// Mesh is the mesh's id, Name what people call it.
func (c *CA) Mesh() string { return meshOf(c.Cert) }
func (c *CA) Name() string { return first(c.Cert.Subject.Organization) }

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// meshOf is the id of the mesh that a certificate is of.
func meshOf(c *x509.Certificate) string { return first(c.Subject.OrganizationalUnit) }

// CanSign says whether it has its key.
func (c *CA) CanSign() bool { return c.key != nil }

// pinSize is 160 bits of SHA-256: nobody finds a second key for them.
const pinSize = 20

// Pin stands for the CA's key in tokens.
type Pin [pinSize]byte

// Pin is of the key, not of the certificate, so that a CA that is made longer with the
// same key is the same.
func (c *CA) Pin() Pin { return pinOf(c.Cert) }

func pinOf(c *x509.Certificate) Pin {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return Pin(sum[:pinSize])
}

// Subject is whom a host's certificate is for.
type Subject struct {
	ID, Name string
	Addr     netip.Addr
	// Also are further addresses that it is reached at.
	Also []netip.Addr
}

// Issue signs a host's certificate: it is good as a server's and as a client's.
func (c *CA) Issue(s Subject, key crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if c.key == nil {
		return nil, cnm.Errorf(cnm.ErrForbidden, "mesh %s: this host does not have the CA's key, only the members do: ask one of them", c.Name())
	}
	if !now.Before(c.Cert.NotAfter) {
		return nil, cnm.Errorf(cnm.ErrForbidden, "mesh %s: its CA expired on %s: make a new mesh with `linkspan mesh init`", c.Name(), day(c.Cert.NotAfter))
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: s.ID, Organization: []string{s.Name}, OrganizationalUnit: []string{c.Mesh()}},
		NotBefore:    later(now.Add(-slack), c.Cert.NotBefore), NotAfter: earlier(now.Add(HostLife), c.Cert.NotAfter),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              []string{s.ID, s.Name, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, a := range append([]netip.Addr{s.Addr}, s.Also...) {
		if a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() {
			t.IPAddresses = append(t.IPAddresses, a.Unmap().WithZone("").AsSlice())
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.Cert, key, c.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// check says whether a certificate is one of this CA's at a time, as usage.
func (c *CA) check(leaf *x509.Certificate, at time.Time, usage x509.ExtKeyUsage) error {
	roots := x509.NewCertPool()
	roots.AddCert(c.Cert)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// PEM is the CA's certificate.
func (c *CA) PEM() []byte { return certPEM(c.Cert) }

// KeyPEM is the CA's key: whoever has it is the mesh.
func (c *CA) KeyPEM() ([]byte, error) {
	if c.key == nil {
		return nil, cnm.NotFound("mesh %s: this host does not have the CA's key, only the members do", c.Name())
	}
	return keyPEM(c.key)
}

// ParseCA reads a CA of PEM; key may be empty.
func ParseCA(cert, key []byte) (*CA, error) {
	certs, _, err := parsePEM(cert)
	if err != nil || len(certs) == 0 || !certs[0].IsCA || meshOf(certs[0]) == "" {
		return nil, cnm.Invalid("mesh certificates: this is not the certificate of a mesh's CA")
	}
	ca := &CA{Cert: certs[0]}
	if len(key) == 0 {
		return ca, nil
	}
	_, ca.key, err = parsePEM(key)
	if err != nil || ca.key == nil {
		return nil, cnm.Invalid("mesh %s: this is not the key of a CA", ca.Name())
	}
	if !ca.key.PublicKey.Equal(ca.Cert.PublicKey) {
		return nil, cnm.Invalid("mesh %s: the CA's key is another than its certificate's", ca.Name())
	}
	return ca, nil
}

func certPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parsePEM finds certificates and an ECDSA key, in whatever order.
func parsePEM(b []byte) (certs []*x509.Certificate, key *ecdsa.PrivateKey, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			certs = append(certs, c)
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			ec, ok := k.(*ecdsa.PrivateKey)
			if !ok {
				return nil, nil, errors.New("its key is not ECDSA")
			}
			key = ec
		}
	}
	if len(certs) == 0 && key == nil {
		return nil, nil, errors.New("there is no PEM in it")
	}
	return certs, key, nil
}
