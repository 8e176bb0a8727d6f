package trust

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"linkspan/cnm"
)

// Identity is this host's certificate, in use: what is made from it takes the newest one
// at each handshake. Safe for concurrent use.
type Identity struct {
	folder Folder
	cur    atomic.Pointer[held]
}

// held is one certificate with its key, and the CA that made it.
type held struct {
	ca   *CA
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

// SaveKey keeps the key of a host that is about to join: a host that is killed meanwhile
// asks with the same key again, and is known by it.
func (f Folder) SaveKey(key *ecdsa.PrivateKey) error {
	b, err := keyPEM(key)
	if err != nil {
		return err
	}
	return f.write(f.HostFile(), b)
}

// Key is what SaveKey kept, or that of the certificate; not found: none.
func (f Folder) Key() (*ecdsa.PrivateKey, error) {
	b, err := f.read(f.HostFile(), "key")
	if err != nil {
		return nil, err
	}
	_, key, err := parsePEM(b)
	if err != nil || key == nil {
		return nil, f.damaged(f.HostFile(), err)
	}
	return key, nil
}

// SaveCA keeps the CA: its certificate, and its key if it has one.
func (f Folder) SaveCA(ca *CA) error {
	if ca.key != nil {
		b, err := ca.KeyPEM()
		if err != nil {
			return err
		}
		if err := f.write(f.CAKeyFile(), b); err != nil {
			return err
		}
	}
	return f.write(f.CAFile(), ca.PEM())
}

// CA reads the CA, with its key if this host has it.
func (f Folder) CA() (*CA, error) {
	cert, err := f.read(f.CAFile(), "CA certificate")
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(f.CAKeyFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh certificates: %w", err)
	}
	ca, err := ParseCA(cert, key)
	if err != nil {
		return nil, cnm.Invalid("%w (in %s): take the files from a backup, or leave the mesh and join again", err, string(f))
	}
	return ca, nil
}

// DropCAKey is for a host that was demoted.
func (f Folder) DropCAKey() error {
	if err := os.Remove(f.CAKeyFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cnm.Errorf(cnm.ErrUnavailable, "mesh certificates: the CA's key was not removed: %w", err)
	}
	return nil
}

// SaveHost keeps a certificate that was issued, with its key.
func (f Folder) SaveHost(ca *CA, leaf *x509.Certificate, key *ecdsa.PrivateKey) error {
	h := &held{ca, leaf, key}
	if err := h.check(); err != nil {
		return err
	}
	k, err := keyPEM(key)
	if err != nil {
		return err
	}
	return f.write(f.HostFile(), append(certPEM(leaf, ca.Cert), k...))
}

func (h *held) check() error {
	if !h.key.PublicKey.Equal(h.leaf.PublicKey) {
		return cnm.Invalid("mesh certificates: the certificate of %s is of another key than this host's", nameOf(h.leaf))
	}
	if err := h.leaf.CheckSignatureFrom(h.ca.Cert); err != nil {
		return cnm.Invalid("mesh certificates: the certificate of %s is not of this mesh's CA (%s)", nameOf(h.leaf), h.ca.Name())
	}
	return nil
}

func (f Folder) damaged(file string, err error) error {
	if err == nil {
		err = errors.New("something is missing in it")
	}
	return cnm.Invalid("mesh certificates: %s is damaged (%w): take it from a backup, or leave the mesh and join again with a new token", file, err)
}

// Identity reads this host's certificate. An expired one is read as well: see Warn.
func (f Folder) Identity() (*Identity, error) {
	h, err := f.held()
	if err != nil {
		return nil, err
	}
	i := &Identity{folder: f}
	i.cur.Store(h)
	return i, nil
}

func (f Folder) held() (*held, error) {
	b, err := f.read(f.HostFile(), "certificate")
	if err != nil {
		return nil, err
	}
	certs, key, err := parsePEM(b)
	if err != nil || len(certs) < 2 || key == nil {
		return nil, f.damaged(f.HostFile(), err)
	}
	h := &held{&CA{Cert: certs[1]}, certs[0], key}
	if err := h.check(); err != nil {
		return nil, f.damaged(f.HostFile(), err)
	}
	return h, nil
}

// take makes a renewed certificate the one in use, and keeps it.
func (i *Identity) take(h *held) error {
	if err := i.folder.SaveHost(h.ca, h.leaf, h.key); err != nil {
		return err
	}
	i.cur.Store(h)
	return nil
}

// Reload takes what is in the folder now.
func (i *Identity) Reload() error {
	h, err := i.folder.held()
	if err == nil {
		i.cur.Store(h)
	}
	return err
}

// Host is this host's id, Name its name when the certificate was made, Mesh the mesh's id.
func (i *Identity) Host() string { return i.cur.Load().leaf.Subject.CommonName }
func (i *Identity) Name() string { return nameOf(i.cur.Load().leaf) }
func (i *Identity) Mesh() string { return meshOf(i.cur.Load().leaf) }

// CA is the mesh's, without its key.
func (i *Identity) CA() *CA { return i.cur.Load().ca }

// Certificate is the one in use.
func (i *Identity) Certificate() *x509.Certificate { return i.cur.Load().leaf }

func nameOf(c *x509.Certificate) string { return first(c.Subject.Organization) }

func (h *held) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{h.leaf.Raw, h.ca.Cert.Raw}, PrivateKey: h.key, Leaf: h.leaf}
}

// Client is for calls to other hosts: their certificate must be of this mesh, and name
// the address that is called.
func (i *Identity) Client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(i.CA().Cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.cur.Load().tls(), nil },
	}
}

// Server is for calls by other hosts: they must show a certificate of this mesh.
func (i *Identity) Server() *tls.Config {
	clients := x509.NewCertPool()
	clients.AddCert(i.CA().Cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.cur.Load().tls(), nil },
	}
}

// Due is when the certificate should be renewed: at two thirds of its life.
func (i *Identity) Due() time.Time { return due(i.Certificate()) }

func due(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}
