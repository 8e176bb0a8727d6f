package wireguard

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"

	"linkspan/cnm"
)

// keyLen is that of Curve25519's keys (RFC 7748), private and public.
const keyLen = 32

// PublicKey is what the others know a host by. Its text is WireGuard's: base64.
type PublicKey [keyLen]byte

// PrivateKey is a host's secret. Whatever prints, logs or encodes it writes redacted in
// its place; Secret alone tells it. The zero value is no key.
type PrivateKey struct{ b [keyLen]byte }

// redacted stands for a private key in all text but its file and the keeper's socket.
const redacted = "(private key)"

// NewPrivateKey makes one at random.
func NewPrivateKey() (PrivateKey, error) {
	var k PrivateKey
	if _, err := rand.Read(k.b[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("a WireGuard key cannot be made: %w", err)
	}
	// Clamped as RFC 7748 has it (section 5). Whoever computes with it does that again;
	// the text form of a key is the clamped one with `wg genkey` too.
	k.b[0] &= 248
	k.b[31] = k.b[31]&127 | 64
	return k, nil
}

// ParsePrivateKey reads a key's text form.
func ParsePrivateKey(s string) (PrivateKey, error) {
	b, err := decodeKey(s)
	if err != nil {
		// Not a byte of it: the text may be a key but for one letter.
		return PrivateKey{}, cnm.Invalid("not a WireGuard private key: %w", err)
	}
	if b == [keyLen]byte{} {
		return PrivateKey{}, cnm.Invalid("not a WireGuard private key: all of it is zero")
	}
	return PrivateKey{b}, nil
}

// ParsePublicKey reads a key's text form.
func ParsePublicKey(s string) (PublicKey, error) {
	b, err := decodeKey(s)
	if err != nil {
		return PublicKey{}, cnm.Invalid("%.60q is not a WireGuard public key: %w", s, err)
	}
	return PublicKey(b), nil
}

func decodeKey(s string) (b [keyLen]byte, err error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return b, fmt.Errorf("want 44 letters of base64")
	}
	if len(raw) != keyLen {
		return b, fmt.Errorf("%d bytes, want %d", len(raw), keyLen)
	}
	return [keyLen]byte(raw), nil
}

// Secret is the key's text form: for its file and its way to the device, never for a log.
func (k PrivateKey) Secret() string { return base64.StdEncoding.EncodeToString(k.b[:]) }

// Bytes are the key's, for a device.
func (k PrivateKey) Bytes() [keyLen]byte { return k.b }

// IsZero says that there is no key.
func (k PrivateKey) IsZero() bool { return k == PrivateKey{} }

// Public is the key that belongs to it; zero for none.
func (k PrivateKey) Public() PublicKey {
	if k.IsZero() {
		return PublicKey{}
	}
	p, err := ecdh.X25519().NewPrivateKey(k.b[:])
	if err != nil { // a key of another length
		return PublicKey{}
	}
	return PublicKey(p.PublicKey().Bytes())
}

// String implements fmt.Stringer.
func (PrivateKey) String() string { return redacted }

// Format implements fmt.Formatter for every verb: %d of a struct shows its bytes.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, so that no JSON has it by mistake.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero says that there is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// Short names a key in a log line.
func (k PublicKey) Short() string { return k.String()[:8] + "…" }

// MarshalText implements encoding.TextMarshaler; no key is no text.
func (k PublicKey) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return []byte(k.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *PublicKey) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*k = PublicKey{}
		return nil
	}
	*k, err = ParsePublicKey(string(b))
	return err
}
