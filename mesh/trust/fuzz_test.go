package trust

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"linkspan/store"
	"linkspan/store/mem"
)

// quiet is a gate without a listener.
func quiet(f *testing.F) (*Gate, *mem.Store, Token) {
	ca := testCA(f)
	clk := &fake{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	st := mem.New(mem.Options{})
	f.Cleanup(func() { st.Close() })
	k := key(f)
	leaf, err := ca.Issue(Subject{ID: "h1", Name: "host1"}, k.Public(), clk.now())
	if err != nil {
		f.Fatal(err)
	}
	id := &Identity{}
	id.cur.Store(&held{ca, leaf, k})
	m := &meshOfOne{store: st, hosts: map[string]Host{}}
	tok, _, err := Tokens{Store: st, Now: clk.now}.Create(f.Context(), ca, "host1", 0)
	if err != nil {
		f.Fatal(err)
	}
	return &Gate{CA: ca, Identity: id, Store: st, Now: clk.now, Admit: m.admit, Host: m.host, Place: nil}, st, tok
}

// FuzzGate: whatever a stranger sends, the gate answers with a sentence, and nothing is
// written.
func FuzzGate(f *testing.F) {
	g, st, tok := quiet(f)
	csr, err := request(key(f))
	if err != nil {
		f.Fatal(err)
	}
	wrong := tok
	wrong.secret[3] ^= 1
	for _, secret := range [][]byte{wrong.secret[:], nil, tok.secret[:15], append(tok.secret[:], 0)} {
		f.Add("/v1/join", encode(joinBody{Request: req(2), Token: tok.ID, Secret: secret, CSR: csr, Clock: g.now()}))
	}
	f.Add("/v1/join", encode(joinBody{Request: req(2), Token: "x", Secret: tok.secret[:], CSR: csr, Clock: g.now()}))
	f.Add("/v1/join", encode(joinBody{Request: req(2), Token: "../hosts/h1", Secret: tok.secret[:], CSR: csr, Clock: g.now()}))
	f.Add("/v1/join", encode(joinBody{Request: req(2), CSR: csr[:20], Clock: g.now()}))
	f.Add("/v1/join", []byte(`{"id":1}`))
	f.Add("/v1/join", []byte(`{"addr":"::ffff:1.2.3.4%eth0","id":"a","name":"b","clock":"9999-12-31T23:59:59Z"}`))
	f.Add("/v1/renew", encode(renewBody{CSR: csr}))
	f.Add("/v1/authority", []byte(`{}`))
	f.Add("/v1/authority", []byte(`null`))
	f.Add("/v1/none", []byte(``))
	h := g.handler()
	before, _, err := st.List(f.Context(), "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		r, err := http.NewRequest(http.MethodPost, "https://gate"+path, bytes.NewReader(body))
		if err != nil || r.URL.Path == "" {
			return // no request can be made of it
		}
		r.RemoteAddr = "192.0.2.7:1234"
		g.wrong = limit{}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 300 && r.URL.Path != "/v1/hello" {
			t.Fatalf("%s let in with %q", path, body)
		}
		var p problem
		if w.Code >= 400 && w.Code != http.StatusMethodNotAllowed && (json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Error == "" || p.Class == "") {
			t.Fatalf("%s %q: %d %s", path, body, w.Code, w.Body)
		}
		after, _, err := st.List(t.Context(), "")
		if err != nil || len(after) != len(before) || !same(before, after) {
			t.Fatalf("%s %q changed the store", path, body)
		}
	})
}

func same(a, b []store.Entry) bool {
	for i := range a {
		if a[i].Key != b[i].Key || a[i].Rev != b[i].Rev {
			return false
		}
	}
	return true
}

// FuzzAnswer: whatever a gate answers, a host that joins says what is wrong.
func FuzzAnswer(f *testing.F) {
	ca := testCA(f)
	k := key(f)
	leaf, err := ca.Issue(Subject{ID: "h2", Name: "host2"}, k.Public(), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf.Raw, ca.Cert.Raw)
	f.Add(leaf.Raw, leaf.Raw)
	f.Add(ca.Cert.Raw, ca.Cert.Raw)
	f.Add([]byte{}, []byte{0x30})
	c := &caller{addr: "192.0.2.1:2380"}
	f.Fuzz(func(t *testing.T, cert, authority []byte) {
		a, err := c.answer(certBody{Certificate: cert, CA: authority}, k)
		if err == nil && (a.Certificate.CheckSignatureFrom(a.CA.Cert) != nil || !k.PublicKey.Equal(a.Certificate.PublicKey)) {
			t.Error("a certificate was taken that does not fit")
		}
	})
}
