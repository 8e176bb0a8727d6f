package docker

import (
	"strings"
	"time"

	"linkspan/cnm"
)

// pruneRules reads what all prunes share: until (a moment, or a duration back
// from now), label and label!. The function says whether an object goes.
func (f filters) pruneRules(more ...string) (func(created time.Time, labels map[string]string) bool, error) {
	if err := f.Only(append([]string{"until", "label", "label!"}, more...)...); err != nil {
		return nil, err
	}
	var until time.Time
	if values := f.Values("until"); len(values) > 1 {
		return nil, cnm.Invalid("more than one until filter specified: %s", strings.Join(values, ", "))
	} else if len(values) == 1 {
		if d, err := time.ParseDuration(values[0]); err == nil {
			until = time.Now().Add(-d)
		} else if until, err = parseTime("until", values[0]); err != nil {
			return nil, err
		}
	}
	return func(created time.Time, labels map[string]string) bool {
		if !until.IsZero() && created.After(until) {
			return false
		}
		return f.Labels("label", labels) && (!f.Has("label!") || !f.Labels("label!", labels))
	}, nil
}
