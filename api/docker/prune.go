package docker

import (
	"strings"
	"time"

	"linkspan/cnm"
)

// pruneRules are those of a prune that has no others.
func (c *call) pruneRules() (func(created time.Time, labels map[string]string) bool, error) {
	f, err := c.Filters()
	if err != nil {
		return nil, err
	}
	return f.pruneRules()
}

// pruneRules reads what all prunes share: until (a moment, or a duration back
// from now), label and label!. The function says whether an object goes.
func (f filters) pruneRules(more ...string) (func(created time.Time, labels map[string]string) bool, error) {
	if err := f.Only(append([]string{"until", "label", "label!"}, more...)...); err != nil {
		return nil, err
	}
	until, err := f.until()
	if err != nil {
		return nil, err
	}
	return func(created time.Time, labels map[string]string) bool {
		if !until.IsZero() && created.After(until) {
			return false
		}
		return f.Labels("label", labels) && (!f.Has("label!") || !f.Labels("label!", labels))
	}, nil
}

// until reads the filter of that name: a moment, or a duration back from now.
// The zero time: there is none.
func (f filters) until() (until time.Time, err error) {
	switch values := f.Values("until"); len(values) {
	case 0:
		return until, nil
	case 1:
		if d, err := time.ParseDuration(values[0]); err == nil {
			return time.Now().Add(-d), nil
		}
		return parseTime("until", values[0])
	default:
		return until, cnm.Invalid("more than one until filter specified: %s", strings.Join(values, ", "))
	}
}
