package trust

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// Host is what the mesh's records say of a host that shows its certificate.
type Host struct {
	Name string
	Addr netip.Addr
	// Member: it keeps the mesh's state, and with it the CA's key.
	Member bool
}

// Gate is where hosts come to the mesh: it runs on every member, as it needs the CA's key.
// All funcs may be called at the same time, and may answer cnm.ErrUnavailable.
type Gate struct {
	// CA has its key.
	CA *CA
	// Identity is this host's own.
	Identity *Identity
	// Store is the common one, in which the tokens are.
	Store store.Store
	// Admit says whether a host may join: a free name and address. It is called before the
	// token is used up, and again for the same host that lost its answer. What it returns
	// to be written is written in the same commit that uses the token up; it may be nothing.
	Admit func(ctx context.Context, r Request) ([]store.Op, error)
	// Place is where the mesh is.
	Place func(ctx context.Context) (Place, error)
	// Host is the record of a host; cnm.ErrNotFound when the mesh has none (any more).
	Host func(ctx context.Context, id string) (Host, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger

	wrong limit
}

func (g *Gate) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

func (g *Gate) log() *slog.Logger {
	if g.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return g.Log
}

const (
	bodySize = 64 << 10
	// answers is how long one question may take, the store's part included.
	answers = 20 * time.Second
	// guests is how many connections there are at the same time, and guestsOfOne how many
	// from one address: strangers can open them.
	guests      = 128
	guestsOfOne = 16
)

// Serve answers until ctx ends. The listener is closed then.
func (g *Gate) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           g.handler(),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: answers, WriteTimeout: 2 * answers, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 8 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       log.New(io.Discard, "", 0), // strangers' handshakes
	}
	end := context.AfterFunc(ctx, func() {
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(short) != nil {
			_ = srv.Close()
		}
	})
	defer end()
	go g.noteOwn(ctx)
	err := srv.Serve(tls.NewListener(&bounded{Listener: l, free: make(chan struct{}, guests)}, &tls.Config{
		MinVersion: tls.VersionTLS13,
		// What a host shows is judged in words, not by a handshake that breaks off.
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.Identity.cur.Load().tls(), nil },
		NextProtos:     []string{"http/1.1"},
	}))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return cnm.Errorf(cnm.ErrUnavailable, "mesh gate at %s: %w", l.Addr(), err)
}

// noteOwn has this host's own certificate among those that can be revoked: a first host's,
// or that of a member which had to make its own, came from no gate.
func (g *Gate) noteOwn(ctx context.Context) {
	for {
		if err := Issued(ctx, g.Store, g.Identity.Certificate()); err == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(30 * time.Second):
		}
	}
}

func (g *Gate) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", func(w http.ResponseWriter, r *http.Request) { reply(w, g.hello(), nil) })
	mux.HandleFunc("POST /v1/join", func(w http.ResponseWriter, r *http.Request) { ask(g, w, r, g.join) })
	mux.HandleFunc("POST /v1/renew", func(w http.ResponseWriter, r *http.Request) { ask(g, w, r, g.renew) })
	mux.HandleFunc("POST /v1/authority", func(w http.ResponseWriter, r *http.Request) { ask(g, w, r, g.authority) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, cnm.Unsupported("the gate of mesh %s does not know %s: it is of another version", g.CA.Name(), r.URL.Path))
	})
	return mux
}

func (g *Gate) hello() hello {
	return hello{Mesh: g.CA.Mesh(), Name: g.CA.Name(), Host: g.Identity.Name(), Clock: g.now().UTC()}
}

// ask reads a body of type B and answers with what f says.
func ask[B, A any](g *Gate, w http.ResponseWriter, r *http.Request, f func(context.Context, *http.Request, B) (A, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), answers)
	defer cancel()
	var body B
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodySize)).Decode(&body); err != nil {
		reply(w, nil, cnm.Invalid("the gate of mesh %s does not understand the question: %w", g.CA.Name(), err))
		return
	}
	a, err := f(ctx, r, body)
	if err != nil {
		g.log().Info("mesh gate: refused", "asked", r.URL.Path, "from", r.RemoteAddr, "error", err)
		reply(w, nil, err)
		return
	}
	reply(w, a, nil)
}

