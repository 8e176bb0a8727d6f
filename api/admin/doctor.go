package admin

import (
	"context"
	"net/http"

	"linkspan/diagnose/doctor"
)

// Doctor is GET /linkspan/doctor.
func Doctor(examine func(context.Context) *doctor.Report) Door {
	return Door{Pattern: "GET " + Prefix + "doctor", Answer: func(r *http.Request) (any, error) { return examine(r.Context()), nil }}
}

// Doctor asks what is wrong with the daemon's host.
func (c Client) Doctor(ctx context.Context) (*doctor.Report, error) {
	var r doctor.Report
	return &r, c.Ask(ctx, http.MethodGet, "doctor", nil, &r)
}
