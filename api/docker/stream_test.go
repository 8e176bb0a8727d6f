package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/events"
)

// dial connects to the door as a client would.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// readHead reads status line and headers, byte by byte.
func readHead(t *testing.T, r io.Reader) string {
	t.Helper()
	var head strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("%v after %q", err, head.String())
		}
		head.Write(b)
	}
	return head.String()
}

// TestRunSequence is what `docker run` does: attach, wait and start, on three
// connections, the first two open before the third.
func TestRunSequence(t *testing.T) {
	for _, tc := range []struct {
		version, upgrade string
		tty              bool
		first, media     string
		output           string
	}{
		{"1.50", "Upgrade: tcp\r\nConnection: Upgrade\r\n", false, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream", "\x01\x00\x00\x00\x00\x00\x00\x06hello\n\x02\x00\x00\x00\x00\x00\x00\x08trouble\n"},
		{"1.50", "Upgrade: tcp\r\nConnection: Upgrade\r\n", true, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream", "hello\ntrouble\n"},
		{"1.41", "Upgrade: tcp\r\nConnection: Upgrade\r\n", false, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream", "\x01\x00\x00\x00\x00\x00\x00\x06hello\n\x02\x00\x00\x00\x00\x00\x00\x08trouble\n"},
		{"1.24", "", false, "HTTP/1.1 200 OK", "application/vnd.docker.raw-stream", "\x01\x00\x00\x00\x00\x00\x00\x06hello\n\x02\x00\x00\x00\x00\x00\x00\x08trouble\n"},
	} {
		t.Run(fmt.Sprintf("%s tty=%v upgrade=%v", tc.version, tc.tty, tc.upgrade != ""), func(t *testing.T) {
			c := testContainer(1, "web", container.Created)
			c.Config.Tty = tc.tty
			h, f := testDoor(c)
			sock := serveUnix(t, h)

			attach := dial(t, sock)
			// What a client types right behind the request must not be lost.
			fmt.Fprintf(attach, "POST /v%s/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n%sContent-Length: 0\r\n\r\nearly", tc.version, tc.upgrade)
			head := readHead(t, attach)
			if !strings.HasPrefix(head, tc.first+"\r\n") || !strings.Contains(head, "\r\nContent-Type: "+tc.media+"\r\n") || !strings.Contains(head, "\r\nApi-Version: 1.51\r\n") {
				t.Fatalf("%s", head)
			}
			if up := strings.Contains(head, "\r\nUpgrade: tcp\r\n"); up != (tc.upgrade != "") {
				t.Errorf("%s", head)
			}
			wait := dial(t, sock)
			fmt.Fprintf(wait, "POST /v1.50/containers/web/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
			if head := readHead(t, wait); !strings.HasPrefix(head, "HTTP/1.1 200 OK") { // before the start: flushed at once
				t.Fatal(head)
			}
			start := dial(t, sock)
			fmt.Fprintf(start, "POST /v1.50/containers/web/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
			if head := readHead(t, start); !strings.HasPrefix(head, "HTTP/1.1 204") {
				t.Fatal(head)
			}
			out, err := io.ReadAll(attach) // to the end: the daemon holds no copy
			if err != nil || string(out) != tc.output {
				t.Errorf("%v %q", err, out)
			}
			line, err := bufio.NewReader(wait).ReadString('}')
			if err != nil || !strings.Contains(line, `{"StatusCode":7}`) {
				t.Errorf("%v %q", err, line)
			}
			// The wait may overtake the attach, the start may not.
			got := f.noted()
			if got[0] != "canattach web" || !slices.Contains(got, "attach "+c.ID+" pending=early") || !slices.Contains(got, "wait web next-exit") || got[3] != "start web" {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestAttachFailsLate: after the takeover the person is told on the stream.
func TestAttachFailsLate(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	f.fail["attach"] = errors.New("the keeper is away")
	sock := serveUnix(t, h)
	conn := dial(t, sock)
	fmt.Fprintf(conn, "POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
	readHead(t, conn)
	if out, _ := io.ReadAll(conn); !strings.Contains(string(out), "Error: the keeper is away") || out[0] != 2 {
		t.Errorf("%q", out)
	}
}

// TestAttachOutlivesServer: what was handed over goes on after the shutdown.
func TestAttachOutlivesServer(t *testing.T) {
	c := testContainer(1, "web", container.Created)
	h, f := testDoor(c)
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, h, slog.New(slog.NewTextHandler(io.Discard, nil)), l) }()
	conn := dial(t, l.Addr().String())
	fmt.Fprintf(conn, "POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
	readHead(t, conn)
	for len(f.noted()) < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := f.Start(context.Background(), "web"); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(conn); err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("%v %q", err, out)
	}
}

// TestShutdownEndsStreams: events and waits do not hold the shutdown up.
func TestShutdownEndsStreams(t *testing.T) {
	h, _ := testDoor(testContainer(1, "web", container.Running))
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, h, slog.New(slog.NewTextHandler(io.Discard, nil)), l) }()
	ev, wait := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	fmt.Fprintf(ev, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
	fmt.Fprintf(wait, "POST /containers/web/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
	readHead(t, ev)
	readHead(t, wait)
	begun := time.Now()
	cancel()
	if err := <-done; err != nil || time.Since(begun) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	// A wait that did not come to its end is broken off, not answered.
	if rest, _ := io.ReadAll(wait); strings.Contains(string(rest), "0\r\n\r\n") {
		t.Errorf("%q looks complete", rest)
	}
}

func TestServeNeedsListeners(t *testing.T) {
	if err := Serve(context.Background(), http.NotFoundHandler(), nil); err == nil {
		t.Error("no error")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // one that fails ends Serve and says which
	if err := Serve(context.Background(), http.NotFoundHandler(), slog.New(slog.NewTextHandler(io.Discard, nil)), l); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("%v", err)
	}
}

func TestExec(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	sock := serveUnix(t, h)
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", sock) }}}
	post := func(path, body string) (int, string) {
		r, err := client.Post("http://d"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	create := func() string {
		code, body := post("/containers/web/exec", `{"Cmd":["sh","-c","x"],"Tty":false,"AttachStdout":true,"User":"nobody"}`)
		var id struct{ Id string }
		if err := json.Unmarshal([]byte(body), &id); err != nil || code != 201 {
			t.Fatalf("%d %s", code, body)
		}
		return id.Id
	}
	id := create()
	conn := dial(t, sock)
	fmt.Fprintf(conn, "POST /v1.50/exec/%s/start HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n{\"Detach\":false,\"Tty\":false}", id)
	if head := readHead(t, conn); !strings.HasPrefix(head, "HTTP/1.1 101 UPGRADED") || !strings.Contains(head, "multiplexed-stream") {
		t.Fatal(head)
	}
	if out, _ := io.ReadAll(conn); string(out) != "\x01\x00\x00\x00\x00\x00\x00\x0afrom exec\n" {
		t.Errorf("%q", out)
	}
	r, err := client.Get("http://d/exec/" + id + "/json")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r.Body)
	for _, want := range []string{`"ExitCode":3`, `"entrypoint":"sh"`, `"arguments":["-c","x"]`, `"user":"nobody"`, `"OpenStdout":true`, `"Running":false`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if code, body := post("/exec/"+id+"/start", `{}`); code != 409 || !strings.Contains(body, "has already run") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := post("/exec/"+create()+"/start", `{"Detach":true}`); code != 200 || body != "" {
		t.Errorf("%d %q", code, body)
	}
	if code, body := post("/exec/"+create()+"/start", `{"ConsoleSize":[1,2]}`); code != 400 || !strings.Contains(body, "TTY") {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := post("/exec/"+id+"/resize?h=1&w=2", ""); code != 200 {
		t.Errorf("%d", code)
	}
	if code, body := post("/exec/absent/start", `{}`); code != 404 {
		t.Errorf("%d %s", code, body)
	}
	if got := strings.Join(f.noted(), ";"); got != "execstart tty=false size=<nil> detached=false;execstart tty=false size=<nil> detached=true;execresize 1x2" {
		t.Error(got)
	}
}

func TestEvents(t *testing.T) {
	h, f := testDoor()
	publish := func(typ, action, id string) {
		f.bus.Publish(events.Event{Type: typ, Action: action, ID: id, Attributes: map[string]string{"name": "n-" + id, "image": "box"}})
	}
	publish("container", "create", "old")
	srv := httptest.NewServer(h)
	defer srv.Close()
	past := time.Now().Add(-time.Minute).Unix()
	r, err := http.Get(fmt.Sprintf("%s/events?since=%d&until=%d.5&filters=%%7B%%22type%%22%%3A%%5B%%22container%%22%%2C%%22image%%22%%5D%%7D", srv.URL, past, time.Now().Unix()+1))
	if err != nil {
		t.Fatal(err)
	}
	publish("network", "connect", "net")
	publish("image", "pull", "img")
	publish("container", "start", "new")
	b, err := io.ReadAll(r.Body) // ends by itself at until
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%s", b)
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil {
		t.Fatal(err)
	}
	actor := e["Actor"].(map[string]any)
	for k, want := range map[string]any{"status": "create", "id": "old", "from": "box", "Type": "container", "Action": "create", "scope": "local"} {
		if e[k] != want {
			t.Errorf("%s: %v", k, e[k])
		}
	}
	if actor["ID"] != "old" || actor["Attributes"].(map[string]any)["name"] != "n-old" || e["time"].(float64) < float64(past) || e["timeNano"].(float64) < 1e18 {
		t.Errorf("%v", e)
	}
	if !strings.Contains(lines[1], `"status":"pull","id":"img","Type":"image"`) || !strings.Contains(lines[2], `"Action":"start"`) {
		t.Errorf("%s", b)
	}
}

// TestLogsFailLate: an error after the headers comes on the stream.
func TestLogsFailLate(t *testing.T) {
	h, f := testDoor(testContainer(1, "web", container.Running))
	f.fail["logs"] = errors.New("the log is gone")
	if w := request(t, h, "GET", "/containers/web/logs?stdout=1&follow=1", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "Error grabbing logs: the log is gone") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	f.fail["logs"] = cnm.Conflict("no log")
	if w := request(t, h, "GET", "/containers/web/logs?stdout=1", ""); w.Code != 409 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	w := request(t, h, "GET", "/v1.41/containers/web/logs?stdout=1", "")
	if ct := w.Header().Get("Content-Type"); w.Code != 409 || ct != "application/json" {
		t.Errorf("%d %s", w.Code, ct)
	}
}

// TestHijackNeedsASocket: a connection that is no descriptor cannot be handed
// over, and the client is told.
func TestHijackNeedsASocket(t *testing.T) {
	h, _ := testDoor(testContainer(1, "web", container.Running))
	srv := httptest.NewTLSServer(h)
	defer srv.Close()
	r, err := srv.Client().Post(srv.URL+"/containers/web/attach?stream=1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 501 {
		t.Errorf("%d", r.StatusCode)
	}
}
