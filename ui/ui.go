// Package ui is a page to look at in a browser: the live picture of the host's
// networks, the explanation of each thing in it, why one end does not reach another,
// flows, drops and the doctor's findings. It is read-only, rendered here, and needs no
// script: the little one there is refreshes what is shown. It asks a daemon through the
// admin door, as the verbs do.
package ui

import (
	"context"
	"embed"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"linkspan/diagnose/doctor"
	"linkspan/diagnose/explain"
	"linkspan/diagnose/flows"
	"linkspan/diagnose/graph"
	"linkspan/diagnose/why"
)

// Daemon answers the page's questions; admin.Client does. None of them changes
// anything.
type Daemon interface {
	Graph(ctx context.Context) (*graph.Graph, error)
	Explain(ctx context.Context, subject string, kind explain.Kind) (*explain.Explanation, error)
	Why(ctx context.Context, from, to string, probe bool) (*why.Answer, error)
	Doctor(ctx context.Context) (*doctor.Report, error)
	Drops(ctx context.Context, of string, m flows.Match) (*flows.List, error)
	Flows(ctx context.Context, w flows.Wish) (*flows.Table, error)
}

//go:embed page static
var files embed.FS

// patience bounds the daemon's answer to one question.
const patience = 20 * time.Second

type server struct {
	daemon Daemon
	log    *slog.Logger
	pages  map[string]*template.Template
}

// New makes the handler of the page.
func New(d Daemon, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.Default()
	}
	s := &server{daemon: d, log: log, pages: map[string]*template.Template{}}
	for _, name := range []string{"graph", "why", "flows", "drops", "doctor", "error"} {
		s.pages[name] = template.Must(template.New("frame.html").Funcs(words).ParseFS(files, "page/frame.html", "page/"+name+".html"))
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page("graph", s.graph))
	mux.HandleFunc("GET /why", s.page("why", s.why))
	mux.HandleFunc("GET /flows", s.page("flows", s.flows))
	mux.HandleFunc("GET /drops", s.page("drops", s.drops))
	mux.HandleFunc("GET /doctor", s.page("doctor", s.doctor))
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			s.fail(w, r, http.StatusMethodNotAllowed, "This page is read-only: "+r.Method+" is not answered.")
			return
		}
		s.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
	return guard(mux)
}

// frame is what every page has.
type frame struct {
	Tab, Title string
	Now        string
	// Live: what is shown is of this moment, and worth refreshing.
	Live bool
	Body any
}

// page renders what a question found. The whole page is made before its first byte is
// sent, so that an error is one.
func (s *server) page(name string, ask func(context.Context, http.ResponseWriter, *http.Request) (title string, body any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		title, body, err := ask(ctx, w, r)
		if err != nil {
			s.fail(w, r, http.StatusBadGateway, err.Error())
			return
		}
		s.render(w, http.StatusOK, name, frame{Tab: name, Title: title, Live: name != "why" && name != "doctor", Body: body})
	}
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	s.log.Debug("a page was not rendered", "path", r.URL.Path, "error", message)
	s.render(w, status, "error", frame{Title: http.StatusText(status), Body: message, Live: status == http.StatusBadGateway})
}
