package daemon

import (
	"context"

	"linkspan/diagnose/why"
)

// why answers `linkspan why`.
func (e *engine) why(ctx context.Context, from, to string, probe bool) (*why.Answer, error) {
	return why.Ask(ctx, e.world(), from, to, why.Options{Drops: e.hearing.drops})
}
