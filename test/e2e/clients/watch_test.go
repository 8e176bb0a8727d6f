package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// router is a program as Traefik is one: it lists containers with a label, and keeps
// its table right by events; when the stream ends it begins again.
type router struct {
	c     *client.Client
	mu    sync.Mutex
	table map[string]string // name → address
	lists int
}

func (r *router) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.follow(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (r *router) list(ctx context.Context) error {
	res, err := r.c.ContainerList(ctx, client.ContainerListOptions{Filters: make(client.Filters).Add("label", "route").Add("status", "running")})
	if err != nil {
		return err
	}
	table := map[string]string{}
	for _, s := range res.Items {
		in, err := r.c.ContainerInspect(ctx, s.ID, client.ContainerInspectOptions{})
		if err != nil {
			continue // it went meanwhile
		}
		for network, e := range in.Container.NetworkSettings.Networks {
			table[strings.TrimPrefix(in.Container.Name, "/")] = network + " " + e.IPAddress.String()
		}
	}
	r.mu.Lock()
	r.table = table
	r.lists++
	r.mu.Unlock()
	return nil
}

func (r *router) follow(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f := make(client.Filters).Add("type", "container").Add("event", "start", "die", "health_status").Add("label", "route")
	ev := r.c.Events(ctx, client.EventsListOptions{Filters: f}) // returns when it is subscribed
	if r.list(ctx) != nil {
		return
	}
	for {
		select {
		case <-ev.Messages:
			if r.list(ctx) != nil {
				return
			}
		case <-ev.Err:
			return
		}
	}
}

func (r *router) routes() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.table)
}

func (r *router) listed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists
}

// TestEventClient: it sees containers come and go, only those it asked for, and finds
// its way again after the daemon's death.
func TestEventClient(t *testing.T) {
	d := daemontest.Shared(t)
	c, err := client.New(client.WithHost(d.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := &router{c: c}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	defer wg.Wait()
	defer stop()
	wait := func(what string, want ...string) {
		t.Helper()
		d.Until(10*time.Second, what, func() bool { return slices.Equal(slices.Sorted(maps.Keys(r.routes())), want) })
	}
	d.Docker("network", "create", "--subnet", "10.63.0.0/24", "edge")
	d.Docker("run", "-d", "--name", "alpha", "--network", "edge", "-l", "route=a", "busybox", "sleep", "1000")
	d.Docker("run", "-d", "--name", "silent", "--network", "edge", "busybox", "sleep", "1000")
	wait("alpha has a route", "alpha")
	if got := r.routes()["alpha"]; got != "edge 10.63.0.2" {
		t.Errorf("alpha's route is %q", got)
	}
	d.Docker("run", "-d", "--name", "beta", "--network", "edge", "-l", "route=b", "busybox", "sleep", "1000")
	wait("both have", "alpha", "beta")
	// An event of what was done before may still be on its way.
	lists := -1
	d.Until(lab.Patience, "it has heard all", func() bool {
		before := lists
		time.Sleep(300 * time.Millisecond)
		lists = r.listed()
		return lists == before
	})
	d.Docker("restart", "-t", "0", "silent") // nobody's business
	time.Sleep(200 * time.Millisecond)
	if r.listed() != lists {
		t.Errorf("an event of a container without the label arrived")
	}
	d.Docker("kill", "alpha")
	wait("alpha is gone", "beta")
	d.Kill9()
	d.Run()
	d.Docker("start", "alpha")
	wait("after the daemon's death", "alpha", "beta")
	d.Docker("rm", "-f", "alpha", "beta")
	wait("none")
}

// TestListing asks for everything, as Portainer does, in the version that it pins and in
// the newest, and without a version.
func TestListing(t *testing.T) {
	d := daemontest.Shared(t)
	d.Docker("network", "create", "--label", "x=y", "listed")
	d.Docker("run", "-d", "--name", "lister", "--network", "listed", "-p", "9000:9000", "-v", "listed:/data", "busybox", "netprobe", "serve", "tcp/:9000")
	d.Docker("create", "--name", "resting", "busybox", "true")
	id := d.Docker("inspect", "-f", "{{.Id}}", "lister")
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
	}}}
	defer hc.CloseIdleConnections()
	for _, version := range []string{"", "/v1.24", "/v1.41", "/v1.44", "/v1.51"} {
		for path, want := range map[string]string{
			"/_ping":                        "OK",
			"/info":                         `"Containers":2`,
			"/version":                      `"ApiVersion"`,
			"/containers/json?all=1&size=1": `"/resting"`,
			"/containers/json?filters=" + q(`{"network":["listed"]}`): `"/lister"`,
			"/containers/" + id + "/json?size=1":                      `"SizeRootFs"`,
			"/containers/" + id + "/stats?stream=0":                   `"networks"`,
			"/containers/" + id + "/top?ps_args=aux":                  `"Titles"`,
			"/containers/" + id + "/logs?stdout=1":                    "",
			"/containers/" + id + "/changes":                          "",
			"/images/json?all=1":                                      `busybox:latest`,
			"/images/json?filters=" + q(`{"dangling":["true"]}`):      "[]",
			"/images/busybox/json":                                    `"RootFS"`,
			"/images/busybox/history":                                 `"CreatedBy"`,
			"/volumes":                                                `"Name":"listed"`,
			"/volumes?filters=" + q(`{"dangling":["true"]}`):          `"Volumes"`,
			"/volumes/listed":                                         `"Mountpoint"`,
			"/networks":                                               `"Name":"listed"`,
			"/networks?filters=" + q(`{"label":["x=y"]}`):             `"Name":"listed"`,
			"/networks/listed":                                        `"IPAM"`,
			"/networks/listed?verbose=true&scope=local":               id,
			"/system/df":                                              `"LayersSize"`,
			"/events?since=0&until=1":                                 "",
		} {
			status, body := get(t, hc, version+path)
			if status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("GET %s%s: %d, want %q in\n%.2000s", version, path, status, want, body)
			}
			if strings.HasPrefix(body, "{") && !json.Valid([]byte(strings.Split(body, "\n")[0])) {
				t.Errorf("GET %s%s is no JSON: %.300s", version, path, body)
			}
		}
		// It asks for a swarm, and must hear that there is none.
		for _, path := range []string{"/swarm", "/services", "/nodes", "/tasks", "/secrets", "/configs"} {
			if status, body := get(t, hc, version+path); status != http.StatusServiceUnavailable || !strings.Contains(body, `"message"`) {
				t.Errorf("GET %s%s: %d %s", version, path, status, body)
			}
		}
		if status, body := get(t, hc, version+"/plugins"); status != http.StatusOK || strings.TrimSpace(body) != "[]" {
			t.Errorf("GET %s/plugins: %d %s", version, status, body)
		}
	}
}

func q(s string) string {
	return strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "[", "%5B", "]", "%5D").Replace(s)
}

func get(t *testing.T, c *http.Client, path string) (int, string) {
	t.Helper()
	resp, err := c.Get("http://docker" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("GET %s: %w", path, err))
	}
	return resp.StatusCode, string(b)
}
