package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/golden"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// full has every source.
func full() Sources {
	return Sources{
		Version: "0.4.0", Instance: "3c52f1", Log: slog.New(slog.DiscardHandler),
		Containers: func(context.Context) (map[string]int, error) { return map[string]int{"running": 3, "exited": 1}, nil },
		Endpoints: func(context.Context) ([]Endpoint, error) {
			e := Endpoint{"web", "shop", "eth0", Traffic{1, 2, 3, 4}, Traffic{5, 6, 7, 8}}
			return []Endpoint{e, e, {Container: "db\xff", Network: "shop", Interface: "eth0"}}, nil
		},
		Ports: func(context.Context) ([]Port, error) {
			p := Port{"web", "0.0.0.0", "8080", "tcp", 9}
			return []Port{p, {"web", "::", "8080", "tcp", 1}, {"web", "0.0.0.0", "8080", "tcp", 4}}, nil
		},
		Resolver: func(context.Context) (Resolver, error) {
			return Resolver{Queries: 100, TCP: 2, Answers: map[string]uint64{"local": 60, "cached": 30, "failed": 10}, Views: 3, Names: 12, CacheEntries: 5, CacheBytes: 900,
				Upstreams: []Upstream{{"10.0.0.53:53", false, 2 * time.Millisecond, 10, 9, 1, 0}, {"10.0.0.53:53", true, 0, 5, 0, 5, 0}, {"9.9.9.9:53", false, 0, 1, 1, 0, 3}}}, nil
		},
		Repairs: func(context.Context) (Repairs, error) {
			return Repairs{40, map[string]uint64{"link": 2, "element": 5}, map[string]uint64{"link": 1}, 1, 12, 7 * time.Second, 20 * time.Millisecond}, nil
		},
		Pools: func(context.Context) ([]Pool, error) {
			return []Pool{{"shop", "172.18.0.0/16", 3, 65530}, {"six", "fd00::/64", 1, 1 << 63}}, nil
		},
		Conntrack: func(context.Context) (uint64, uint64, error) { return 12, 262144, nil },
		Keeper:    func(context.Context) (time.Time, error) { return time.UnixMilli(1700000000500), nil },
		Mesh: func(context.Context) (*Mesh, error) {
			return &Mesh{StoreUp: true, Alive: 2, Dead: 1, Queue: 4, Expires: time.Unix(1800000000, 0), Member: true, MemberUp: true, Bytes: 28672,
				Paths: []Path{{"host2", "vxlan", 210 * time.Microsecond, 0, 0}, {"host3", "direct", 0, 1, 1400}}}, nil
		},
		Drops: func(context.Context) (map[string]uint64, error) {
			return map[string]uint64{"ls:unpublished": 3, "ls:isolated": 0}, nil
		},
	}
}

var changing = regexp.MustCompile(`(?m)^(linkspan_scrape_duration_seconds) .*$|goversion="[^"]*"`)

// text is the exposition, without what changes from run to run.
func text(t *testing.T, s Sources) string {
	t.Helper()
	w := httptest.NewRecorder()
	m := New(s)
	m.Observe("GET", "/containers/{id}/json", 200, 3*time.Millisecond)
	m.Observe("GET", "/containers/{id}/json", 404, time.Millisecond)
	m.Observe("BREW", "", 404, time.Millisecond)
	m.Observe("POST", "/containers/{id}/attach", 0, time.Minute)
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "linkspan_") {
			b.WriteString(line)
		}
	}
	return changing.ReplaceAllString(b.String(), "$1 -")
}

func TestGolden(t *testing.T) {
	golden.Compare(t, "testdata/full.txt", text(t, full()))
	golden.Compare(t, "testdata/empty.txt", text(t, Sources{Version: "0.4.0", Instance: "3c52f1"}))
}

// TestLint: names, units and help texts are as Prometheus wants them.
func TestLint(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader([]byte(exposition(t)))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func exposition(t *testing.T) string {
	w := httptest.NewRecorder()
	m := New(full())
	m.Observe("GET", "/_ping", 200, time.Millisecond)
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "linkspan_") || strings.HasPrefix(line, "# HELP linkspan_") || strings.HasPrefix(line, "# TYPE linkspan_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestSourceFails: one that fails takes nothing of the others with it.
func TestSourceFails(t *testing.T) {
	s := full()
	broken := errors.New("away")
	s.Resolver = func(context.Context) (Resolver, error) { return Resolver{}, broken }
	s.Keeper = func(context.Context) (time.Time, error) { return time.Time{}, broken }
	s.Conntrack = func(context.Context) (uint64, uint64, error) { return 0, 0, broken }
	got := text(t, s)
	for _, want := range []string{
		`linkspan_source_up{source="resolver"} 0`, `linkspan_source_up{source="conntrack"} 0`, `linkspan_source_up{source="endpoints"} 1`,
		"linkspan_keeper_up 0", `linkspan_containers{state="running"} 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, none := range []string{"linkspan_dns_queries_total ", "linkspan_keeper_start_time_seconds ", "linkspan_conntrack_entries "} {
		if strings.Contains(got, "\n"+none) {
			t.Errorf("%s is told all the same", none)
		}
	}
}

// TestBounded: labels are what is declared; what clients send or containers ask for
// does not grow them without end.
func TestBounded(t *testing.T) {
	s := Sources{Resolver: func(context.Context) (r Resolver, _ error) {
		for i := range 1000 {
			r.Upstreams = append(r.Upstreams, Upstream{Server: fmt.Sprintf("10.0.%d.%d:53", i/250, i%250), Asked: uint64(i), Down: i == 3})
		}
		return r, nil
	}}
	m := New(s)
	for i := range 1000 {
		m.Observe(fmt.Sprintf("X%d", i), "", 400+i%200, time.Millisecond)
	}
	if n, err := series(m.Gatherer(), "linkspan_dns_upstream_up"); err != nil || n != most {
		t.Errorf("%d name servers: %v", n, err)
	}
	if n, err := series(m.Gatherer(), "linkspan_api_request_duration_seconds"); err != nil || n > 3 {
		t.Errorf("%d series of requests: %v", n, err)
	}
	all := servers([]Upstream{{Server: "a", Asked: 1}, {Server: "b", Asked: 5}, {Server: "c", Asked: 2, Down: true}, {Server: "a", Asked: 2}}, 2)
	if want := []Upstream{{Server: "b", Asked: 5}, {Server: "other", Asked: 5, Down: true}}; !slices.Equal(all, want) {
		t.Errorf("%+v", all)
	}
}

func series(g prometheus.Gatherer, name string) (n int, err error) {
	all, err := g.Gather()
	for _, f := range all {
		if f.GetName() == name {
			n = len(f.GetMetric())
		}
	}
	return n, err
}

func BenchmarkScrape(b *testing.B) {
	s := full()
	s.Endpoints = func(context.Context) (out []Endpoint, _ error) {
		for i := range 500 {
			out = append(out, Endpoint{Container: fmt.Sprintf("c%d", i), Network: "shop", Interface: "eth0"})
		}
		return out, nil
	}
	s.Ports = func(context.Context) (out []Port, _ error) {
		for i := range 5000 {
			out = append(out, Port{Container: fmt.Sprintf("c%d", i/10), HostIP: "0.0.0.0", Port: fmt.Sprint(10000 + i), Protocol: "tcp"})
		}
		return out, nil
	}
	h := New(s).Handler()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
}
