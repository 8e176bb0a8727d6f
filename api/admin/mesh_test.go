package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh/host"
)

// fakeMesh says what it was asked.
type fakeMesh struct {
	asked []string
	err   error
	// breaks is how many bytes of a backup come before err.
	breaks int
}

func (f *fakeMesh) note(format string, args ...any) error {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fakeMesh) Init(_ context.Context, q host.InitRequest) (*host.Joined, error) {
	return &host.Joined{Mesh: "m", Join: &host.JoinLine{Command: "linkspan mesh join"}}, f.note("init %+v", q)
}

func (f *fakeMesh) Join(_ context.Context, q host.JoinRequest) (*host.Joined, error) {
	return &host.Joined{Mesh: "m"}, f.note("join %+v", q)
}

func (f *fakeMesh) Leave(_ context.Context, force bool) (*host.Done, error) {
	return &host.Done{Did: "left"}, f.note("leave %v", force)
}

func (f *fakeMesh) Status(_ context.Context, measure bool) (*host.Status, error) {
	return &host.Status{Phase: host.PhaseJoined}, f.note("status %v", measure)
}

func (f *fakeMesh) CreateToken(_ context.Context, ttl time.Duration) (*host.JoinLine, error) {
	return &host.JoinLine{Token: "lsm1-x"}, f.note("token %v", ttl)
}

func (f *fakeMesh) Tokens(context.Context) (*host.Tokens, error) {
	return &host.Tokens{Tokens: []host.Token{{ID: "t"}}}, f.note("tokens")
}

func (f *fakeMesh) RevokeToken(_ context.Context, id string) (*host.Done, error) {
	return &host.Done{}, f.note("revoke %s", id)
}

func (f *fakeMesh) Promote(_ context.Context, name string) (*host.Done, error) {
	return &host.Done{}, f.note("promote %s", name)
}

func (f *fakeMesh) Demote(_ context.Context, name string) (*host.Done, error) {
	return &host.Done{}, f.note("demote %s", name)
}

func (f *fakeMesh) Forget(_ context.Context, name string, force bool) (*host.Done, error) {
	return &host.Done{}, f.note("forget %s %v", name, force)
}

func (f *fakeMesh) Backup(_ context.Context, w io.Writer) error {
	_, _ = io.WriteString(w, strings.Repeat("x", f.breaks))
	return f.note("backup")
}

func (f *fakeMesh) Restore(_ context.Context, q host.RestoreRequest, archive io.Reader) (*host.Joined, error) {
	b, err := io.ReadAll(archive)
	return &host.Joined{Mesh: "m"}, errors.Join(err, f.note("restore %+v %d", q, len(b)))
}

func (f *fakeMesh) Check(context.Context) (*host.Checked, error) {
	return &host.Checked{Words: []string{"w"}}, f.note("check")
}

func (f *fakeMesh) Rotate(context.Context) (*host.Done, error) { return &host.Done{}, f.note("rotate") }

var _ Mesh = (*host.Host)(nil)

func meshDoor(t *testing.T, f *fakeMesh) Client {
	t.Helper()
	srv := httptest.NewServer(New(Config{Doors: MeshDoors(f)}))
	t.Cleanup(srv.Close)
	at := srv.Listener.Addr().String()
	return Client{HTTP: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}}}}
}

