package why

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

// walk is one question on its way.
type walk struct {
	ctx   context.Context
	world *diagnose.World
	live  *live
	procs Processes
	drops Drops
	fire  func(ns string) (firewall, error)

	ans  *Answer
	a, b *diagnose.End
	part Part

	// objects are what should be on this host, by key.
	objects map[string]dataplane.Object
	// declared is what the definitions say of this pair; nil: they let it pass.
	declared *cause
	// known is what each namespace remembers of the connection, by its path.
	known map[string]*ruleset.Conntrack
	// first is the packet as A sends it, reached is B's side of it.
	first, reached packet
	// foreign is the cause if what somebody else's rule has translated fails; odd, if the
	// answer does not find an address that is not A's.
	foreign, odd *cause
	// hint is what to do where it cannot be told.
	hint string
	// blind: the host's rules could not be followed, so that where a packet goes from there
	// is not known.
	blind bool
	// there are B's endpoints when it is on another host; silent, when that is not heard
	// of; doubts are what may still keep the tunnel from standing.
	there  []diagnose.Elsewhere
	silent *diagnose.Elsewhere
	// hosts are those that can be asked; unasked is why the other one could not be, heard
	// that it was.
	hosts   Hosts
	unasked string
	heard   bool
	doubts  []string
	// carries are the interfaces on the way that a sender is not told about: see mtu.go.
	carries []carrier
}

// cause is what stops a packet.
type cause struct {
	code     Code
	sentence string
	cure     string
	advice   string
	rule     *Rule
}

// because makes a cause of a sentence.
func because(code Code, format string, args ...any) *cause {
	return &cause{code: code, sentence: fmt.Sprintf(format, args...)}
}

func (c *cause) mend(format string, args ...any) *cause {
	c.cure = fmt.Sprintf(format, args...)
	return c
}

func (c *cause) advise(format string, args ...any) *cause {
	c.advice = fmt.Sprintf(format, args...)
	return c
}

func (w *walk) step(p place, s State, look, format string, args ...any) {
	w.ans.Steps = append(w.ans.Steps, Step{Part: w.part, Where: p.name, Look: look, Found: fmt.Sprintf(format, args...), State: s})
}

// good and aside tell a step that does not stop the walk.
func (w *walk) good(p place, look, format string, args ...any) {
	w.step(p, Good, look, format, args...)
}

func (w *walk) aside(p place, look, format string, args ...any) {
	w.step(p, Aside, look, format, args...)
}

// fail tells the step that stops the walk, and the verdict.
func (w *walk) fail(p place, look, found string, c *cause) bool {
	switch {
	case w.foreign != nil && (c.code == NotListening || c.code == ListensElsewhere || c.code == ListensLoopback || c.code == NoRoute):
		c = w.foreign // it went there since somebody sent it
	case w.part == Back && w.odd != nil:
		c = w.odd
	}
	w.step(p, Bad, look, "%s", found)
	w.ans.Steps[len(w.ans.Steps)-1].Code = c.code
	w.verdict(Blocked, c)
	return false
}

func (w *walk) verdict(v Verdict, c *cause) {
	if w.ans.Verdict != "" {
		return
	}
	w.ans.Verdict, w.ans.Code, w.ans.Sentence, w.ans.Cure, w.ans.Advice, w.ans.Rule = v, c.code, c.sentence, c.cure, c.advice, c.rule
}

// missing says that something could not be read. The walk goes on, and can still find
// what stops the packet; that it reaches can no longer be said.
func (w *walk) missing(p place, look string, err error) {
	w.step(p, Open, look, "%v", err)
	w.ans.Steps[len(w.ans.Steps)-1].Code = Unknown
	w.ans.Missing = append(w.ans.Missing, fmt.Sprintf("%s %s: %v", p.of(), look, err))
}

