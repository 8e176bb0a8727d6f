// Package docker is the door for Docker's clients: the Engine API on our own
// services. It translates and decides nothing: requests become calls of
// container, image, network and volume, their answers become Docker's JSON of
// the version that the client speaks, and classes of errors become statuses.
package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"linkspan/cnm"
	"linkspan/container"
	"linkspan/events"
	"linkspan/image"
	"linkspan/network"
	"linkspan/volume"
)

// Config is what the door stands in front of.
type Config struct {
	Containers container.Service
	Images     image.Service
	Network    network.Service
	Volumes    volume.Service
	Events     *events.Bus

	// Info fills what only the daemon knows; called per request.
	Info func(context.Context) Facts
	// Files tells where a container's files are on the host. nil: not shown.
	Files func(*container.Container) Files

	// Observe is told of each request how long its answer took to begin, with the
	// route's pattern ("/containers/{id}/json"; "" when there is none); nil: nobody is.
	Observe func(method, pattern string, status int, took time.Duration)

	// Version is Linkspan's own ("0.1.0"), Commit and Built say which build.
	Version, Commit, Built string
	// Logger receives one debug line per request; nil: slog's default.
	Logger *slog.Logger
}

// Files are the host paths that `docker inspect` shows of a container.
type Files struct{ ResolvConf, Hostname, Hosts, Log string }

type server struct {
	Config
	log       *slog.Logger
	routes    router
	handovers *handovers
}

// New makes the handler of the Engine API.
func New(c Config) http.Handler {
	s := &server{Config: c, log: c.Logger, handovers: newHandovers()}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.routes = newRouter(named(slices.Concat(
		s.systemRoutes(),
		s.containerRoutes(),
		s.execRoutes(),
		s.imageRoutes(),
		s.networkRoutes(),
		s.volumeRoutes(),
		s.swarmRoutes(),
		s.laterRoutes(),
	)))
	return s
}

// ServeHTTP finds the version and the route, and turns errors and panics into
// answers.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	c := &call{R: r, w: &response{ResponseWriter: w, begun: begun}, Version: MaxVersion, stopping: stopping(r.Context())}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("a request made the daemon panic; this is a bug", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			if !c.w.started() {
				s.fail(c, fmt.Errorf("internal error while serving %s %s: %v; the daemon's log has the details", r.Method, r.URL.Path, p))
			}
		}
		if s.Observe != nil {
			s.Observe(r.Method, c.pattern, c.w.status, c.w.waited())
		}
		s.log.Debug("request", "method", r.Method, "path", r.URL.RequestURI(), "status", c.w.status, "took", time.Since(begun).Round(10*time.Microsecond))
	}()
	s.identify(w.Header())
	v, path, err := negotiate(r.URL.EscapedPath())
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Version = v
	h, vars := s.routes.find(r.Method, path)
	if h == nil {
		s.fail(c, cnm.NotFound("page not found"))
		return
	}
	c.Vars = vars
	if err := h(c); err != nil {
		s.fail(c, err)
	}
}

// identify sets the headers by which clients know the server, on every answer.
func (s *server) identify(h http.Header) {
	h.Set("Server", "Linkspan/"+s.Config.Version+" (linux)")
	h.Set("Api-Version", MaxVersion.String())
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", "false")
}
