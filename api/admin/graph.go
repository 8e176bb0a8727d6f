package admin

import (
	"context"
	"net/http"

	"linkspan/diagnose"
	"linkspan/diagnose/graph"
)

// Graph is the door of `linkspan graph`. The picture is drawn by who asks.
func Graph(world func() *diagnose.World) Door {
	return Door{Pattern: "GET " + Prefix + "graph", Answer: func(r *http.Request) (any, error) { return graph.Of(r.Context(), world()) }}
}

// Graph asks for what there is.
func (c Client) Graph(ctx context.Context) (*graph.Graph, error) {
	var g graph.Graph
	return &g, c.Ask(ctx, http.MethodGet, "graph", nil, &g)
}
