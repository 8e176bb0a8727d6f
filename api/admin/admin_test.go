package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/dataplane"
	"linkspan/network"
)

type fakeNetwork struct {
	network.Service
	report *network.Report
	err    error
	dry    bool
}

// Network: the default network is there.
func (f *fakeNetwork) Network(ref string) (*cnm.Network, error) {
	return &cnm.Network{ID: "b1", Name: ref}, nil
}

func (f *fakeNetwork) Reconcile(_ context.Context, dry bool) (*network.Report, error) {
	f.dry = dry
	return f.report, f.err
}

var (
	bridge = dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: "b1", Name: "bridge"}
	addr   = dataplane.Addr{
		Meta: dataplane.Meta{Owner: bridge, Reason: "docker0 is the gateway of bridge"},
		Link: "docker0", Prefix: netip.MustParsePrefix("172.17.0.1/16"),
	}
	up = dataplane.Up{Meta: dataplane.Meta{Owner: bridge, Reason: "docker0 forwards"}, Link: "docker0"}
)

// daemon serves both doors and returns a client whose HTTP reaches it whatever
// the URL's host is.
func daemon(t *testing.T, c Config) (Client, string) {
	t.Helper()
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Engine")
		w.WriteHeader(http.StatusTeapot)
	})
	srv := httptest.NewServer(Beside(api, New(c)))
	t.Cleanup(srv.Close)
	return clientOf(srv), srv.URL
}

func clientOf(srv *httptest.Server) Client {
	return Client{HTTP: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}}}}
}

func TestPlan(t *testing.T) {
	var asked container.CreateRequest
	c, _ := daemon(t, Config{Network: &fakeNetwork{}, Plan: func(_ context.Context, r container.CreateRequest) ([]dataplane.Object, []string, error) {
		asked = r
		if r.Config.Image == "absent" {
			return nil, nil, cnm.NotFound("No such image: absent:latest")
		}
		return []dataplane.Object{addr, up}, []string{"swap is not limited"}, nil
	}})
	p, err := c.Plan(context.Background(), "web shop", []byte(`{"Image":"box","HostConfig":{"NetworkMode":"bridge"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if asked.Name != "web shop" || asked.Config.Image != "box" || asked.HostConfig.NetworkMode != "bridge" {
		t.Errorf("%+v", asked)
	}
	var b strings.Builder
	if err := p.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `# WARNING: swap is not limited
# --- network bridge
# docker0 is the gateway of bridge
ip addr add 172.17.0.1/16 dev docker0
# docker0 forwards
ip link set docker0 up
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	for body, words := range map[string]string{
		`{"Image":"absent"}`: "No such image: absent:latest",
		`{"Image":5}`:        "Image must be a string",
		`{}`:                 "config cannot be empty",
		``:                   "got EOF",
	} {
		if _, err := c.Plan(context.Background(), "", []byte(body)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestReconcile(t *testing.T) {
	n := &fakeNetwork{report: &network.Report{
		Ops:      []dataplane.Op{{Verb: dataplane.Create, Object: addr}, {Verb: dataplane.Delete, Object: up}},
		Drift:    []dataplane.Object{up},
		Failures: []error{errors.New("delete up docker0: operation not permitted")},
	}}
	c, _ := daemon(t, Config{Network: n})
	r, err := c.Reconcile(context.Background(), false)
	if err != nil || n.dry {
		t.Fatal(err, n.dry)
	}
	var b strings.Builder
	_ = r.WriteText(&b)
	want := `# create addr docker0 172.17.0.1/16 for network bridge
# docker0 is the gateway of bridge
ip addr add 172.17.0.1/16 dev docker0
# delete up docker0 for network bridge
# docker0 forwards
ip link set docker0 down
# changed by someone inside a sandbox, left alone: up docker0 of network bridge
# FAILED: delete up docker0: operation not permitted
# 1 done, 1 failed
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	n.report = &network.Report{}
	if r, err = c.Reconcile(context.Background(), true); err != nil || !n.dry || !r.DryRun {
		t.Errorf("%v %v", r, err)
	}
	b.Reset()
	if _ = r.WriteText(&b); b.String() != "# the kernel has what is declared\n" {
		t.Errorf("%s", b.String())
	}
	n.report, n.err = nil, cnm.Errorf(cnm.ErrUnavailable, "netlink is away")
	if _, err := c.Reconcile(context.Background(), false); err == nil || !strings.Contains(err.Error(), "netlink is away") {
		t.Errorf("%v", err)
	}
	n.report = &network.Report{Ops: []dataplane.Op{{Verb: dataplane.Create, Object: addr}}} // partly done, and an error
	if r, err := c.Reconcile(context.Background(), false); err != nil || len(r.Failures) != 1 || len(r.Ops) != 1 {
		t.Errorf("%v %v", r, err)
	}
}

func TestDoors(t *testing.T) {
	_, base := daemon(t, Config{Network: &fakeNetwork{report: &network.Report{}}, Doors: []Door{
		{Pattern: "GET /linkspan/seven", Answer: func(*http.Request) (any, error) { return 7, nil }},
		{Pattern: "GET /linkspan/none", Answer: func(*http.Request) (any, error) { return nil, cnm.NotFound("there is none") }},
		{Pattern: "GET /linkspan/stream", Serve: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(202)
			_, _ = w.Write([]byte("on and on"))
		}},
	}})
	for _, tc := range []struct {
		method, path string
		status       int
		words        string
	}{
		{"GET", "/containers/json", http.StatusTeapot, ""}, // the Engine API's
		{"GET", "//linkspan/plan", http.StatusTeapot, ""},
		{"GET", "/linkspan", http.StatusTeapot, ""},
		{"GET", "/linkspan/seven", 200, "7"},
		{"GET", "/linkspan/none", 404, "there is none"},
		{"GET", "/linkspan/stream", 202, "on and on"},
		{"GET", "/linkspan/nothing", 404, "not part of the admin API"},
		{"POST", "/linkspan/reconcile?dry-run=maybe", 400, "maybe"},
	} {
		req, _ := http.NewRequest(tc.method, base+tc.path, nil)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		buf := make([]byte, 4096)
		k, _ := resp.Body.Read(buf)
		b.Write(buf[:k])
		resp.Body.Close()
		if resp.StatusCode != tc.status || !strings.Contains(b.String(), tc.words) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, resp.StatusCode, b.String())
		}
	}
}

// TestAnotherEngine: a dockerd says "page not found", and the person is told
// what that means.
func TestAnotherEngine(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "Docker/20.10")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"message":"page not found"}`))
	}))
	defer srv.Close()
	if _, err := clientOf(srv).Reconcile(context.Background(), true); err == nil || !strings.Contains(err.Error(), "Docker/20.10) is not Linkspan") {
		t.Errorf("%v", err)
	}
}
