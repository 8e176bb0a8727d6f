package admin

import (
	"context"
	"net/http"
	"net/url"

	"linkspan/cnm"
	"linkspan/diagnose/explain"
)

// Explain is the door of `linkspan explain`.
func Explain(src func() explain.Sources) Door {
	return Door{Pattern: "GET " + Prefix + "explain", Answer: func(r *http.Request) (any, error) {
		q := r.URL.Query()
		if q.Get("subject") == "" {
			return nil, cnm.Invalid("subject is missing: a container, a network, a port or \"host\"")
		}
		return explain.Of(r.Context(), src(), q.Get("subject"), explain.Kind(q.Get("type")))
	}}
}

// Explain asks what was made for a container, a network, a port or the host.
func (c Client) Explain(ctx context.Context, subject string, kind explain.Kind) (*explain.Explanation, error) {
	var e explain.Explanation
	q := url.Values{"subject": {subject}, "type": {string(kind)}}
	return &e, c.Ask(ctx, http.MethodGet, "explain?"+q.Encode(), nil, &e)
}
