package admin

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"linkspan/api/docker"
	"linkspan/cnm"
	"linkspan/diagnose/capture"
)

// captures are those that go on, by the id that their client chose: it can have one
// end in order, with its statistics, where closing the connection would cut it off.
type captures struct {
	mu   sync.Mutex
	ends map[string]context.CancelFunc
}

// Capture is GET /linkspan/capture?container=NAME&filter=…&side=…&count=N&for=DURATION
// &snap=BYTES&id=ID, whose answer is pcapng, and POST /linkspan/capture/end?id=ID.
func Capture(s capture.Source) []Door {
	c := &captures{ends: map[string]context.CancelFunc{}}
	return []Door{
		{Pattern: "GET " + Prefix + "capture", Serve: func(w http.ResponseWriter, r *http.Request) { c.serve(s, w, r) }},
		{Pattern: "POST " + Prefix + "capture/end", Answer: func(r *http.Request) (any, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			id := r.URL.Query().Get("id")
			end, ok := c.ends[id]
			if !ok {
				return nil, cnm.NotFound("there is no capture %q: it has ended", id)
			}
			end()
			return struct{}{}, nil
		}},
	}
}

func captureWish(q url.Values) (w capture.Wish, err error) {
	w = capture.Wish{Container: q.Get("container"), Filter: q.Get("filter"), Side: q.Get("side")}
	for key, to := range map[string]*int{"count": &w.Count, "snap": &w.Snap} {
		if v := q.Get(key); v != "" {
			if *to, err = strconv.Atoi(v); err != nil {
				return w, cnm.Invalid("invalid value %q for %s: a number is wanted", v, key)
			}
		}
	}
	if v := q.Get("for"); v != "" {
		if w.For, err = time.ParseDuration(v); err != nil {
			return w, cnm.Invalid("invalid value %q for for: a duration is wanted, like 30s", v)
		}
	}
	return w, nil
}

func (c *captures) serve(s capture.Source, w http.ResponseWriter, r *http.Request) {
	ctx, end := docker.Stream(r)
	defer end()
	q := r.URL.Query()
	wish, err := captureWish(q)
	if err != nil {
		docker.WriteError(w, err)
		return
	}
	one, err := s.Prepare(ctx, wish)
	if err != nil {
		docker.WriteError(w, err)
		return
	}
	if id := q.Get("id"); id != "" {
		c.mu.Lock()
		c.ends[id] = end
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.ends, id)
		}()
	}
	flush := http.NewResponseController(w)
	began := false
	err = one.Run(ctx, w, func() {
		began = true
		w.Header().Set("Content-Type", "application/x-pcapng")
		w.WriteHeader(http.StatusOK)
		_ = flush.Flush()
	}, func() { _ = flush.Flush() })
	if err != nil && !began {
		docker.WriteError(w, err)
	}
}

// captureEnd is how long a capture may take to end in order.
const captureEnd = 5 * time.Second

// Capture writes packets to out until the capture ends, or ctx does: then it is asked to
// end, and its last packets and statistics come still. started, when not nil, is called
// when no packet is missed any more.
func (c Client) Capture(ctx context.Context, w capture.Wish, started func(), out io.Writer) (capture.Summary, error) {
	id := rand.Text()
	q := url.Values{"container": {w.Container}, "filter": {w.Filter}, "side": {w.Side}, "id": {id}}
	if w.Count != 0 {
		q.Set("count", strconv.Itoa(w.Count))
	}
	if w.Snap != 0 {
		q.Set("snap", strconv.Itoa(w.Snap))
	}
	if w.For != 0 {
		q.Set("for", w.For.String())
	}
	going, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(captureEnd, cut)
		var none struct{}
		if c.Ask(going, http.MethodPost, "capture/end?id="+id, nil, &none) != nil {
			cut()
		}
	})()
	body, err := c.Stream(going, http.MethodGet, "capture?"+q.Encode(), nil)
	if err != nil {
		return capture.Summary{}, err
	}
	defer body.Close()
	if started != nil {
		started()
	}
	s, err := capture.Copy(out, body)
	if going.Err() != nil {
		err = nil // it was cut off; what is written is whole
	}
	return s, err
}
