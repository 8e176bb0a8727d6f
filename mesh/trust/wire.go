package trust

import (
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"linkspan/cnm"
)

// GatePort is where the gate listens, TCP.
const GatePort = 2380

// Request is what a host says of itself when it joins.
type Request struct {
	// ID is the host's id, made by itself once; Name what people call it; Addr what the
	// others reach it by.
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
	// Version is Linkspan's, for words.
	Version string `json:"version,omitempty"`
	// Extra is the caller's own, handed to Gate.Admit as it is.
	Extra json.RawMessage `json:"extra,omitempty"`
}

func (r Request) check() error {
	switch {
	case r.ID == "" || len(r.ID) > 64 || !plain(r.ID):
		return cnm.Invalid("host %q: its id %q cannot be one", r.Name, r.ID)
	case r.Name == "" || len(r.Name) > 63 || !plain(r.Name):
		return cnm.Invalid("%q cannot be a host's name: it has up to 63 letters, digits, dots, dashes and underscores: give one with --name", r.Name)
	case !r.Addr.IsValid() || r.Addr.IsUnspecified() || r.Addr.IsMulticast():
		return cnm.Invalid("host %s: %s is no address that other hosts could reach it by: give one with --listen", r.Name, r.Addr)
	}
	return nil
}

func plain(s string) bool {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// Place is where the mesh is, as the gate knows it now.
type Place struct {
	// Endpoints are the etcd members' client addresses, Gates where hosts join and renew,
	// all as host:port.
	Endpoints []string `json:"endpoints,omitempty"`
	Gates     []string `json:"gates,omitempty"`
	// Settings are the mesh's, the caller's own (package mesh/host).
	Settings json.RawMessage `json:"settings,omitempty"`
}

// hello is what anyone may know of a gate: it is asked before a secret is sent.
type hello struct {
	Mesh  string    `json:"mesh"`
	Name  string    `json:"name"`
	Host  string    `json:"host"`
	Clock time.Time `json:"clock"`
}

type joinBody struct {
	Request
	Token  string    `json:"token_id"`
	Secret []byte    `json:"secret"`
	CSR    []byte    `json:"csr"`
	Clock  time.Time `json:"clock"`
}

type renewBody struct {
	CSR   []byte    `json:"csr"`
	Clock time.Time `json:"clock"`
}

type certBody struct {
	hello
	Place
	Certificate []byte   `json:"certificate"` // DER
	CA          []byte   `json:"ca"`          // DER
	Warnings    []string `json:"warnings,omitempty"`
}

type keyBody struct {
	Key []byte `json:"key"` // PEM
}

// problem is how an error goes over the wire: its sentence and its class.
type problem struct {
	Error string `json:"error"`
	Class string `json:"class"`
}

var classes = []error{cnm.ErrNotFound, cnm.ErrConflict, cnm.ErrInvalid, cnm.ErrUnavailable, cnm.ErrUnsupported, cnm.ErrForbidden, cnm.ErrNotModified, cnm.ErrExhausted}

var statuses = map[error]int{cnm.ErrNotFound: 404, cnm.ErrConflict: 409, cnm.ErrInvalid: 400, cnm.ErrUnavailable: 503, cnm.ErrUnsupported: 501, cnm.ErrForbidden: 403, cnm.ErrNotModified: 409, cnm.ErrExhausted: 507}

func classOf(err error) error {
	for _, c := range classes {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}

func (p problem) err() error {
	for _, c := range classes {
		if c.Error() == p.Class {
			return cnm.Errorf(c, "%s", p.Error)
		}
	}
	return errors.New(p.Error)
}
