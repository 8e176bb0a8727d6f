package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"strings"

	"linkspan/cnm"
)

// A token is what a person carries from a host of the mesh to one that joins: whom to
// trust (the CA's pin), and a secret that works once.
//
//	lsm1-  base32 of  pin 20 | id 5 | secret 16 | CRC-32 4
//
// The sum is there so that a token that was cut or mistyped is told from a wrong one.
type Token struct {
	Pin    Pin
	ID     string // 8 characters; it may be shown
	secret [16]byte
}

const tokenPrefix = "lsm1-"

var (
	base = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	// tokenBytes are 45, so that base32 needs no padding: 72 characters.
	tokenBytes = pinSize + 5 + 16 + 4
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func newToken(pin Pin) Token {
	t := Token{Pin: pin}
	id := make([]byte, 5)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	_, _ = rand.Read(t.secret[:])
	t.ID = base.EncodeToString(id)
	return t
}

// String is the whole token: who has it can join.
func (t Token) String() string {
	b := append([]byte{}, t.Pin[:]...)
	id, _ := base.DecodeString(t.ID)
	b = append(append(b, id...), t.secret[:]...)
	return tokenPrefix + base.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
}

// LogValue and GoString keep secrets out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.GoString()) }
func (t Token) GoString() string     { return "token " + t.ID }

// ParseToken reads what a person typed or pasted.
func ParseToken(s string) (Token, error) {
	var t Token
	s = strings.ToLower(strings.TrimSpace(s))
	const cure = "copy the whole line that `linkspan mesh token create` printed on a host of the mesh"
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	switch {
	case s == "":
		return t, cnm.Invalid("there is no token: give the one that `linkspan mesh token create` prints on a host of the mesh (--token lsm1-…)")
	case !ok && strings.HasPrefix(s, "lsm"):
		return t, cnm.Invalid("the token is of another version of Linkspan than this one: make one with the version that this host runs, or update this host")
	case !ok:
		return t, cnm.Invalid("this is no token: one begins with %s: %s", tokenPrefix, cure)
	}
	want := base.EncodedLen(tokenBytes)
	if len(rest) != want {
		return t, cnm.Invalid("the token has %d characters, and one has %d: %s", len(s), len(tokenPrefix)+want, cure)
	}
	b, err := base.DecodeString(rest)
	if err != nil || len(b) != tokenBytes {
		return t, cnm.Invalid("the token has a character that none has: %s", cure)
	}
	body, sum := b[:tokenBytes-4], binary.BigEndian.Uint32(b[tokenBytes-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return t, cnm.Invalid("the token is mistyped: its characters do not fit together: %s", cure)
	}
	copy(t.Pin[:], body)
	t.ID = base.EncodeToString(body[pinSize : pinSize+5])
	copy(t.secret[:], body[pinSize+5:])
	return t, nil
}

// hash is what is stored of the secret: 128 random bits need no salt and no slow hash.
func (t Token) hash() []byte {
	sum := sha256.Sum256(append([]byte("linkspan token "+t.ID+" "), t.secret[:]...))
	return sum[:]
}

func (t Token) matches(hash []byte) bool { return subtle.ConstantTimeCompare(t.hash(), hash) == 1 }
