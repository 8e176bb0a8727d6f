package admin

import (
	"net/http"
	"net/url"

	"context"

	"linkspan/cnm"
	"linkspan/diagnose/why"
)

// Why is GET /linkspan/why?from=A&to=B[&probe=1].
func Why(ask func(ctx context.Context, from, to string, probe bool) (*why.Answer, error)) Door {
	return Door{Pattern: "GET " + Prefix + "why", Answer: func(r *http.Request) (any, error) {
		q := r.URL.Query()
		from, to := q.Get("from"), q.Get("to")
		if from == "" || to == "" {
			return nil, cnm.Invalid("why: two ends are needed: ?from=A&to=B[:PORT[/PROTO]]")
		}
		return ask(r.Context(), from, to, q.Get("probe") == "1")
	}}
}

// Why asks why from does not reach to.
func (c Client) Why(ctx context.Context, from, to string, probe bool) (*why.Answer, error) {
	q := url.Values{"from": {from}, "to": {to}}
	if probe {
		q.Set("probe", "1")
	}
	var a why.Answer
	return &a, c.Ask(ctx, http.MethodGet, "why?"+q.Encode(), nil, &a)
}
