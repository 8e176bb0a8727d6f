package dns

import (
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// patience is how long upstreams have for an answer, in all: clients wait five
	// seconds (resolv.conf(5), timeout) and should hear of the failure.
	patience = 4500 * time.Millisecond
	// linger is how long the slower servers may still answer when the question is
	// settled, so that one knows how slow they are.
	linger = time.Second
	// holdNegative is how long a "does not exist" of a server waits for one that a
	// person put before it: the first may be a VPN's, which knows more.
	holdNegative = 500 * time.Millisecond
	// again is the wait before servers are asked once more, and twice that each time.
	// A resolver that looks for an answer is not helped by hearing the question twice,
	// so that this is not the hedge.
	again     = 300 * time.Millisecond
	againMost = 2 * time.Second

	attemptsLeast, attemptsMost = 3, 12
)

// race is one question to several servers.
type race struct {
	*group
	ask      *ask
	set      *settings
	list     []*upstream // in the order of asking
	deadline time.Time
	results  chan result
	tries    []*try
	pending  int
	errs     []string
	held     *message // negative, and waiting for a better one
	heldFrom int
	refusal  *message // SERVFAIL and the like: worth passing on if nobody knows better
}

// try is one question to one server.
type try struct {
	*upstream
	index int // in the configured order
	sent  time.Time
	over  bool

	mu      sync.Mutex
	conn    net.Conn
	settled bool // the race is over
	judged  bool // its failure was counted
}

type result struct {
	*try
	m   *message
	err error
}

// race asks the best server, the next when that one takes longer than it should,
// and so on; then all again. It answers nil and what went wrong when nobody answered.
func (g *group) race(a *ask) (*message, []string) {
	r := &race{group: g, ask: a, deadline: time.Now().Add(patience)}
	var probes []*upstream
	r.set, r.list, probes = g.ranked()
	if len(r.list) == 0 {
		return nil, []string{"no server is known"}
	}
	a.tcp = r.set.tcp
	most := min(max(len(r.list)*max(r.set.attempts, 2), attemptsLeast), attemptsMost)
	r.results = make(chan result, most+len(probes))
	defer r.settle()
	r.launch(r.list[0])
	asked := 1
	for _, u := range probes {
		r.launch(u)
	}
	next := time.NewTimer(r.wait(asked))
	defer next.Stop()
	total := time.NewTimer(patience)
	defer total.Stop()
	hold := time.NewTimer(patience)
	defer hold.Stop()
	holding := false
	for {
		advance := false
		select {
		case res := <-r.results:
			if m := r.judge(res); m != nil {
				return m, nil
			}
			if r.held != nil && !holding {
				holding = true
				hold.Reset(holdNegative)
			}
			advance = res.err != nil || r.refusal != nil
		case <-next.C:
			advance = true
			if asked >= len(r.list) && asked < most {
				r.launch(r.list[asked%len(r.list)])
				asked++
				next.Reset(r.wait(asked))
				continue
			}
		case <-hold.C:
			return r.rest()
		case <-total.C:
			return r.rest()
		case <-g.server.done:
			return nil, []string{"the resolver ends"}
		}
		if advance && asked < len(r.list) {
			r.launch(r.list[asked])
			asked++
			next.Reset(r.wait(asked))
		}
		if r.pending == 0 && asked >= len(r.list) {
			return r.rest()
		}
	}
}

// rest is the best there is without a good answer.
func (r *race) rest() (*message, []string) {
	if r.held != nil {
		return r.held, nil
	}
	if r.refusal == nil {
		for _, t := range r.tries {
			if !t.over {
				r.failed(t.addr.String() + ": no answer")
			}
		}
	}
	return r.refusal, r.errs
}

// failed notes what went wrong, for people.
func (r *race) failed(what string) {
	if !slices.Contains(r.errs, what) {
		r.errs = append(r.errs, what)
	}
}

// wait is how long after so many servers were asked the next one is.
func (r *race) wait(asked int) time.Duration {
	if asked < len(r.list) {
		return r.list[asked-1].hedge()
	}
	most := againMost
	if r.set.timeout > 0 {
		most = min(most, r.set.timeout)
	}
	return min(again<<(asked-len(r.list)), most)
}

// judge takes one result in; an answer is the race's.
func (r *race) judge(res result) *message {
	r.pending--
	res.over = true
	switch m := res.m; {
	case res.err != nil:
		r.failed(say(res.upstream, res.err))
	case m.rcode == rcodeSuccess && m.answers || m.cut:
		return m
	case m.rcode == rcodeSuccess || m.rcode == rcodeNXDomain:
		if r.held == nil || res.index < r.heldFrom {
			r.held, r.heldFrom = m, res.index
		}
	case r.refusal == nil:
		r.refusal = m
	}
	if r.held != nil && !r.before(r.heldFrom) {
		return r.held
	}
	return nil
}

// before says whether a server is still to answer that stands before this one.
func (r *race) before(index int) bool {
	if r.set.rotate {
		return false
	}
	now := r.now()
	return slices.ContainsFunc(r.tries, func(t *try) bool { return !t.over && t.index < index && t.rank(now) == 0 })
}

func (r *race) launch(u *upstream) {
	t := &try{upstream: u, index: slices.Index(r.set.servers, u.addr), sent: time.Now()}
	r.tries = append(r.tries, t)
	r.pending++
	go r.server.guard(r.name, func() {
		m, err := u.exchange(r.dial, r.ask, r.deadline, t.hold)
		t.mu.Lock()
		judged := t.judged
		t.judged = true
		t.mu.Unlock()
		switch {
		case err == nil:
			u.good(time.Since(t.sent))
		case !judged:
			u.bad(r.now())
		}
		r.results <- result{t, m, err} // there is room for all
	})
}

// hold takes note of the socket, so that settle can end the wait.
func (t *try) hold(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = c
	if t.settled {
		_ = c.SetDeadline(time.Now().Add(linger))
	}
}

// settle ends the race: whoever has not answered by now, having had time, failed.
func (r *race) settle() {
	now := r.now()
	for _, t := range r.tries {
		if t.over {
			continue
		}
		late := time.Since(t.sent) >= t.hedge()
		t.mu.Lock()
		t.settled = true
		if t.conn != nil {
			_ = t.conn.SetDeadline(time.Now().Add(linger))
		}
		if late && !t.judged {
			t.judged = true
			t.mu.Unlock()
			t.bad(now)
			continue
		}
		t.mu.Unlock()
	}
}