func (w *walk) note(code Code, cure, format string, args ...any) {
	n := Note{Code: code, Text: fmt.Sprintf(format, args...), Cure: cure}
	for _, have := range w.ans.Notes {
		if have == n {
			return
		}
	}
	w.ans.Notes = append(w.ans.Notes, n)
}

// Options of a question.
type Options struct {
	// Probe sends a real packet and compares.
	Probe Prober
	// Processes tells of processes; nil: "/proc".
	Processes Processes
	// Drops are what has been dropped lately; nil: not known.
	Drops Drops
	// Hosts asks other hosts for their half of a way; nil: they are not asked.
	Hosts Hosts
	// Firewall replaces the evaluation of rules, for tests.
	Firewall func(ns string) (firewall, error)
}

func newWalk(ctx context.Context, world *diagnose.World, o Options) *walk {
	known := *world
	known.Declared = remember(ctx, world.Declared)
	w := &walk{ctx: ctx, world: &known, procs: o.Processes, drops: o.Drops, hosts: o.Hosts, live: newLive(ctx, world.Kernel), fire: o.Firewall,
		ans: &Answer{Steps: []Step{}}, part: Declared, known: freshKnown()}
	if w.procs == nil {
		w.procs = Proc("/proc")
	}
	if w.fire == nil {
		w.fire = w.live.firewall
	}
	return w
}

// Ask answers whether A reaches B: from and to as a person writes them. An error is that
// the question makes no sense, or that nothing could be read at all.
func Ask(ctx context.Context, world *diagnose.World, from, to string, o Options) (*Answer, error) {
	w, err := ask(ctx, world, from, to, o, true)
	if err != nil {
		return nil, err
	}
	return w.ans, nil
}

// ask walks; forward: a question whose way begins on another host is put to that.
func ask(ctx context.Context, world *diagnose.World, from, to string, o Options, forward bool) (*walk, error) {
	start := time.Now()
	w := newWalk(ctx, world, o)
	w.ans.Question = "why " + from + " " + to
	// What does not depend on who A and B are is read meanwhile.
	var ahead sync.WaitGroup
	ahead.Go(func() { w.world.Declared.Objects(ctx) })
	ahead.Go(func() { w.live.ruleset("") })
	err := w.ends(from, to)
	ahead.Wait()
	if a, is := w.asAway(err); is && forward {
		w.forward(a)
		w.ans.TookMS = float64(time.Since(start).Microseconds()) / 1000
		return w, nil
	} else if err != nil {
		return nil, err
	}
	if err := w.inventory(); err != nil {
		return nil, err
	}
	w.run()
	w.other()
	w.finish()
	if o.Probe != nil {
		w.probe(o.Probe)
	}
	if len(w.there) > 0 && w.hosts != nil || w.ans.Host != "" || w.heard {
		w.ans.Asked = w.ownName()
		w.sign()
	}
	w.ans.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return w, nil
}

// ends finds out who A and B are.
func (w *walk) ends(from, to string) error {
	a, err := diagnose.ParseEnd(from)
	if err != nil {
		return err
	}
	b, err := diagnose.ParseEnd(to)
	if err != nil {
		return err
	}
	if a.Port != 0 || a.Proto != "" {
		return cnm.Invalid("%q: the port belongs to B: linkspan why %s %s", from, a.Name, "B:PORT")
	}
	w.a, w.b = &a, &b
	w.ans.From, w.ans.To = a, b
	if b.Kind == diagnose.EndHost && !b.Addr.IsValid() && w.world.Mesh != nil {
		if u := w.world.Mesh.Underlay(); u != nil { // what is "host" there is another one
			to = bracketed(u.Addr) + strings.TrimPrefix(strings.TrimSpace(to), "host")
		}
	}
	if err := w.world.Find(w.ctx, &a); diagnose.Unknown(err) {
		return w.begins(&a, from, to, err)
	} else if err != nil {
		return err
	}
	if a.Kind == diagnose.EndElsewhere {
		return awayFrom(&a, from, to)
	}
	if a.Kind == diagnose.EndHost && a.Addr.IsLoopback() {
		a.Addr = localhost(a.Addr.Is4())
	}
	if err := w.resolve(); err != nil || b.Kind != diagnose.EndElsewhere {
		return err
	}
	if a.Kind == diagnose.EndOutside {
		return &away{b.Elsewhere.Peer, from, to, b.Name, cnm.Invalid("%s runs on host %s: who comes from outside comes to it there; ask there: linkspan why %s %s", b.Name, b.Elsewhere.Peer.Name, from, to)}
	}
	w.there = w.world.ElsewhereNamed(b.Elsewhere.Remote.Container)
	return nil
}

