package trust

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

const certKeys = "certificates/"

// certRecord is a certificate that was issued: certificates/<host id>/<serial in hex>.
type certRecord struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

func issued(leaf *x509.Certificate) store.Op {
	return store.Op{Key: certKeys + leaf.Subject.CommonName + "/" + leaf.SerialNumber.Text(16), Value: encode(certRecord{nameOf(leaf), leaf.NotAfter})}
}

// Issued notes a certificate that was issued without a gate: that of the first host.
func Issued(ctx context.Context, st store.Store, leaf *x509.Certificate) error {
	_, err := st.Commit(ctx, issued(leaf))
	return err
}

// Revoked makes the list (CRL, RFC 5280) of the certificates of hosts that the mesh does
// not know any more, and forgets those that have expired. Members keep it in
// Folder.RevokedFile, where etcd reads it at each handshake: a host that was forgotten
// cannot come back with its old key. The file must be there before etcd is told of it, as
// without it etcd lets nobody in. known says whether there is a host of this id.
func Revoked(ctx context.Context, st store.Store, ca *CA, known func(id string) bool, now time.Time) ([]byte, error) {
	if ca.key == nil {
		return nil, cnm.Errorf(cnm.ErrForbidden, "mesh %s: only members can list revoked certificates", ca.Name())
	}
	es, rev, err := st.List(ctx, certKeys)
	if err != nil {
		return nil, err
	}
	// The number only grows: it is the store's revision.
	list := &x509.RevocationList{Number: big.NewInt(rev + 1), ThisUpdate: now.Add(-slack), NextUpdate: now.Add(HostLife)}
	var ended []store.Op
	for _, e := range es {
		host, hex, ok := strings.Cut(strings.TrimPrefix(e.Key, certKeys), "/")
		n, good := new(big.Int).SetString(hex, 16)
		var r certRecord
		if !ok || !good || json.Unmarshal(e.Value, &r) != nil {
			continue
		}
		switch {
		case now.After(r.Until.Add(time.Hour)):
			if len(ended) < 100 {
				ended = append(ended, store.Op{Key: e.Key, Guard: true, IfRev: e.Rev})
			}
		case !known(host):
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now})
		}
	}
	if len(ended) > 0 {
		if _, err := st.Commit(ctx, ended...); err != nil && !errors.Is(err, store.ErrCompare) {
			return nil, err
		}
	}
	return x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.key)
}

// SaveRevoked keeps the list.
func (f Folder) SaveRevoked(list []byte) error { return f.write(f.RevokedFile(), list) }
