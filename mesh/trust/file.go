package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"linkspan/cnm"
)

// Folder is where a host keeps its certificates: mode 0700, its files 0600. Each file is
// replaced as a whole: a kill or a power cut leaves the old one or the new one.
type Folder string

// HostFile has this host's certificate, the CA's, and its key, one after the other, so
// that a renewal replaces all three at once. It serves as certificate file and as key
// file of anything that reads PEM.
func (f Folder) HostFile() string { return filepath.Join(string(f), "host.pem") }

// CAFile has the mesh's CA certificate.
func (f Folder) CAFile() string { return filepath.Join(string(f), "ca.pem") }

// CAKeyFile has the CA's key, on members only.
func (f Folder) CAKeyFile() string { return filepath.Join(string(f), "ca-key.pem") }

// RevokedFile has the certificates that count no more (CRL, DER), on members only.
func (f Folder) RevokedFile() string { return filepath.Join(string(f), "revoked.crl") }

func (f Folder) write(file string, b []byte) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "mesh certificates: %w", err)
	}
	if err := replace(file, b); err != nil {
		return cnm.Errorf(cnm.ErrUnavailable, "mesh certificates: %s was not written: %w", file, err)
	}
	return nil
}

func (f Folder) read(file, what string) ([]byte, error) {
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, cnm.NotFound("mesh certificates: this host has no %s (%s is not there): join the mesh with a token", what, file)
	case err != nil:
		return nil, cnm.Errorf(cnm.ErrUnavailable, "mesh certificates: %w", err)
	}
	return b, nil
}

// replace writes a file under another name, syncs it, and renames it: rename(2) is
// atomic, and the folder is synced so that it stays done.
func replace(file string, b []byte) error {
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Tidy removes what a killed write left.
func (f Folder) Tidy() {
	left, _ := filepath.Glob(filepath.Join(string(f), "*.new-*"))
	for _, name := range left {
		_ = os.Remove(name)
	}
}