// inventory reads what should be on this host.
func (w *walk) inventory() error {
	objs, err := w.world.Declared.Objects(w.ctx)
	if err != nil {
		return fmt.Errorf("reading what is declared: %w", err)
	}
	w.objects = make(map[string]dataplane.Object, len(objs))
	for _, o := range objs {
		w.objects[o.Key()] = o
	}
	return nil
}

// run walks: declared, there, back.
func (w *walk) run() {
	w.ans.From, w.ans.To, w.ans.Port, w.ans.Proto = *w.a, *w.b, w.b.Port, w.b.Proto
	if w.ans.Verdict != "" || !w.alive() {
		return // the names said it already, or nobody runs
	}
	from, p, ok := w.aim()
	if !ok {
		return
	}
	w.live.warm(w.namespaces()...)
	if !w.names(p) {
		return
	}
	w.ans.Src, w.ans.Dst, w.first = p.src, p.dst, p
	w.part = There
	end, ok := w.follow(from, p)
	w.ans.Src = w.first.src
	if !ok || !w.arrived(end) || !w.over() {
		return
	}
	w.part = Back
	if !w.back(end) || !w.sizes() || !w.overPeer(end) {
		return
	}
	w.part = There
}

// namespaces are those of the two ends, and the host's.
func (w *walk) namespaces() []string {
	all := []string{""}
	for _, e := range []*diagnose.End{w.a, w.b} {
		if e.Sandbox != nil && !e.Sandbox.Host {
			all = append(all, e.Sandbox.Path)
		}
	}
	return all
}

// finish says yes, or that it is not known, where nothing said no.
func (w *walk) finish() {
	defer w.after()
	if w.ans.Verdict != "" {
		return
	}
	if len(w.ans.Missing) > 0 {
		c := because(Unknown, "it cannot be told whether %s reaches %s: %s.", w.a.Name, w.target(), w.ans.Missing[0])
		if w.hint == "" {
			w.hint = "ask again with --probe: a real packet tells"
		}
		w.verdict(Unsure, c.advise("%s", w.hint))
		return
	}
	if w.b.Kind == diagnose.EndElsewhere {
		w.fare(w.b.Elsewhere)
		return
	}
	if w.b.Kind == diagnose.EndOutside {
		// The walk ends where the packet leaves: no more than that may be claimed.
		if !w.b.Addr.IsValid() && w.b.Name != "outside" {
			w.note(Unknown, "", "%s was not looked up: a name that nobody has fails before any packet", w.b.Name)
		}
		if w.heard {
			w.verdict(Reaches, because(OK, "%s reaches %s: both hosts have looked.", w.a.Name, w.target()))
			return
		}
		w.verdict(Reaches, because(OK, "%s reaches %s as far as this host goes; what is beyond is not seen from here (--probe asks).", w.a.Name, w.target()))
		return
	}
	w.verdict(Reaches, because(OK, "%s reaches %s.", w.a.Name, w.target()))
}

// target is B with its port, for sentences.
func (w *walk) target() string {
	if w.b.Port == 0 {
		return w.b.Name
	}
	return fmt.Sprintf("%s on port %d/%s", w.b.Name, w.b.Port, w.b.Proto)
}
