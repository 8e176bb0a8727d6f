package ui

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"linkspan/diagnose/explain"
	"linkspan/diagnose/flows"
	"linkspan/diagnose/why"
)

func (s *server) render(w http.ResponseWriter, status int, name string, f frame) {
	f.Now = time.Now().Format("15:04:05")
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "frame.html", f); err != nil {
		s.log.Error("a page cannot be rendered; this is a bug", "page", name, "error", err)
		http.Error(w, "the page cannot be rendered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// words are what templates say by themselves.
var words = template.FuncMap{
	"clock":   func(t time.Time) string { return t.Local().Format("15:04:05.000") },
	"day":     func(t time.Time) string { return t.Local().Format("2006-01-02") },
	"bytes":   func(n uint64) string { return units.BytesSize(float64(n)) },
	"seconds": func(s float64) string { return (time.Duration(s) * time.Second).String() },
	"ms":      func(ms float64) string { return fmt.Sprintf("%.1f ms", ms) },
	"short":   func(id string) string { return id[:min(12, len(id))] },
	"join":    strings.Join,
	"through": through,
	"mark":    mark,
	"part":    func(p why.Part) string { return partNames[p] },
	"live":    live,
	"at": func(e flows.End) string {
		if e.Port == 0 {
			return e.Addr.String()
		}
		return e.AddrPort().String()
	},
	"newest": func(all []flows.Drop) []flows.Drop {
		all = slices.Clone(all)
		slices.SortStableFunc(all, func(a, b flows.Drop) int { return b.Time.Compare(a.Time) })
		return all[:min(len(all), 500)]
	},
	"rules": func(all []flows.Drop) (out []flows.Drop) {
		for _, d := range all {
			if d.Why != "" && !slices.ContainsFunc(out, func(o flows.Drop) bool { return o.Rule == d.Rule }) {
				out = append(out, d)
			}
		}
		return out
	},
	"ask": func(ends []string, c *chosen) whyBody {
		b := whyBody{Ends: ends}
		if c != nil && c.Kind == string(explain.KindContainer) {
			b.From = c.Subject
		}
		return b
	},
}

var partNames = map[why.Part]string{why.Declared: "What is declared", why.There: "The packet's way", why.Back: "The answer's way"}

// mark is a step's outcome as a sign and a word: a colour alone tells not everyone.
func mark(s why.State) template.HTML {
	m := map[why.State][3]string{why.Good: {"ok", "✓", "ok"}, why.Bad: {"problem", "✗", "no"}, why.Open: {"warning", "?", "unknown"}, why.Aside: {"note", "i", "note"}}[s]
	if m[0] == "" {
		m = [3]string{"note", "·", "note"}
	}
	return template.HTML(fmt.Sprintf(`<span class="mark %s" role="img" aria-label="%s">%s</span>`, m[0], m[2], m[1]))
}

// live says whether the kernel has an object.
func live(l explain.Live) template.HTML {
	switch l {
	case explain.There:
		return mark(why.Good)
	case explain.Missing, explain.Different:
		return template.HTML(fmt.Sprintf(`<span class="badge problem">%s</span>`, l))
	}
	return ""
}

// through is a flow's translation.
func through(f flows.Flow) string {
	var s []string
	if f.Dialled.IsValid() {
		word := "dialled "
		if f.Published {
			word = "published "
		}
		s = append(s, word+f.Dialled.String())
	}
	if f.As.IsValid() {
		s = append(s, "as "+f.As.String())
	}
	return strings.Join(s, ", ")
}
