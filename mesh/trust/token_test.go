package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/mem"
)

func testCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA("id-of-shop", "shop", time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestTokenText(t *testing.T) {
	ca := testCA(t)
	tok := newToken(ca.Pin())
	s := tok.String()
	if len(s) != 77 || !strings.HasPrefix(s, "lsm1-") {
		t.Errorf("%s (%d)", s, len(s))
	}
	for _, typed := range []string{s, " " + s + "\n", strings.ToUpper(s)} {
		if got, err := ParseToken(typed); err != nil || got != tok {
			t.Errorf("%q: %v", typed, err)
		}
	}
	// Its secret is in no log.
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", tok)
	if out := b.String() + fmt.Sprintf("%#v", tok); strings.Contains(out, s[40:60]) || strings.Contains(out, "secret") || !strings.Contains(out, tok.ID) {
		t.Error(out)
	}

	mistyped := []byte(s)
	mistyped[30] = 'a' + (mistyped[30]-'a'+1)%20
	for name, tt := range map[string]struct{ in, want string }{
		"empty":     {"", "there is no token"},
		"blank":     {"  ", "there is no token"},
		"a word":    {"secret", "this is no token: one begins with lsm1-"},
		"newer":     {"lsm2-" + s[5:], "another version of Linkspan"},
		"cut":       {s[:60], "the token has 60 characters, and one has 77"},
		"doubled":   {s + s, "the token has 154 characters"},
		"mistyped":  {string(mistyped), "mistyped"},
		"character": {s[:20] + "1" + s[21:], "a character that none has"},
		"a break":   {s[:20] + "\n" + s[21:], "a character that none has"},
	} {
		_, err := ParseToken(tt.in)
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && len(tt.in) > 50 && strings.Contains(err.Error(), tt.in[10:50]) {
			t.Errorf("%s: the sentence has the token in it: %v", name, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	tok := newToken(testCA(f).Pin()).String()
	for _, s := range []string{"", "lsm1-", tok, tok[:70], tok + "a", strings.ToUpper(tok), "lsm9-x", "\x00", "lsm1-" + strings.Repeat("7", 72), "lsm1-" + strings.Repeat("\n", 72)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) || tok != (Token{}) && tok.ID != "" {
				t.Errorf("%v %#v", err, tok)
			}
			return
		}
		// What is a token is so in one way only, and goes there and back.
		if again, err := ParseToken(tok.String()); err != nil || again != tok {
			t.Errorf("%q: %v", s, err)
		}
		if tok.String() != strings.ToLower(strings.TrimSpace(s)) {
			t.Errorf("%q is read as %s", s, tok)
		}
	})
}

func TestTokens(t *testing.T) {
	ctx := context.Background()
	ca := testCA(t)
	st := mem.New(mem.Options{})
	defer st.Close()
	clk := &fake{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	ts := Tokens{Store: st, Now: clk.now}

	for _, ttl := range []time.Duration{time.Second, -time.Hour, MaxTTL + time.Hour} {
		if _, _, err := ts.Create(ctx, ca, "host1", ttl); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "a minute at least and 30 days at most") {
			t.Errorf("%v: %v", ttl, err)
		}
	}
	tok, r, err := ts.Create(ctx, ca, "host1", 0)
	if err != nil || r.Expires.Sub(r.Created) != DefaultTTL || r.By != "host1" || r.State(clk.now()) != "good" {
		t.Fatalf("%+v %v", r, err)
	}
	// The secret is not in the store.
	es, _, _ := st.List(ctx, "")
	if len(es) != 1 || es[0].Key != "tokens/"+tok.ID {
		t.Fatalf("%+v", es)
	}
	for _, secret := range []string{string(tok.secret[:]), tok.String()[37:], base.EncodeToString(tok.secret[:])} {
		if strings.Contains(string(es[0].Value), secret) {
			t.Error("the secret is in the store")
		}
	}

	clk.add(time.Hour)
	second, _, err := ts.Create(ctx, ca, "host1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	all, err := ts.List(ctx)
	if err != nil || len(all) != 2 || all[0].ID != second.ID {
		t.Errorf("%+v %v", all, err)
	}
	if err := ts.Revoke(ctx, "aaaaaaaa"); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "none of this id") {
		t.Error(err)
	}
	for range 2 {
		if err := ts.Revoke(ctx, second.String()); err != nil {
			t.Error(err)
		}
	}
	all, _ = ts.List(ctx)
	if all[0].State(clk.now()) != "revoked" {
		t.Errorf("%+v", all[0])
	}
	clk.add(24 * time.Hour)
	if all[1].State(clk.now()) != "expired" {
		t.Errorf("%+v", all[1])
	}

	// One that was used is not revoked: the host is in.
	used := all[1]
	used.Used, used.HostName, used.Host = clk.now(), "host2", "h2"
	if _, err := st.Commit(ctx, store.Op{Key: tokenKeys + used.ID, Value: encode(used)}); err != nil {
		t.Fatal(err)
	}
	if err := ts.Revoke(ctx, used.ID); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "linkspan mesh forget host2") {
		t.Error(err)
	}

	// What ended long ago is forgotten when a new one is made.
	clk.add(kept + time.Hour)
	third, _, err := ts.Create(ctx, ca, "host1", 0)
	if err != nil {
		t.Fatal(err)
	}
	all, _ = ts.List(ctx)
	if len(all) != 1 || all[0].ID != third.ID {
		t.Errorf("%+v", all)
	}
}
