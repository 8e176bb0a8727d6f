package ruleset

import (
	"strconv"
)

// walker follows one packet.
type walker struct {
	rs     *Ruleset
	env    Env
	p      Packet
	at     string // the hook
	family string

	net, trans []byte // the packet's headers, as rules read them

	tracked, untracked   bool
	fresh                bool // the connection is new
	destDone, sourceDone bool // its translation is decided

	regs  [64]byte
	taint uint16 // words of regs whose value is not known
	doubt string // why the running rule may or may not match

	// choices are the answers to open questions, in order; open is the first one that
	// has none.
	choices []bool
	open    *Hit

	hits    []Hit
	assumed []string
	ended   bool
	verdict string
	rule    *Hit
	reason  string
	depth   int
	steps   *int // rules that may still be asked, by all ways together
}

// build makes the headers anew after a change.
func (w *walker) build() { w.net, w.trans = nil, nil }

// end is the packet's.
func (w *walker) end(verdict string, rule *Hit, reason string) {
	if w.ended {
		return
	}
	w.ended, w.verdict, w.rule, w.reason = true, verdict, rule, reason
}

func (w *walker) done() Trace {
	if !w.ended {
		w.verdict = Accept
	}
	return Trace{Verdict: w.verdict, Hook: w.at, Rule: w.rule, Reason: w.reason, Packet: w.p, Hits: w.hits, Assumed: w.assumed}
}

// own makes the connection the walker's own before a change: another way of the same
// packet may be followed later.
func (w *walker) own() *Conntrack {
	c := *w.p.CT
	w.p.CT = &c
	return &c
}

// outcome is what a rule or a chain makes of a packet.
type outcome int

const (
	goOn     outcome = iota // the next rule
	taken                   // accepted by this base chain
	returned                // back to the one who jumped
	over                    // the packet ended
)

// base runs a base chain; false when the packet ended.
func (w *walker) base(c *Chain) bool {
	switch w.chain(c) {
	case over:
		return false
	case taken:
		return true
	}
	if c.Policy == Drop {
		h := w.hit(c, nil)
		h.Policy, h.Text, h.Verdict = true, "policy drop", Drop
		w.hits = append(w.hits, h)
		w.end(Drop, &h, "")
		return false
	}
	return true
}

// jumps bounds nesting: the kernel takes 16 (NFT_JUMP_STACK_SIZE), legacy any number
// that does not loop.
const jumps = 64

func (w *walker) chain(c *Chain) outcome {
	if w.depth++; w.depth > jumps {
		w.end(Unclear, nil, "chains jump in a circle at "+c.Name)
		return over
	}
	defer func() { w.depth-- }()
	for _, r := range c.Rules {
		switch o := w.ruleOf(c, r); o {
		case goOn:
		default:
			return o
		}
	}
	return returned
}

func (w *walker) hit(c *Chain, r *Rule) Hit {
	h := Hit{Hook: w.at, Chain: c.Name}
	if t := c.table; t != nil {
		h.Family, h.Table, h.Legacy = t.Family, t.Name, t.Legacy
	}
	if r != nil {
		h.Handle, h.Text, h.Comment = r.Handle, r.Text(), r.Comment
	}
	return h
}

// result of one expression.
type result struct {
	no      bool     // it does not match: the next rule
	verdict *Verdict // nil: the next expression
	reject  bool
	note    string
	fatal   string // it cannot be told, whatever the rest says
}

var (
	match    = result{}
	mismatch = result{no: true}
)

func give(code string) result { return result{verdict: &Verdict{Code: code}} }

