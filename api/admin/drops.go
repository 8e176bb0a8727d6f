package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"linkspan/cnm"
	"linkspan/diagnose/flows"
)

// DropSource is who heard what was dropped.
type DropSource interface {
	// Match looks up the names of a wish: a container, a network, or either.
	Match(of string) (flows.Match, error)
	List(flows.Match) *flows.List
	Follow(ctx context.Context, m flows.Match, fn func(d flows.Drop, missed int) error) error
}

// Drops are GET /linkspan/drops?of=CONTAINER|NETWORK&since=UNIX-NANOSECONDS&rule=NAME
// and the stream beside it.
func Drops(s DropSource) []Door {
	match := func(r *http.Request) (flows.Match, error) {
		q := r.URL.Query()
		m, err := s.Match(q.Get("of"))
		if err != nil {
			return m, err
		}
		if v := q.Get("since"); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return m, cnm.Invalid("invalid value %q for since: nanoseconds since 1970 are wanted", v)
			}
			m.Since = time.Unix(0, n)
		}
		m.Rule = q.Get("rule")
		return m, nil
	}
	return []Door{
		{Pattern: "GET " + Prefix + "drops", Answer: func(r *http.Request) (any, error) {
			m, err := match(r)
			if err != nil {
				return nil, err
			}
			return s.List(m), nil
		}},
		{Pattern: "GET " + Prefix + "drops/follow", Serve: func(w http.ResponseWriter, r *http.Request) {
			lines(w, r, func(ctx context.Context, ready func(), give func(any) error) error {
				m, err := match(r)
				if err != nil {
					return err
				}
				ready()
				return s.Follow(ctx, m, func(d flows.Drop, missed int) error {
					return give(FollowedDrop{Drop: d, Missed: missed})
				})
			})
		}},
	}
}

// FollowedDrop is one line of the stream. Missed are those that were left out before it.
type FollowedDrop struct {
	flows.Drop
	Missed int `json:"missed,omitempty"`
}

func dropQuery(of string, m flows.Match) string {
	q := url.Values{}
	if of != "" {
		q.Set("of", of)
	}
	if m.Rule != "" {
		q.Set("rule", m.Rule)
	}
	if !m.Since.IsZero() {
		q.Set("since", strconv.FormatInt(m.Since.UnixNano(), 10))
	}
	return q.Encode()
}

// Drops asks what was dropped; of the match only Since and Rule count, of names whom.
func (c Client) Drops(ctx context.Context, of string, m flows.Match) (*flows.List, error) {
	var l flows.List
	return &l, c.Ask(ctx, http.MethodGet, "drops?"+dropQuery(of, m), nil, &l)
}

// FollowDrops gives fn what is dropped from now on, until ctx ends.
func (c Client) FollowDrops(ctx context.Context, of string, m flows.Match, fn func(FollowedDrop) error) error {
	return follow(ctx, c, "drops/follow?"+dropQuery(of, m), fn)
}