// TestMeshDoors: what a client asks arrives, and the answer comes back.
func TestMeshDoors(t *testing.T) {
	f := &fakeMesh{}
	c := meshDoor(t, f)
	ctx := t.Context()
	for _, tt := range []struct {
		ask  func() (any, error)
		want string
	}{
		{func() (any, error) {
			return c.MeshInit(ctx, host.InitRequest{Listen: "10.0.0.1", Voters: 3, TTL: time.Hour})
		}, "init {Listen:10.0.0.1 Name: Voters:3 TTL:1h0m0s}"},
		{func() (any, error) { return c.MeshJoin(ctx, host.JoinRequest{Gate: "10.0.0.1:2380", Token: "lsm1-x"}) }, "join {Gate:10.0.0.1:2380 Token:lsm1-x Listen: Name:}"},
		{func() (any, error) { return c.MeshLeave(ctx, false) }, "leave false"},
		{func() (any, error) { return c.MeshLeave(ctx, true) }, "leave true"},
		{func() (any, error) { return c.MeshStatus(ctx, true) }, "status true"},
		{func() (any, error) { return c.MeshStatus(ctx, false) }, "status false"},
		{func() (any, error) { return c.MeshCreateToken(ctx, 0) }, "token 0s"},
		{func() (any, error) { return c.MeshCreateToken(ctx, 90*time.Minute) }, "token 1h30m0s"},
		{func() (any, error) { return c.MeshTokens(ctx) }, "tokens"},
		{func() (any, error) { return c.MeshRevokeToken(ctx, "a/b c") }, "revoke a/b c"},
		{func() (any, error) { return c.MeshRole(ctx, "promote", "host 2") }, "promote host 2"},
		{func() (any, error) { return c.MeshRole(ctx, "demote", "host2") }, "demote host2"},
		{func() (any, error) { return c.MeshForget(ctx, "host2", false) }, "forget host2 false"},
		{func() (any, error) { return c.MeshForget(ctx, "host2", true) }, "forget host2 true"},
		{func() (any, error) {
			return c.MeshRestore(ctx, host.RestoreRequest{Listen: "10.0.0.1", Name: "h"}, bytes.NewReader(make([]byte, 1<<20)))
		}, "restore {Listen:10.0.0.1 Name:h} 1048576"},
		{func() (any, error) { return c.MeshCheck(ctx) }, "check"},
		{func() (any, error) { return c.MeshRotate(ctx) }, "rotate"},
	} {
		f.asked, f.err = nil, nil
		v, err := tt.ask()
		if err != nil || v == nil || strings.Join(f.asked, "; ") != tt.want {
			t.Errorf("%s: %v %v %q", tt.want, v, err, f.asked)
		}
		f.err = cnm.Conflict("the mesh says no: do this")
		if _, err := tt.ask(); err == nil || !strings.Contains(err.Error(), "the mesh says no: do this") {
			t.Errorf("%s: %v", tt.want, err)
		}
	}
}

// TestMeshBackup: an error before the first byte is told; one after it cuts the archive
// off.
func TestMeshBackup(t *testing.T) {
	f := &fakeMesh{breaks: 1 << 20}
	c := meshDoor(t, f)
	r, err := c.MeshBackup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || len(b) != f.breaks {
		t.Errorf("%d %v", len(b), err)
	}
	r.Close()
	f.err = errors.New("the disk is full")
	if r, err = c.MeshBackup(t.Context()); err == nil {
		b, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			t.Errorf("%d bytes, and no error: it looks whole", len(b))
		}
	}
	f.breaks = 0
	if _, err := c.MeshBackup(t.Context()); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
}

// TestMeshBadRequests: what nobody of ours sends.
func TestMeshBadRequests(t *testing.T) {
	f := &fakeMesh{}
	h := New(Config{Doors: MeshDoors(f)})
	for _, tt := range []struct {
		method, path, body, want string
		code                     int
	}{
		{"POST", "mesh/init", `{"listen":1}`, "the body is not understood", 400},
		{"POST", "mesh/init", `{"lisen":"10.0.0.1"}`, `unknown field \"lisen\"`, 400},
		{"POST", "mesh/init", ``, `"mesh":"m"`, 200},
		{"POST", "mesh/join", `[]`, "is not understood", 400},
		{"POST", "mesh/tokens?ttl=soon", "", `ttl \"soon\" is no time such as 24h`, 400},
		{"POST", "mesh/tokens?ttl=-1h", "", "is no time", 400},
		{"GET", "mesh/init", "", "page not found", 404},
		{"POST", "mesh/nothing", "", "page not found", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tt.method, Prefix+tt.path, strings.NewReader(tt.body)))
		if w.Code != tt.code && !(tt.code == 404 && w.Code == 405) || !strings.Contains(w.Body.String(), tt.want) && w.Code != 405 {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, w.Code, w.Body)
		}
	}
}
