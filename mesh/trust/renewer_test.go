package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/internal/testlog"
)

// host is an identity whose certificate is made now.
func host(t *testing.T, ca *CA, id string) *Identity {
	t.Helper()
	k := key(t)
	leaf, err := ca.Issue(Subject{ID: id, Name: id, Addr: netip.MustParseAddr("10.0.0.2")}, k.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := Folder(t.TempDir())
	if err := errors.Join(f.SaveCA(ca), f.SaveHost(ca, leaf, k)); err != nil {
		t.Fatal(err)
	}
	i, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestRenewedInTime: over three years, with gates that are away for up to three weeks, the
// certificate never ends.
func TestRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := NewCA("m", "shop", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		i := host(t, ca, "h2")
		began := time.Now()
		renewed, refused := 0, 0
		r := &Renewer{Identity: i, Gates: func() []string { return nil }, Renewed: func(*Answer) { renewed++ },
			Renew: func(context.Context) (*Answer, error) {
				c := i.Certificate()
				if age := time.Since(c.NotBefore); age < 60*24*time.Hour {
					t.Errorf("asked after %v", age)
				}
				// Away for the first three weeks in which it could be renewed, each time.
				if time.Since(due(c)) < 21*24*time.Hour {
					refused++
					return nil, cnm.Errorf(cnm.ErrUnavailable, "no gate answers")
				}
				return i.renewHere(ca, time.Now())
			}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for range 3 * 365 {
			time.Sleep(24 * time.Hour)
			if err := i.CA().check(i.Certificate(), time.Now(), x509.ExtKeyUsageClientAuth); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if renewed < 12 || renewed > 16 {
			t.Errorf("renewed %d times in three years", renewed)
		}
		// Tried each hour at most, after the first few.
		if perTime := refused / renewed; perTime < 100 || perTime > 21*24+20 {
			t.Errorf("tried %d times in three weeks", perTime)
		}
	})
}

// TestSpread: hosts that joined at the same moment do not renew at the same moment, and
// each one's moment stays.
func TestSpread(t *testing.T) {
	ca, err := NewCA("m", "shop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var first, last time.Duration
	for n := range 30 {
		r := &Renewer{Identity: host(t, ca, "h2")}
		w := r.wait(now)
		if again := r.wait(now); again != w {
			t.Fatalf("%v, then %v", w, again)
		}
		if n == 0 || w < first {
			first = w
		}
		last = max(last, w)
		if w < 59*24*time.Hour || w > 64*24*time.Hour {
			t.Errorf("in %v", w)
		}
	}
	if last-first < 24*time.Hour {
		t.Errorf("thirty hosts renew within %v", last-first)
	}
}

// TestOffForTooLong: a host that was off for longer than its certificate's life says so,
// how it comes back, and does not trouble the gates.
func TestOffForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := NewCA("m", "shop", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		i := host(t, ca, "h2")
		if err := i.folder.DropCAKey(); err != nil { // no member
			t.Fatal(err)
		}
		time.Sleep(120 * 24 * time.Hour) // off
		said := &testlog.Log{}
		r := &Renewer{Identity: i, Gates: func() []string { return []string{"192.0.2.1"} }, Log: slog.New(slog.NewTextHandler(said, nil))}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(3*time.Hour + time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		out := said.String()
		for _, w := range []string{"the certificate of host h2 expired on 2000-03-31", "30 days ago", "linkspan mesh token", "linkspan mesh join"} {
			if !strings.Contains(out, w) {
				t.Errorf("%q is missing in:\n%s", w, out)
			}
		}
		if n := strings.Count(out, "\n"); n != 4 {
			t.Errorf("said %d times in three hours", n)
		}
		if err := i.Warn(time.Now()); err == nil || !strings.Contains(err.Error(), "expired on") {
			t.Errorf("status: %v", err)
		}
		// A new token, a new certificate: the files are taken over.
		k := key(t)
		leaf, err := ca.Issue(Subject{ID: "h2", Name: "h2"}, k.Public(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(i.folder.SaveHost(ca, leaf, k), i.Reload()); err != nil {
			t.Fatal(err)
		}
		if err := i.Warn(time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestMemberOffForTooLong: who has the CA's key needs nobody: a mesh of one, or one that
// was off as a whole, starts again.
func TestMemberOffForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := NewCA("m", "shop", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		i := host(t, ca, "h2")
		old := i.Certificate()
		time.Sleep(400 * 24 * time.Hour)
		a, err := i.Renew(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := i.Certificate()
		if !c.Equal(a.Certificate) || i.Warn(time.Now()) != nil || i.Host() != "h2" || i.Name() != "h2" || i.Mesh() != "m" {
			t.Errorf("%v %v", c.Subject, i.Warn(time.Now()))
		}
		if len(c.IPAddresses) != len(old.IPAddresses) || c.VerifyHostname("10.0.0.2") != nil || c.VerifyHostname("h2") != nil {
			t.Errorf("it names %v %v, the old one %v %v", c.DNSNames, c.IPAddresses, old.DNSNames, old.IPAddresses)
		}
	})
}

// TestWarn: what status says, over a certificate's life.
func TestWarn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := NewCA("m", "shop", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		i := host(t, ca, "h2")
		day := 24 * time.Hour
		for _, tt := range []struct {
			at   time.Duration
			want string
		}{
			{-day, "is good from"},
			{0, ""}, {59 * day, ""},
			{60*day + time.Hour, ""}, // due, and given a day
			{62 * day, "should have been renewed on"},
			{91 * day, "expired on"},
		} {
			err := i.Warn(time.Now().Add(tt.at))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("after %v: %v, want %q", tt.at, err, tt.want)
			}
		}
		time.Sleep(9*365*day + 10*day)
		if _, err := i.renewHere(ca, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := i.Warn(time.Now()); err == nil || !strings.Contains(err.Error(), "the CA of mesh shop ends on 2009-12-29") {
			t.Errorf("the CA's last year: %v", err)
		}
		// No certificate is good for longer than the CA.
		time.Sleep(340 * day)
		if _, err := i.renewHere(ca, time.Now()); err != nil || i.Certificate().NotAfter.After(ca.Cert.NotAfter) {
			t.Errorf("%v, until %v", err, i.Certificate().NotAfter)
		}
		time.Sleep(60 * day)
		if _, err := i.renewHere(ca, time.Now()); !errors.Is(err, cnm.ErrForbidden) || !strings.Contains(err.Error(), "its CA expired on") {
			t.Errorf("after the CA's end: %v", err)
		}
		other, _ := NewCA("x", "other", time.Now())
		if _, err := i.renewHere(other, time.Now()); !errors.Is(err, cnm.ErrConflict) {
			t.Errorf("another mesh's key: %v", err)
		}
	})
}
