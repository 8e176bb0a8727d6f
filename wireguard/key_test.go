package wireguard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"linkspan/cnm"
)

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	k, err := NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVector is that of RFC 7748, section 6.1: Alice's keys.
func TestVector(t *testing.T) {
	private, err := ParsePrivateKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := private.Public().String(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
}

func TestNewPrivateKey(t *testing.T) {
	a, b := newKey(t), newKey(t)
	if a == b || a.IsZero() {
		t.Error("two keys are the same")
	}
	raw := a.Bytes()
	if raw[0]&7 != 0 || raw[31]&0xc0 != 0x40 {
		t.Errorf("not clamped: %x…%x", raw[0], raw[31])
	}
	again, err := ParsePrivateKey(a.Secret())
	if err != nil || again != a || again.Public() != a.Public() {
		t.Errorf("its text form is another key: %v", err)
	}
	if !(PrivateKey{}).IsZero() || !(PrivateKey{}).Public().IsZero() {
		t.Error("no key has a public key")
	}
}

// TestSecret: a private key is in nothing that is printed, logged or encoded.
func TestSecret(t *testing.T) {
	k := newKey(t)
	raw := k.Bytes()
	c := Config{Name: "wg", PrivateKey: k}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h)
		l.Info("x", "key", k, "config", c, "pointer", &c)
		l.Info("x", slog.Any("keys", []PrivateKey{k}), slog.Any("change", Diff(Config{}, c)))
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%t"} {
		fmt.Fprintf(&log, format+"\n", k)
		fmt.Fprintf(&log, format+"\n", &k)
		fmt.Fprintf(&log, format+"\n", c)
	}
	for _, v := range []any{k, c, &c} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(j)
	}
	var decimal []string
	for _, b := range raw[:8] {
		decimal = append(decimal, fmt.Sprint(b))
	}
	for name, form := range map[string]string{
		"base64": k.Secret()[:10], "hex": fmt.Sprintf("%x", raw[:5]), "HEX": fmt.Sprintf("%X", raw[:5]), "decimal": strings.Join(decimal, " "), "raw": string(raw[:5]),
	} {
		if strings.Contains(log.String(), form) {
			t.Errorf("the key is there in %s", name)
		}
	}
	if !strings.Contains(log.String(), redacted) {
		t.Error("nothing stands for it")
	}
	if _, err := ParsePrivateKey(redacted); !errors.Is(err, cnm.ErrInvalid) {
		t.Errorf("what stands for a key is taken for one: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	good := newKey(t)
	for _, text := range []string{"", "x", good.Secret()[:43], good.Secret() + "=", " " + good.Secret(), "AAAA", strings.Repeat("A", 42) + "==", strings.Repeat("!", 44)} {
		if _, err := ParsePrivateKey(text); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("private %q: %v", text, err)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[5:15]) {
			t.Errorf("the error has a part of the key: %v", err)
		}
		if _, err := ParsePublicKey(text); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("public %q: %v", text, err)
		}
	}
	if _, err := ParsePrivateKey(PublicKey{}.String()); err == nil {
		t.Error("a key of zeros")
	}
	pub := good.Public()
	j, err := json.Marshal(map[string]PublicKey{"k": pub})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]PublicKey
	if err := json.Unmarshal(j, &back); err != nil || back["k"] != pub {
		t.Errorf("%s: %v, %v", j, back, err)
	}
	if err := json.Unmarshal([]byte(`{"k":""}`), &back); err != nil || !back["k"].IsZero() {
		t.Errorf("no key: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"k":"abc"}`), &back); err == nil {
		t.Error("half a key")
	}
	if s := pub.Short(); len(s) > 12 || !strings.HasPrefix(pub.String(), s[:8]) {
		t.Errorf("short form %q", s)
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParsePublicKey(s); err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	})
}
