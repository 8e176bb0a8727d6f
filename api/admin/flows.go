package admin

import (
	"context"
	"net/http"
	"net/url"

	"linkspan/diagnose/flows"
)

// FlowSource is who knows the flows.
type FlowSource interface {
	Now(context.Context, flows.Wish) (*flows.Table, error)
	Follow(ctx context.Context, w flows.Wish, ready func(), fn func(flows.Line) error) error
}

// Flows are GET /linkspan/flows?of=CONTAINER|NETWORK&all=1 and, with &follow=1, the
// stream of what happens.
func Flows(s FlowSource) []Door {
	wish := func(r *http.Request) flows.Wish {
		q := r.URL.Query()
		return flows.Wish{Either: q.Get("of"), Container: q.Get("container"), Network: q.Get("network"), All: q.Get("all") == "1"}
	}
	return []Door{
		{Pattern: "GET " + Prefix + "flows", Answer: func(r *http.Request) (any, error) { return s.Now(r.Context(), wish(r)) }},
		{Pattern: "GET " + Prefix + "flows/follow", Serve: func(w http.ResponseWriter, r *http.Request) {
			lines(w, r, func(ctx context.Context, ready func(), give func(any) error) error {
				return s.Follow(ctx, wish(r), ready, func(l flows.Line) error { return give(l) })
			})
		}},
	}
}

func flowQuery(w flows.Wish) string {
	q := url.Values{}
	for k, v := range map[string]string{"of": w.Either, "container": w.Container, "network": w.Network} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if w.All {
		q.Set("all", "1")
	}
	return q.Encode()
}

// Flows asks who talks to whom now.
func (c Client) Flows(ctx context.Context, w flows.Wish) (*flows.Table, error) {
	var t flows.Table
	return &t, c.Ask(ctx, http.MethodGet, "flows?"+flowQuery(w), nil, &t)
}

// FollowFlows gives fn what happens, until ctx ends.
func (c Client) FollowFlows(ctx context.Context, w flows.Wish, fn func(flows.Line) error) error {
	return follow(ctx, c, "flows/follow?"+flowQuery(w), fn)
}