// ruleOf evaluates one rule.
func (w *walker) ruleOf(c *Chain, r *Rule) outcome {
	if *w.steps--; *w.steps < 0 {
		h := w.hit(c, r)
		w.end(Unclear, &h, "there are too many rules to follow")
		return over
	}
	w.doubt = ""
	acted := false // it did something that a second look must not repeat
	var end result
	var note string
	var goes *Verdict
	was := *w
	for _, e := range r.Exprs {
		x := w.eval(c, e)
		if x.verdict != nil && x.verdict.Code == "continue" {
			// The verdict register says to go on: with the next expression (nft_do_chain).
			x.verdict, goes = nil, x.verdict
		}
		if x.no || x.verdict != nil && x.verdict.Code == "break" {
			return goOn
		}
		if x.fatal != "" {
			h := w.hit(c, r)
			w.end(Unclear, &h, x.fatal)
			return over
		}
		if x.note != "" {
			note = x.note
		}
		acted = acted || changes(e)
		if x.verdict != nil || x.reject {
			end = x
			break
		}
	}
	h := w.hit(c, r)
	h.Note = note
	switch {
	case end.reject:
		h.Verdict = Rejected
	case end.verdict != nil:
		h.Verdict = end.verdict.String()
	case goes != nil:
		h.Verdict = goes.String()
	}
	if w.doubt != "" && (acted || end.reject || end.verdict != nil) {
		// It matters whether the rule matches, unless it only leads through a chain that
		// does nothing to this packet.
		if end.verdict != nil && !acted && w.through(c, *end.verdict, &h) {
			return goOn
		}
		if len(w.choices) == 0 {
			w.open = &h
			w.end(Unclear, &h, w.doubt)
			return over
		}
		yes := w.choices[0]
		w.choices = w.choices[1:]
		if !yes {
			doubt := w.assumed
			*w = was.with(w)
			w.assumed = doubt
			return goOn
		}
	}
	if before := was.p.tuple(); before != w.p.tuple() {
		now := w.p.tuple()
		h.Changed = &now
	}
	w.hits = append(w.hits, h)
	if end.reject {
		w.end(Rejected, &h, "")
		return over
	}
	if end.verdict == nil {
		return goOn
	}
	return w.follow(c, *end.verdict, &h)
}

// through says whether a verdict leads back here with nothing changed.
func (w *walker) through(c *Chain, v Verdict, h *Hit) bool {
	if v.Code != "jump" {
		return false
	}
	aside := *w
	aside.choices = nil
	o := aside.follow(c, v, h)
	return o == goOn && !aside.ended && aside.p == w.p && aside.untracked == w.untracked
}

// with is an earlier state, with what the later one used up.
func (w walker) with(later *walker) walker {
	w.choices = later.choices
	return w
}

func (w *walker) follow(c *Chain, v Verdict, h *Hit) outcome {
	switch v.Code {
	case "accept", "stolen":
		return taken
	case "drop":
		w.end(Drop, h, "")
		return over
	case "queue":
		w.end(Queued, h, "a program decides: the rule queues the packet to it")
		return over
	case "return":
		return returned
	case "jump", "goto":
		var to *Chain
		if c.table != nil {
			to = c.table.Chain(v.Chain)
		}
		if to == nil {
			w.end(Unclear, h, "there is no chain "+strconv.Quote(v.Chain))
			return over
		}
		o := w.chain(to)
		if o == returned && v.Code == "jump" {
			return goOn
		}
		return o // after goto, the caller's rules are done as well
	case "continue", "break", "repeat":
		return goOn
	}
	w.end(Unclear, h, "the verdict "+v.Code+" is not known")
	return over
}

// changes says that an expression acts on the packet or its connection, so that it
// matters whether it is reached.
func changes(e Expr) bool {
	switch x := e.(type) {
	case NAT, Masq, Redir, Notrack, TProxy, Fwd, Queue, Reject:
		return true
	case Meta:
		return x.From != 0 && x.Key == metaMark
	case CT:
		return x.From != 0 && (x.Key == ctMark || x.Key == ctZone)
	case Payload:
		return x.From != 0
	case Target:
		return true
	}
	return false
}

func itoa(n int) string { return strconv.Itoa(n) }
