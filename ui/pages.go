package ui

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"linkspan/diagnose/doctor"
	"linkspan/diagnose/explain"
	"linkspan/diagnose/flows"
	"linkspan/diagnose/graph"
	"linkspan/diagnose/why"
)

// chosen is what a person clicked.
type chosen struct {
	Subject, Kind string
	Explanation   *explain.Explanation
	Err           string
}

type graphBody struct {
	Graph   *graph.Graph
	Picture template.HTML
	Chosen  *chosen
	Ends    []string
}

// linkTo is where a node of the picture leads.
func linkTo(n graph.Node) string {
	kind, subject := string(n.Kind), n.Name
	switch n.Kind {
	case graph.KindUplink:
		return ""
	case graph.KindEndpoint:
		kind = string(graph.KindContainer)
	case graph.KindHost:
		subject = "host"
	}
	return "/?" + url.Values{"type": {kind}, "subject": {subject}}.Encode()
}

func (s *server) graph(ctx context.Context, w http.ResponseWriter, r *http.Request) (string, any, error) {
	g, err := s.daemon.Graph(ctx)
	if err != nil {
		return "", nil, err
	}
	b := graphBody{Graph: g, Ends: ends(g)}
	title := "Networks of " + g.Host.Name
	if q := r.URL.Query(); q.Get("subject") != "" {
		c := &chosen{Subject: q.Get("subject"), Kind: q.Get("type")}
		if c.Explanation, err = s.daemon.Explain(ctx, c.Subject, explain.Kind(c.Kind)); err != nil {
			c.Explanation, c.Err = nil, err.Error()
		}
		b.Chosen, title = c, strings.TrimSpace(c.Kind+" "+c.Subject)
	}
	var svg strings.Builder
	if err := g.WriteSVG(&svg, linkTo); err != nil {
		return "", nil, err
	}
	picture, hash := embedded(svg.String(), b.Chosen)
	b.Picture = template.HTML(picture)
	w.Header().Set("Content-Security-Policy", strings.Replace(policy, "STYLE", hash, 1))
	return title, b, nil
}

// embedded makes a picture part of a page: it is no image any more but a group of
// links, which a screen reader shall find, and the chosen one is marked. hash allows its
// style sheet.
func embedded(svg string, c *chosen) (picture, hash string) {
	svg = strings.Replace(svg, ` role="img" `, ` role="group" `, 1)
	if _, after, ok := strings.Cut(svg, "<style>"); ok {
		sheet, _, _ := strings.Cut(after, "</style>")
		sum := sha256.Sum256([]byte(sheet))
		hash = " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	if c == nil {
		return svg, hash
	}
	href := template.HTMLEscapeString("/?" + url.Values{"type": {c.Kind}, "subject": {c.Subject}}.Encode())
	link := `<a href="` + href + `">`
	return strings.ReplaceAll(svg, link, `<a class="chosen" aria-current="true" href="`+href+`">`), hash
}

// ends are what one may ask about.
func ends(g *graph.Graph) []string {
	out := []string{"host", "outside"}
	for _, c := range g.Containers {
		out = append(out, c.Name)
	}
	return out
}

type whyBody struct {
	From, To, Port string
	Ends           []string
	Answer         *why.Answer
	Err            string
}

func (s *server) why(ctx context.Context, _ http.ResponseWriter, r *http.Request) (string, any, error) {
	q := r.URL.Query()
	b := whyBody{From: strings.TrimSpace(q.Get("from")), To: strings.TrimSpace(q.Get("to")), Port: strings.TrimSpace(q.Get("port"))}
	g, err := s.daemon.Graph(ctx)
	if err != nil {
		return "", nil, err
	}
	b.Ends = ends(g)
	if b.From == "" || b.To == "" {
		return "Why does A not reach B?", b, nil
	}
	// Never with a probe: that would send a packet, and a link can be followed by
	// anything that reads the page.
	if b.Answer, err = s.daemon.Why(ctx, b.From, target(b.To, b.Port), false); err != nil {
		b.Answer, b.Err = nil, err.Error()
	}
	return "Why " + b.From + " → " + target(b.To, b.Port), b, nil
}

// target joins an end and a port as why reads them.
func target(to, port string) string {
	switch {
	case port == "":
		return to
	case strings.Contains(to, ":") && !strings.HasPrefix(to, "[") && !strings.HasPrefix(to, "outside:"):
		return "[" + to + "]:" + port
	}
	return to + ":" + port
}

func (s *server) flows(ctx context.Context, _ http.ResponseWriter, r *http.Request) (string, any, error) {
	t, err := s.daemon.Flows(ctx, flows.Wish{All: r.URL.Query().Get("all") == "1"})
	if err != nil {
		return "", nil, err
	}
	const most = 500 // a browser shows more, and nobody reads them
	if n := len(t.Flows); n > most {
		t.Flows = t.Flows[:most]
		t.Notes = append(t.Notes, "Only the first 500 are shown; `linkspan flows` has all of them.")
	}
	return "Flows", t, nil
}

func (s *server) drops(ctx context.Context, _ http.ResponseWriter, _ *http.Request) (string, any, error) {
	l, err := s.daemon.Drops(ctx, "", flows.Match{})
	return "Drops", l, err
}

type doctorBody struct {
	*doctor.Report
	Bad, Well []doctor.Finding
}

func (s *server) doctor(ctx context.Context, _ http.ResponseWriter, _ *http.Request) (string, any, error) {
	r, err := s.daemon.Doctor(ctx)
	if err != nil {
		return "", nil, err
	}
	b := doctorBody{Report: r}
	for _, f := range r.Findings {
		if f.Severity == doctor.OK {
			b.Well = append(b.Well, f)
		} else {
			b.Bad = append(b.Bad, f)
		}
	}
	return "Doctor", b, nil
}
