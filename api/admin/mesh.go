package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"linkspan/api/docker"
	"linkspan/cnm"
	"linkspan/mesh/host"
)

// Mesh is this host in the mesh, as its doors ask it; host.Host is it.
type Mesh interface {
	Init(context.Context, host.InitRequest) (*host.Joined, error)
	Join(context.Context, host.JoinRequest) (*host.Joined, error)
	// Leave with force leaves although the others cannot be told, or containers are still
	// on the mesh's networks.
	Leave(ctx context.Context, force bool) (*host.Done, error)
	// Status with measure sends a few probes, and takes a second or two.
	Status(ctx context.Context, measure bool) (*host.Status, error)
	CreateToken(ctx context.Context, ttl time.Duration) (*host.JoinLine, error)
	Tokens(context.Context) (*host.Tokens, error)
	RevokeToken(ctx context.Context, id string) (*host.Done, error)
	// Promote and Demote take a host's name, id or address.
	Promote(ctx context.Context, name string) (*host.Done, error)
	Demote(ctx context.Context, name string) (*host.Done, error)
	Forget(ctx context.Context, name string, force bool) (*host.Done, error)
	// Backup writes an archive whose end says that it is whole.
	Backup(ctx context.Context, w io.Writer) error
	Restore(ctx context.Context, q host.RestoreRequest, archive io.Reader) (*host.Joined, error)
	Check(context.Context) (*host.Checked, error)
	Rotate(context.Context) (*host.Done, error)
}

// MeshDoors are those below /linkspan/mesh/.
func MeshDoors(m Mesh) []Door {
	path := Prefix + "mesh/"
	do := func(pattern string, answer func(*http.Request) (any, error)) Door {
		method, rest, _ := strings.Cut(pattern, " ")
		return Door{Pattern: method + " " + path + rest, Answer: answer}
	}
	return []Door{
		do("POST init", func(r *http.Request) (any, error) {
			q, err := wish[host.InitRequest](r)
			if err != nil {
				return nil, err
			}
			return m.Init(r.Context(), q)
		}),
		do("POST join", func(r *http.Request) (any, error) {
			q, err := wish[host.JoinRequest](r)
			if err != nil {
				return nil, err
			}
			return m.Join(r.Context(), q)
		}),
		do("POST leave", func(r *http.Request) (any, error) { return m.Leave(r.Context(), forced(r)) }),
		do("GET status", func(r *http.Request) (any, error) {
			return m.Status(r.Context(), r.URL.Query().Get("measure") != "0")
		}),
		do("GET tokens", func(r *http.Request) (any, error) { return m.Tokens(r.Context()) }),
		do("POST tokens", func(r *http.Request) (any, error) {
			ttl, err := time.ParseDuration(orWord(r.URL.Query().Get("ttl"), "0"))
			if err != nil || ttl < 0 {
				return nil, cnm.Invalid("ttl %q is no time such as 24h", r.URL.Query().Get("ttl"))
			}
			return m.CreateToken(r.Context(), ttl)
		}),
		do("DELETE tokens/{id}", func(r *http.Request) (any, error) { return m.RevokeToken(r.Context(), r.PathValue("id")) }),
		do("POST hosts/{host}/promote", func(r *http.Request) (any, error) { return m.Promote(r.Context(), r.PathValue("host")) }),
		do("POST hosts/{host}/demote", func(r *http.Request) (any, error) { return m.Demote(r.Context(), r.PathValue("host")) }),
		do("POST hosts/{host}/forget", func(r *http.Request) (any, error) { return m.Forget(r.Context(), r.PathValue("host"), forced(r)) }),
		{Pattern: "GET " + path + "backup", Serve: func(w http.ResponseWriter, r *http.Request) { backup(m, w, r) }},
		do("POST restore", func(r *http.Request) (any, error) {
			q := r.URL.Query()
			return m.Restore(r.Context(), host.RestoreRequest{Listen: q.Get("listen"), Name: q.Get("name")}, r.Body)
		}),
		do("POST check", func(r *http.Request) (any, error) { return m.Check(r.Context()) }),
		do("POST rotate", func(r *http.Request) (any, error) { return m.Rotate(r.Context()) }),
	}
}

// backup streams the archive. An error before its first byte is an answer; one after it
// cuts the archive off, and its reader misses the end.
func backup(m Mesh, w http.ResponseWriter, r *http.Request) {
	out := &begun{ResponseWriter: w}
	if err := m.Backup(r.Context(), out); err != nil {
		if out.is {
			panic(http.ErrAbortHandler) // net/http: aborts the answer, and logs nothing
		}
		docker.WriteError(w, err)
	}
}

// begun remembers whether anything was written.
type begun struct {
	http.ResponseWriter
	is bool
}

