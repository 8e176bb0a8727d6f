// Package admin is the door for Linkspan's own verbs, on the same socket as the
// Engine API and below a path of its own: plan, reconcile, and those who explain, one
// file each.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"linkspan/api/docker"
	"linkspan/cnm"
	"linkspan/container"
	"linkspan/dataplane"
	"linkspan/network"
)

// Prefix is below what the daemon mounts the handler.
const Prefix = "/linkspan/"

// Config is what the door stands in front of.
type Config struct {
	Network network.Service
	// Plan returns what starting a container of this wish would make, and the
	// warnings that it would give. Nothing is made.
	Plan func(context.Context, container.CreateRequest) (objects []dataplane.Object, warnings []string, err error)
	// Doors are the explanations'.
	Doors []Door
	// Observe is told of each request how long its answer took to begin, as the Engine
	// API's is; nil: nobody is.
	Observe func(method, pattern string, status int, took time.Duration)
	// Logger receives what fails; nil: slog's default.
	Logger *slog.Logger
}

// Door is one path below Prefix.
type Door struct {
	Pattern string // of http.ServeMux: "POST /linkspan/why"
	// Answer gives a value to be written as JSON, or an error of a cnm class.
	Answer func(*http.Request) (any, error)
	// Serve, instead of Answer, writes by itself: a stream.
	Serve http.HandlerFunc
}

type door struct {
	Config
	log *slog.Logger
}

// New makes the handler of everything below Prefix.
func New(c Config) http.Handler {
	d := &door{Config: c, log: c.Logger}
	if d.log == nil {
		d.log = slog.Default()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Prefix+"plan", d.answer(d.plan))
	mux.HandleFunc("POST "+Prefix+"reconcile", d.answer(d.reconcile))
	for _, more := range c.Doors {
		if more.Serve != nil {
			mux.HandleFunc(more.Pattern, more.Serve)
			continue
		}
		mux.HandleFunc(more.Pattern, d.answer(func(_ http.ResponseWriter, r *http.Request) (any, error) { return more.Answer(r) }))
	}
	mux.HandleFunc("/", d.answer(func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return nil, cnm.NotFound("page not found: %s %s is not part of the admin API", r.Method, r.URL.Path)
	}))
	if d.Observe == nil {
		return mux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &observed{ResponseWriter: w, begun: time.Now()}
		mux.ServeHTTP(seen, r)
		_, pattern, _ := strings.Cut(r.Pattern, " ") // mux has set it
		d.Observe(r.Method, pattern, seen.status, seen.took)
	})
}

// Beside serves the admin door below Prefix and everything else by next, the
// Engine API.
func Beside(next, admin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, Prefix) {
			admin.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer turns a value or an error into JSON.
func (d *door) answer(f func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(w, r)
		if err != nil {
			d.log.Debug("an admin request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			docker.WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v)
	}
}

// plan takes the body and the query of POST /containers/create.
func (d *door) plan(w http.ResponseWriter, r *http.Request) (any, error) {
	req, warnings, err := docker.DecodeCreate(w, r, d.Network)
	if err != nil {
		return nil, err
	}
	objects, more, err := d.Plan(r.Context(), req)
	if err != nil {
		return nil, err
	}
	p := Plan{Objects: []Object{}, Warnings: append(warnings, more...)}
	for _, o := range objects {
		create, _ := o.Commands()
		p.Objects = append(p.Objects, object(o, create))
	}
	return p, nil
}

// reconcile compares the whole host with what is declared, and puts it right
// unless ?dry-run=1.
func (d *door) reconcile(_ http.ResponseWriter, r *http.Request) (any, error) {
	dry, err := dryRun(r)
	if err != nil {
		return nil, err
	}
	rep, err := d.Network.Reconcile(r.Context(), dry)
	if err != nil && rep == nil {
		return nil, err
	}
	out := Report{DryRun: dry, Ops: []Op{}}
	for _, op := range rep.Ops {
		create, remove := op.Object.Commands()
		commands := create
		switch op.Verb {
		case dataplane.Delete:
			commands = remove
		case dataplane.Change:
			commands = dataplane.Changes(op.Object)
		}
		out.Ops = append(out.Ops, Op{Verb: string(op.Verb), Object: object(op.Object, commands)})
	}
	for _, o := range rep.Drift {
		create, _ := o.Commands()
		out.Drift = append(out.Drift, object(o, create))
	}
	for _, f := range rep.Failures {
		out.Failures = append(out.Failures, f.Error())
	}
	if err != nil && len(out.Failures) == 0 {
		out.Failures = append(out.Failures, err.Error())
	}
	return out, nil
}

// dryRun reads ?dry-run.
func dryRun(r *http.Request) (bool, error) {
	switch q := r.URL.Query().Get("dry-run"); q {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, cnm.Invalid("invalid value %q for dry-run: 1 or 0 is wanted", q)
	}
}

func object(o dataplane.Object, commands []string) Object {
	m := o.About()
	return Object{Key: o.Key(), Spec: o.Spec(), Owner: m.Owner.String(), Reason: m.Reason, Commands: commands}
}