func reply(w http.ResponseWriter, a any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		p := problem{Error: err.Error()}
		status := http.StatusInternalServerError
		if c := classOf(err); c != nil {
			p.Class, status = c.Error(), statuses[c]
		}
		w.WriteHeader(status)
		a = p
	}
	_ = json.NewEncoder(w).Encode(a)
}

// from is the address that asks.
func from(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap()
}

func (g *Gate) join(ctx context.Context, r *http.Request, b joinBody) (certBody, error) {
	var none certBody
	who := from(r)
	if wait := g.wrong.wait(who, g.now()); wait > 0 {
		return none, cnm.Errorf(cnm.ErrForbidden, "mesh %s: too many wrong tokens came from %s: try again in %s", g.CA.Name(), who, wait.Round(time.Second))
	}
	if err := b.check(); err != nil {
		return none, err
	}
	key, err := requestKey(b.CSR)
	if err != nil {
		return none, err
	}
	warn, err := skew(b.Name, b.Clock, g.Identity.Name(), g.now())
	if err != nil {
		return none, err
	}
	tok := Token{ID: b.Token}
	copy(tok.secret[:], b.Secret)
	sum := sha256.Sum256(key.raw)
	for try := 0; ; try++ {
		rec, rev, err := g.token(ctx, tok, b, sum[:])
		if err != nil {
			if errors.Is(err, errWrong) {
				g.wrong.note(who, g.now())
				g.log().Warn("mesh gate: a wrong token", "from", who, "host", b.Name, "token", b.Token)
			}
			return none, err
		}
		ops, err := g.Admit(ctx, b.Request)
		if err != nil {
			return none, err
		}
		leaf, err := g.CA.Issue(Subject{ID: b.ID, Name: b.Name, Addr: b.Addr}, key.public, g.now())
		if err != nil {
			return none, err
		}
		if rec.Used.IsZero() {
			rec.Used = g.now().UTC().Truncate(time.Second)
			rec.Host, rec.HostName, rec.Key = b.ID, b.Name, sum[:]
			ops = append(ops, store.Op{Key: tokenKeys + rec.ID, Value: encode(rec), Guard: true, IfRev: rev})
		}
		ops = append(ops, issued(leaf))
		if _, err = g.Store.Commit(ctx, ops...); errors.Is(err, store.ErrCompare) && try < 20 {
			continue // another host was quicker: with the name, or with this token
		} else if err != nil {
			return none, err
		}
		g.log().Info("mesh gate: a host joins", "host", b.Name, "id", b.ID, "addr", b.Addr, "token", rec.ID, "from", who)
		a, err := g.certificate(ctx, leaf)
		a.Warnings = warn
		return a, err
	}
}

// errWrong is a token that is none of this mesh's.
var errWrong = errors.New("wrong token")

// token says whether it is good for this host.
func (g *Gate) token(ctx context.Context, tok Token, b joinBody, key []byte) (TokenRecord, int64, error) {
	tokens := Tokens{Store: g.Store, Now: g.Now}
	none := TokenRecord{}
	r, rev, err := tokens.get(ctx, tok.ID)
	const another = "make one on a host of the mesh with `linkspan mesh token create`"
	if errors.Is(err, cnm.ErrNotFound) {
		return none, 0, cnm.Errorf(cnm.ErrForbidden, "mesh %s knows no token %s: it was made in a mesh that is no more, or ended more than %d days ago: %s%w", g.CA.Name(), tok.ID, kept/(24*time.Hour), another, unsaid{errWrong})
	}
	if err != nil {
		return none, 0, err
	}
	if len(b.Secret) != len(tok.secret) || !tok.matches(r.Hash) {
		return none, 0, cnm.Errorf(cnm.ErrForbidden, "mesh %s: the secret of token %s is wrong: %s%w", g.CA.Name(), tok.ID, another, unsaid{errWrong})
	}
	now := g.now()
	switch r.State(now) {
	case "used":
		if r.Host == b.ID && string(r.Key) == string(key) {
			return r, rev, nil // it has not heard the answer
		}
		return none, 0, cnm.Errorf(cnm.ErrForbidden, "token %s was used by host %s at %s; a token lets one host in: %s", tok.ID, r.HostName, day(r.Used), another)
	case "revoked":
		return none, 0, cnm.Errorf(cnm.ErrForbidden, "token %s was revoked at %s: %s", tok.ID, day(r.Revoked), another)
	case "expired":
		return none, 0, cnm.Errorf(cnm.ErrForbidden, "token %s expired %s ago, at %s: %s", tok.ID, ago(now.Sub(r.Expires)), day(r.Expires), another)
	}
	return r, rev, nil
}

