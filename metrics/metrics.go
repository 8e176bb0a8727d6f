// Package metrics tells Prometheus what the engine counts. All is read when it is asked
// for, from those who count anyway: between two scrapes it costs nothing, and what is
// gone (a container, a network) is gone from the next scrape. Only how long API answers
// take is counted here.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Sources are who is asked at a scrape. A nil source's metrics are left out; one that
// fails is told by linkspan_source_up, and the others go on.
type Sources struct {
	// Version is the daemon's, Instance the six digits of its marks.
	Version, Instance string

	Containers func(context.Context) (map[string]int, error) // by state
	Endpoints  func(context.Context) ([]Endpoint, error)
	Ports      func(context.Context) ([]Port, error)
	Resolver   func(context.Context) (Resolver, error)
	Repairs    func(context.Context) (Repairs, error)
	Pools      func(context.Context) ([]Pool, error)
	Conntrack  func(context.Context) (used, most uint64, err error)
	// Keeper says when the keeper began, or why it does not answer.
	Keeper func(context.Context) (started time.Time, err error)
	// Mesh is this host's part in the mesh; nil: it is in none.
	Mesh func(context.Context) (*Mesh, error)
	// Drops are the packets that each of our rules has dropped, by its short name.
	Drops func(context.Context) (map[string]uint64, error)

	Log *slog.Logger
}

// Endpoint is a container's place on a network, with the counters as the container
// sees them.
type Endpoint struct {
	Container, Network, Interface string
	Receive, Transmit             Traffic
}

// Traffic is one direction.
type Traffic struct{ Bytes, Packets, Errors, Drops uint64 }

// Port is a published port or range, and the connections that came by it.
type Port struct {
	Container, HostIP, Port, Protocol string
	Connections                       uint64
}

// Resolver is what the keeper's resolvers were asked.
type Resolver struct {
	Queries, TCP uint64
	// Answers by kind: "local", "cached", …
	Answers                                       map[string]uint64
	Views, Names, CacheEntries, CacheBytes, Zones int
	Upstreams                                     []Upstream
}

// Upstream is a name server that is asked. The same server may be there several times,
// asked for several sandboxes.
type Upstream struct {
	Server                          string
	Down                            bool
	RTT                             time.Duration // 0: not known
	Asked, Answered, Failed, Strays uint64
}

// Repairs is what the reconciler does.
type Repairs struct {
	Objects int // that are declared
	// Repaired and Failures by kind of object ("link", "element", …).
	Repaired, Failures map[string]uint64
	Backoffs           int // objects that are left alone now, since somebody undoes their repair again and again
	Checks             uint64
	Checked            time.Duration // since the last comparison of everything; negative: there was none
	Took               time.Duration // what that one took
}

// Pool is a network's subnet.
type Pool struct {
	Network, Subnet string
	Used, Free      uint64
}

// Mesh is a host's part in a mesh.
type Mesh struct {
	// StoreUp: etcd answered when it was asked last.
	StoreUp bool
	// Alive and Dead count the other hosts by their sign of life.
	Alive, Dead int
	// Forgotten: the others have no record of this host any more.
	Forgotten bool
	// Queue is how many changes wait to be written for the others.
	Queue int
	// Expires is when this host's certificate ends; zero: it has none.
	Expires time.Time
	// Member: this host runs etcd; MemberUp says that it has a leader, and Bytes how large
	// its data are.
	Member, MemberUp bool
	Bytes            int64
	Paths            []Path
}

// Path is a way to another host.
type Path struct {
	Host, Path string
	RTT        time.Duration // 0: nothing came back
	Loss       float64       // 0 to 1
	MTU        int           // the largest packet that passes, in bytes; 0: not known
}

// Metrics is one daemon's registry. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	took     *prometheus.HistogramVec
}

// New makes a registry. Nothing is asked before the first scrape.
func New(s Sources) *Metrics {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	m := &Metrics{registry: prometheus.NewRegistry(), took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "linkspan_api_request_duration_seconds",
		Help: "Time until the answer to an API request began, by the route's pattern. Streams count until their first byte.",
		// A ping takes 0.2 ms, a start 100 ms, a pull minutes.
		Buckets: []float64{.001, .005, .025, .1, .25, 1, 5, 30},
	}, []string{"method", "route", "status"})}
	m.registry.MustRegister(newCollector(s), m.took, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts one API request. pattern is the route's, never the path: what people
// name does not become a label here.
func (m *Metrics) Observe(method, pattern string, status int, took time.Duration) {
	if pattern == "" || pattern == "/" {
		pattern = "unknown"
		method = "any" // a client may send any word
	}
	class := "none"
	if status >= 100 && status < 600 {
		class = strconv.Itoa(status/100) + "xx"
	}
	m.took.WithLabelValues(method, pattern, class).Observe(took.Seconds())
}

// scrapeTime bounds one scrape: Prometheus waits 10 s unless told otherwise.
const scrapeTime = 5 * time.Second

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: 4, Timeout: 2 * scrapeTime, ErrorHandling: promhttp.ContinueOnError,
	})
}

// Gatherer gives the metrics to tests.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
