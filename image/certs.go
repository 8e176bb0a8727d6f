package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// addCerts reads DIR/HOST[:PORT]: *.crt are authorities, added to the system's;
// each *.cert is a client certificate with the *.key of the same name.
func addCerts(cfg *tls.Config, dir, host string) error {
	dir = filepath.Join(dir, filepath.Base(host)) // a host has no slash; Base makes sure
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch name := e.Name(); filepath.Ext(name) {
		case ".crt":
			if cfg.RootCAs == nil {
				if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
					cfg.RootCAs = x509.NewCertPool()
				}
			}
			pem, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s holds no certificate in PEM form", path)
			}
		case ".cert":
			key := strings.TrimSuffix(path, ".cert") + ".key"
			if _, err := os.Stat(key); err != nil {
				return fmt.Errorf("missing key %s for client certificate %s. CA certificates must use the extension .crt", filepath.Base(key), name)
			}
			pair, err := tls.LoadX509KeyPair(path, key)
			if err != nil {
				return err
			}
			cfg.Certificates = append(cfg.Certificates, pair)
		case ".key":
			cert := strings.TrimSuffix(path, ".key") + ".cert"
			if _, err := os.Stat(cert); err != nil {
				return fmt.Errorf("missing client certificate %s for key %s", filepath.Base(cert), name)
			}
		}
	}
	return nil
}