// unsaid is an error that is there for errors.Is and says nothing.
type unsaid struct{ error }

func (unsaid) Error() string   { return "" }
func (u unsaid) Unwrap() error { return u.error }

func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func (g *Gate) certificate(ctx context.Context, leaf *x509.Certificate) (certBody, error) {
	p, err := g.Place(ctx)
	if err != nil {
		return certBody{}, err
	}
	return certBody{hello: g.hello(), Place: p, Certificate: leaf.Raw, CA: g.CA.Cert.Raw}, nil
}

// caller is who shows a certificate, if it counts here and now.
func (g *Gate) caller(ctx context.Context, r *http.Request) (string, Host, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", Host{}, cnm.Errorf(cnm.ErrForbidden, "mesh %s: who asks this shows its certificate, and none was shown: join with a token first", g.CA.Name())
	}
	leaf := r.TLS.PeerCertificates[0]
	if err := g.judge(leaf); err != nil {
		return "", Host{}, err
	}
	id := leaf.Subject.CommonName
	h, err := g.Host(ctx, id)
	if errors.Is(err, cnm.ErrNotFound) {
		return "", Host{}, cnm.Errorf(cnm.ErrForbidden, "mesh %s does not know host %s any more: it was forgotten: on that host say `linkspan mesh leave`, then join again with a new token", g.CA.Name(), nameOf(leaf))
	}
	return id, h, err
}

// judge says what is wrong with a certificate that a host shows.
func (g *Gate) judge(leaf *x509.Certificate) error {
	return judge(g.CA, leaf, g.now(), x509.ExtKeyUsageClientAuth)
}

func (g *Gate) renew(ctx context.Context, r *http.Request, b renewBody) (certBody, error) {
	id, h, err := g.caller(ctx, r)
	if err != nil {
		return certBody{}, err
	}
	key, err := requestKey(b.CSR)
	if err != nil {
		return certBody{}, err
	}
	warn, err := skew(h.Name, b.Clock, g.Identity.Name(), g.now())
	if err != nil {
		return certBody{}, err
	}
	leaf, err := g.CA.Issue(Subject{ID: id, Name: h.Name, Addr: h.Addr}, key.public, g.now())
	if err != nil {
		return certBody{}, err
	}
	if _, err := g.Store.Commit(ctx, issued(leaf)); err != nil {
		return certBody{}, err
	}
	g.log().Info("mesh gate: a certificate is renewed", "host", h.Name, "until", leaf.NotAfter)
	a, err := g.certificate(ctx, leaf)
	a.Warnings = warn
	return a, err
}

func (g *Gate) authority(ctx context.Context, r *http.Request, _ struct{}) (keyBody, error) {
	_, h, err := g.caller(ctx, r)
	if err != nil {
		return keyBody{}, err
	}
	if !h.Member {
		return keyBody{}, cnm.Errorf(cnm.ErrForbidden, "mesh %s: host %s is no member, and only members have the CA's key: promote it with `linkspan mesh promote %s`", g.CA.Name(), h.Name, h.Name)
	}
	key, err := g.CA.KeyPEM()
	if err != nil {
		return keyBody{}, err
	}
	g.log().Info("mesh gate: the CA's key was handed to a member", "host", h.Name, "from", r.RemoteAddr)
	return keyBody{Key: key}, nil
}