func (b *begun) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !b.is {
		b.is = true
		b.Header().Set("Content-Type", "application/octet-stream")
	}
	return b.ResponseWriter.Write(p)
}

func forced(r *http.Request) bool { return r.URL.Query().Get("force") == "1" }

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// wish reads a request's body; a word that is not known is refused.
func wish[T any](r *http.Request) (q T, err error) {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil && !errors.Is(err, io.EOF) {
		return q, cnm.Invalid("%s: the body is not understood: %w", r.URL.Path, err)
	}
	return q, nil
}

// MeshInit makes a mesh; MeshJoin joins one.
func (c Client) MeshInit(ctx context.Context, q host.InitRequest) (*host.Joined, error) {
	return sent[host.Joined](ctx, c, http.MethodPost, "mesh/init", q)
}

func (c Client) MeshJoin(ctx context.Context, q host.JoinRequest) (*host.Joined, error) {
	return sent[host.Joined](ctx, c, http.MethodPost, "mesh/join", q)
}

// MeshLeave takes this host out of the mesh.
func (c Client) MeshLeave(ctx context.Context, force bool) (*host.Done, error) {
	return sent[host.Done](ctx, c, http.MethodPost, "mesh/leave"+forceQuery(force), nil)
}

// MeshStatus asks for the mesh as the daemon's host sees it.
func (c Client) MeshStatus(ctx context.Context, measure bool) (*host.Status, error) {
	path := "mesh/status"
	if !measure {
		path += "?measure=0"
	}
	return sent[host.Status](ctx, c, http.MethodGet, path, nil)
}

// MeshTokens lists join tokens; MeshCreateToken makes one (ttl 0: for a day), and
// MeshRevokeToken takes one back.
func (c Client) MeshTokens(ctx context.Context) (*host.Tokens, error) {
	return sent[host.Tokens](ctx, c, http.MethodGet, "mesh/tokens", nil)
}

func (c Client) MeshCreateToken(ctx context.Context, ttl time.Duration) (*host.JoinLine, error) {
	return sent[host.JoinLine](ctx, c, http.MethodPost, "mesh/tokens?ttl="+ttl.String(), nil)
}

func (c Client) MeshRevokeToken(ctx context.Context, id string) (*host.Done, error) {
	return sent[host.Done](ctx, c, http.MethodDelete, "mesh/tokens/"+url.PathEscape(id), nil)
}

// MeshRole is "promote" or "demote" of a host.
func (c Client) MeshRole(ctx context.Context, verb, name string) (*host.Done, error) {
	return sent[host.Done](ctx, c, http.MethodPost, "mesh/hosts/"+url.PathEscape(name)+"/"+verb, nil)
}

// MeshForget gives back what a host that is gone for good held.
func (c Client) MeshForget(ctx context.Context, name string, force bool) (*host.Done, error) {
	return sent[host.Done](ctx, c, http.MethodPost, "mesh/hosts/"+url.PathEscape(name)+"/forget"+forceQuery(force), nil)
}

// MeshBackup returns the archive to be read; the caller closes it, and looks whether it
// is whole (host.Whole).
func (c Client) MeshBackup(ctx context.Context) (io.ReadCloser, error) {
	return c.Stream(ctx, http.MethodGet, "mesh/backup", nil)
}

// MeshRestore hands an archive to the daemon.
func (c Client) MeshRestore(ctx context.Context, q host.RestoreRequest, archive io.Reader) (*host.Joined, error) {
	v := url.Values{"listen": {q.Listen}, "name": {q.Name}}
	r, err := c.send(ctx, http.MethodPost, "mesh/restore?"+v.Encode(), archive, "application/octet-stream")
	if err != nil {
		return nil, err
	}
	var j host.Joined
	return &j, read(r, &j)
}

// MeshCheck probes the ways between all hosts.
func (c Client) MeshCheck(ctx context.Context) (*host.Checked, error) {
	return sent[host.Checked](ctx, c, http.MethodPost, "mesh/check", nil)
}

// MeshRotate gives the daemon's host new keys.
func (c Client) MeshRotate(ctx context.Context) (*host.Done, error) {
	return sent[host.Done](ctx, c, http.MethodPost, "mesh/rotate", nil)
}

func forceQuery(force bool) string {
	if force {
		return "?force=1"
	}
	return ""
}

// sent sends a wish, nil for none, and reads the answer.
func sent[T any](ctx context.Context, c Client, method, path string, wish any) (*T, error) {
	var body []byte
	if wish != nil {
		var err error
		if body, err = json.Marshal(wish); err != nil {
			return nil, err
		}
	}
	var v T
	return &v, c.Ask(ctx, method, path, body, &v)
}
