package trust

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"time"

	"linkspan/cnm"
)

// judge says what is wrong with a host's certificate, in words.
func judge(ca *CA, leaf *x509.Certificate, now time.Time, usage x509.ExtKeyUsage) error {
	if leaf.CheckSignatureFrom(ca.Cert) != nil {
		if m := meshOf(leaf); m != "" && m != ca.Mesh() {
			return cnm.Errorf(cnm.ErrForbidden, "host %s shows a certificate of another mesh (%s) than this one (%s, %s): leave the one with `linkspan mesh leave` before joining the other", nameOf(leaf), m, ca.Name(), ca.Mesh())
		}
		return cnm.Errorf(cnm.ErrForbidden, "the certificate shown, of %q, was not made by the CA of mesh %s", leaf.Subject, ca.Name())
	}
	switch {
	case now.After(leaf.NotAfter):
		return expired(leaf, now)
	case now.Before(leaf.NotBefore):
		return cnm.Errorf(cnm.ErrForbidden, "the certificate of host %s is good from %s on, and the clock here says %s: set the clocks (a time service such as chrony keeps them together)", nameOf(leaf), day(leaf.NotBefore), day(now))
	}
	if err := ca.check(leaf, now, usage); err != nil {
		return cnm.Errorf(cnm.ErrForbidden, "the certificate of host %s does not count: %w", nameOf(leaf), err)
	}
	return nil
}

// expired is of a host that was off, or cut off, until its certificate had ended.
func expired(leaf *x509.Certificate, now time.Time) error {
	return cnm.Errorf(cnm.ErrForbidden, "the certificate of host %s expired on %s, %s ago: it is renewed by itself while the host can reach the mesh, and this one could not for more than %d days. To bring it back: `linkspan mesh token create` on a host of the mesh, then `linkspan mesh join` with that token on %s. If this host's clock (%s) is wrong, set it instead",
		nameOf(leaf), day(leaf.NotAfter), ago(now.Sub(leaf.NotAfter)), int(leaf.NotAfter.Sub(due(leaf)).Hours()/24), nameOf(leaf), day(now))
}

// skew compares two clocks: too far apart is an error, less is a warning.
func skew(name string, clock time.Time, other string, now time.Time) (warn []string, err error) {
	d := clock.Sub(now)
	where, far := "ahead of", d
	if d < 0 {
		where, far = "behind", -d
	}
	const cure = "set them (a time service such as chrony keeps them together)"
	words := fmt.Sprintf("the clock of %s (%s) is %s %s that of %s (%s)", name, clock.UTC().Format(time.DateTime), ago2(far), where, other, now.UTC().Format(time.DateTime))
	switch {
	case far > MaxSkew:
		return nil, cnm.Errorf(cnm.ErrConflict, "%s: certificates would not be good on both: %s", words, cure)
	case far > SaySkew:
		return []string{words + ": " + cure}, nil
	}
	return nil, nil
}

func ago2(d time.Duration) string {
	if d < 10*time.Minute {
		return d.Round(time.Second).String()
	}
	return ago(d)
}

// Warn is what should be said of this host's certificate and the CA's, or nothing: the
// certificate has expired, or was not renewed although it is due; the CA ends within a year.
func (i *Identity) Warn(now time.Time) error {
	leaf, ca := i.Certificate(), i.CA()
	switch {
	case now.After(leaf.NotAfter), now.Before(leaf.NotBefore):
		return judge(ca, leaf, now, x509.ExtKeyUsageClientAuth)
	case now.After(due(leaf).Add(24 * time.Hour)):
		return cnm.Errorf(cnm.ErrUnavailable, "the certificate of host %s should have been renewed on %s and ends on %s: it is renewed at the gate of a member (TCP port %d): `linkspan mesh status` says which can be reached", nameOf(leaf), day(due(leaf)), day(leaf.NotAfter), GatePort)
	case now.After(ca.Cert.NotAfter.AddDate(-1, 0, 0)):
		return cnm.Errorf(cnm.ErrUnavailable, "the CA of mesh %s ends on %s: plan a new mesh before that", ca.Name(), day(ca.Cert.NotAfter))
	}
	return nil
}

type publicKey struct {
	public *ecdsa.PublicKey
	raw    []byte
}

// requestKey reads a certificate request: its signature shows that who asks has the key.
// What it says of names is not read: the gate knows them.
func requestKey(der []byte) (publicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return publicKey{}, cnm.Invalid("the certificate request is damaged: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().BitSize < 256 {
		return publicKey{}, cnm.Invalid("the certificate request has a key that is not ECDSA of 256 bits or more: it is of another version of Linkspan")
	}
	return publicKey{key, csr.RawSubjectPublicKeyInfo}, nil
}
