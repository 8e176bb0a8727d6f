package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// TestRevoked: every certificate that a gate made, and the gate's own, can be revoked by
// forgetting the host; what has expired is forgotten.
func TestRevoked(t *testing.T) {
	m := newMesh(t, "shop")
	ctx := context.Background()
	two, three := m.identity(2), m.identity(3)
	first := two.Certificate()
	m.clock.add(61 * 24 * time.Hour)
	if _, err := two.Renew(ctx, []string{m.addr}, m.clock.now); err != nil {
		t.Fatal(err)
	}
	noted := func() int {
		es, _, err := m.store.List(ctx, certKeys)
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	for end := time.Now().Add(time.Minute); noted() < 4 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // the gate notes its own in the background
	}
	if n := noted(); n != 4 {
		t.Fatalf("%d certificates are noted", n)
	}
	list := func(gone string) map[string]bool {
		t.Helper()
		der, err := Revoked(ctx, m.store, m.ca, func(id string) bool { return id != gone }, m.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(m.ca.Cert); err != nil {
			t.Error(err)
		}
		got := map[string]bool{}
		for _, e := range l.RevokedCertificateEntries {
			got[e.SerialNumber.Text(16)] = true
		}
		return got
	}
	if got := list("nobody"); len(got) != 0 {
		t.Errorf("nobody was forgotten: %v", got)
	}
	got := list("h2")
	for what, c := range map[string]*x509.Certificate{"the first": first, "the renewed": two.Certificate()} {
		if !got[c.SerialNumber.Text(16)] {
			t.Errorf("%s is not on the list", what)
		}
	}
	if len(got) != 2 || got[three.Certificate().SerialNumber.Text(16)] {
		t.Errorf("%v", got)
	}
	if got := list("h1"); len(got) != 1 || !got[m.id.Certificate().SerialNumber.Text(16)] {
		t.Errorf("the gate's own: %v", got)
	}

	// Those made at the beginning have expired: they need not be on a list.
	m.clock.add(30 * 24 * time.Hour)
	if got := list("h2"); len(got) != 1 || noted() != 1 {
		t.Errorf("%v, %d noted", got, noted())
	}

	blind, _ := ParseCA(m.ca.PEM(), nil)
	if _, err := Revoked(ctx, m.store, blind, nil, m.clock.now()); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "only members") {
		t.Error(err)
	}
}
