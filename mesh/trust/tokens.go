package trust

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// DefaultTTL is how long a token is good when nobody says.
const DefaultTTL = 24 * time.Hour

// kept is how long a token that is good no more is remembered, so that it can be said why.
const kept = 7 * 24 * time.Hour

const tokenKeys = "tokens/"

// TokenRecord is what the mesh knows of a token: tokens/<id>. Its secret is not in it.
type TokenRecord struct {
	ID      string    `json:"id"`
	Hash    []byte    `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// By is the name of the host it was made on.
	By string `json:"by,omitempty"`
	// Used is when a host joined with it, and Host its id, HostName its name, Key the
	// SHA-256 of its public key, by which it is known when it asks again.
	Used     time.Time `json:"used,omitzero"`
	Host     string    `json:"host,omitempty"`
	HostName string    `json:"host_name,omitempty"`
	Key      []byte    `json:"key,omitempty"`
	// Revoked is when a person took it back.
	Revoked time.Time `json:"revoked,omitzero"`
}

// State is one word: "good", "used", "revoked" or "expired".
func (r TokenRecord) State(now time.Time) string {
	switch {
	case !r.Used.IsZero():
		return "used"
	case !r.Revoked.IsZero():
		return "revoked"
	case !now.Before(r.Expires):
		return "expired"
	}
	return "good"
}

// Tokens are the mesh's, in the common store.
type Tokens struct {
	Store store.Store
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (t Tokens) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// MaxTTL is the longest life of a token.
const MaxTTL = 30 * 24 * time.Hour

// Create makes a token that lets one host in within ttl (0: DefaultTTL). Only its id and
// a hash of its secret are stored: the token itself is in the answer and nowhere else.
func (t Tokens) Create(ctx context.Context, ca *CA, by string, ttl time.Duration) (Token, TokenRecord, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < time.Minute || ttl > MaxTTL {
		return Token{}, TokenRecord{}, cnm.Invalid("a token is good for a minute at least and %d days at most, not for %s", MaxTTL/(24*time.Hour), ttl)
	}
	tok := newToken(ca.Pin())
	now := t.now().UTC().Truncate(time.Second)
	r := TokenRecord{ID: tok.ID, Hash: tok.hash(), Created: now, Expires: now.Add(ttl), By: by}
	old, err := t.forgettable(ctx)
	if err != nil {
		return Token{}, r, err
	}
	if _, err := t.Store.Commit(ctx, append(old, store.Op{Key: tokenKeys + r.ID, Value: encode(r), Guard: true})...); err != nil && !errors.Is(err, store.ErrCompare) {
		return Token{}, r, err
	} else if err != nil { // another one tidied at the same moment
		if _, err := t.Store.Commit(ctx, store.Op{Key: tokenKeys + r.ID, Value: encode(r), Guard: true}); err != nil {
			return Token{}, r, err
		}
	}
	return tok, r, nil
}

// forgettable are the deletions of tokens that ended long ago, a few at a time.
func (t Tokens) forgettable(ctx context.Context) ([]store.Op, error) {
	es, _, err := t.Store.List(ctx, tokenKeys)
	if err != nil {
		return nil, err
	}
	var ops []store.Op
	for _, e := range es {
		var r TokenRecord
		if json.Unmarshal(e.Value, &r) == nil && t.now().Sub(r.Expires) > kept && len(ops) < 50 {
			ops = append(ops, store.Op{Key: e.Key, Guard: true, IfRev: e.Rev})
		}
	}
	return ops, nil
}

// List are all that are remembered, the newest first.
func (t Tokens) List(ctx context.Context) ([]TokenRecord, error) {
	es, _, err := t.Store.List(ctx, tokenKeys)
	if err != nil {
		return nil, err
	}
	rs := make([]TokenRecord, 0, len(es))
	for _, e := range es {
		var r TokenRecord
		if json.Unmarshal(e.Value, &r) == nil {
			rs = append(rs, r)
		}
	}
	slices.SortFunc(rs, func(a, b TokenRecord) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return rs, nil
}

// Revoke takes a token back that nobody has used. It is named by its id, or the token.
func (t Tokens) Revoke(ctx context.Context, id string) error {
	if tok, err := ParseToken(id); err == nil {
		id = tok.ID
	}
	id = strings.ToLower(id)
	for {
		r, rev, err := t.get(ctx, id)
		if err != nil {
			return err
		}
		switch r.State(t.now()) {
		case "used":
			return cnm.Conflict("token %s: host %s joined with it at %s: to take the host out say `linkspan mesh forget %s`", id, r.HostName, day(r.Used), r.HostName)
		case "revoked":
			return nil
		}
		r.Revoked = t.now().UTC().Truncate(time.Second)
		_, err = t.Store.Commit(ctx, store.Op{Key: tokenKeys + id, Value: encode(r), Guard: true, IfRev: rev})
		if !errors.Is(err, store.ErrCompare) {
			return err
		}
	}
}

func (t Tokens) get(ctx context.Context, id string) (TokenRecord, int64, error) {
	var r TokenRecord
	e, ok, err := t.Store.Get(ctx, tokenKeys+id)
	if err != nil {
		return r, 0, err
	}
	if !ok || json.Unmarshal(e.Value, &r) != nil {
		return r, 0, cnm.NotFound("token %s: the mesh has none of this id: see `linkspan mesh token ls`", id)
	}
	return r, e.Rev, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // json refuses channels, functions and cycles, and our records have none
	}
	return b
}
