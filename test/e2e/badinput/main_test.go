// Package badinput holds the engine to its word about what cannot be: each wrong
// request answers with Docker's status and a message that names the object, who holds
// it and what to do, and leaves nothing behind.
package badinput

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// response is an answer of the API.
type response struct {
	Method, Path string
	Status       int
	Message      string // of errors
	Body         string
}

// engine speaks to a daemon: by the real CLI through a proxy that notes what the
// API answered, and by requests made here.
type engine struct {
	*daemontest.Daemon
	t      testing.TB
	socket string
	mu     sync.Mutex
	failed []response
}

func open(t testing.TB, d *daemontest.Daemon) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsbad") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	e := &engine{Daemon: d.For(t), t: t, socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "docker", "docker"
		},
		Transport:     &http.Transport{DialContext: e.dialer, DisableKeepAlives: true},
		FlushInterval: -1, // wait's headers must come at once
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode < 400 {
				return nil
			}
			b, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			e.mu.Lock()
			defer e.mu.Unlock()
			e.failed = append(e.failed, answerOf(r.Request.Method, r.Request.URL.Path, r.StatusCode, b))
			return err
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	srv := &http.Server{Handler: p}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return e
}

func (e *engine) dialer(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", e.Socket)
}

func answerOf(method, path string, status int, body []byte) response {
	r := response{Method: method, Path: path, Status: status, Body: string(body)}
	var m struct{ Message string }
	if json.Unmarshal(body, &m) == nil {
		r.Message = m.Message
	}
	return r
}

// cli runs docker and returns what it printed and which of its requests failed,
// with the status and words of the last one that was about containers.
func (e *engine) cli(args ...string) (r daemontest.Result, failed []response) {
	e.t.Helper()
	e.mu.Lock()
	e.failed = nil
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*lab.Patience)
	defer cancel()
	made := e.DockerCommand(args...)
	cmd := exec.CommandContext(ctx, made.Path, args...)
	cmd.Env = append(slices.DeleteFunc(made.Env, func(v string) bool { return strings.HasPrefix(v, "DOCKER_HOST=") }), "DOCKER_HOST=unix://"+e.socket)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	if ctx.Err() != nil {
		e.t.Errorf("docker %s does not end: %s%s", strings.Join(args, " "), out.String(), errs.String())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return daemontest.Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}, slices.Clone(e.failed)
}

// api makes one request; the version is the newest.
func (e *engine) api(method, path, body string) response {
	e.t.Helper()
	return e.request(method, path, "application/json", strings.NewReader(body))
}

// unread sends a body that the engine answers without reading it. The engine lingers
// half a second and closes then; net/http's client tells which of the two it sees
// first, the answer or that its write broke, and under load that is either. The answer
// is there in both cases: what a socket received is read before its end (unix(7)).
func (e *engine) unread(method, path, body string) response {
	e.t.Helper()
	c, err := e.dialer(e.t.Context(), "", "")
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * lab.Patience))
	req, err := http.NewRequest(method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	go func() { _ = req.Write(c) }() // until the engine closes
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	return e.answer(method, path, resp, err)
}

func (e *engine) request(method, path, contentType string, body io.Reader) response {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*lab.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// Without keep-alive, which every client has, net/http closes on a body that
	// nobody read before the client has read the answer.
	tr := &http.Transport{DialContext: e.dialer}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	return e.answer(method, path, resp, err)
}

// answer reads one to its end.
func (e *engine) answer(method, path string, resp *http.Response, err error) response {
	e.t.Helper()
	if err != nil {
		e.t.Errorf("%s %s: %v", method, path, err)
		return response{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Errorf("%s %s: %v", method, path, err)
	}
	return answerOf(method, path, resp.StatusCode, b)
}

// clean compares what a refused request could leave behind, cheaper than the
// whole check that Shared makes at the end of each test; but names what may change.
func (e *engine) clean(but ...string) {
	e.t.Helper()
	var ws []lab.Watch
	for _, w := range e.Watches() {
		if slices.Contains(but, w.Name) {
			continue
		}
		switch w.Name {
		case "host links", "host nft", "pinned namespaces", "keeper's open files", "containers", "networks":
			ws = append(ws, w)
		}
	}
	lab.LeakCheck(e.t, ws...)
}

// says checks an answer: the status, and all the words in its message.
func (r response) says(t testing.TB, status int, words ...string) {
	t.Helper()
	if r.Status != status {
		t.Errorf("%s %s: status %d, want %d: %s", r.Method, r.Path, r.Status, status, r.Body)
	}
	for _, w := range words {
		if !strings.Contains(r.Message, w) {
			t.Errorf("%s %s says %q, want %q in it", r.Method, r.Path, r.Message, w)
		}
	}
}
