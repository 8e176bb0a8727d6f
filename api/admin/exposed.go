package admin

import (
	"context"
	"net/http"

	"linkspan/diagnose/why"
)

// Exposed is GET /linkspan/exposed.
func Exposed(look func(context.Context) (*why.Exposed, error)) Door {
	return Door{Pattern: "GET " + Prefix + "exposed", Answer: func(r *http.Request) (any, error) { return look(r.Context()) }}
}

// Exposed asks what is reached from outside.
func (c Client) Exposed(ctx context.Context) (*why.Exposed, error) {
	var e why.Exposed
	return &e, c.Ask(ctx, http.MethodGet, "exposed", nil, &e)
}
