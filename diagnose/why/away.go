package why

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// away is the error of a question whose way begins on another host.
type away struct {
	peer     cnm.Peer
	from, to string
	who      string // is there
	err      error  // is said where that host is not asked
}

func (a *away) Error() string { return a.err.Error() }
func (a *away) Unwrap() error { return a.err }

// awayFrom is said to who asks for a way that begins on another host.
func awayFrom(a *diagnose.End, from, to string) error {
	p := a.Elsewhere.Peer
	if !a.Addr.IsValid() {
		from = a.Elsewhere.Remote.Container // names are a host's own
	}
	return &away{p, from, to, a.Name, cnm.Invalid("%s runs on host %s: each host sees its own half of a way; ask there: linkspan why %s %s", a.Name, p.Name, a.Text, to)}
}

// forward asks the host where the way begins for all of it.
func (w *walk) forward(a *away) {
	name := a.peer.Name
	w.ans.Asked = w.ownName()
	ctx, stop := context.WithTimeout(w.ctx, wholeTime)
	defer stop()
	whole, why := w.answerOf(ctx, a.peer, Question{Whole: &Whole{From: a.from, To: a.to}})
	if whole == nil {
		w.ans.From, w.ans.To = *w.a, *w.b
		w.ans.Host = name
		w.step(place{name: "mesh"}, Open, a.who, "on host %s, which cannot be asked: %s", name, why)
		w.ans.Steps[len(w.ans.Steps)-1].Code = NotAsked
		w.verdict(Unsure, because(NotAsked, "%s is on host %s, which cannot be asked: %s.", a.who, name, why).advise("ask there: linkspan %s", w.ans.Question))
		return
	}
	asked, question := w.ans.Asked, w.ans.Question
	*w.ans = *whole
	w.ans.Asked, w.ans.Question, w.ans.Probe = asked, question, nil
	across := w.ans.To.Kind == diagnose.EndElsewhere
	if on := "on " + name + ": "; w.ans.Host == name || w.ans.Host == "" && !across {
		w.ans.Sentence = on + w.ans.Sentence
	}
	w.note("", "", "the way begins on host %s, which was asked", name)
}

// bracketed is an address as it is written before a port.
func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// ownName is this host's in the mesh; "": it is in none.
func (w *walk) ownName() string {
	if w.world.Mesh != nil {
		if u := w.world.Mesh.Underlay(); u != nil {
			return u.Name
		}
	}
	return ""
}

// whereabouts asks the other hosts who has a container of a name: those are not told of here
// that do not run, or are on networks only that nobody here is on. unasked are hosts that
// did not answer, with the reason.
func (w *walk) whereabouts(name string) (all []Found, unasked []string) {
	if w.hosts == nil || w.world.Mesh == nil || w.world.Mesh.Underlay() == nil || len(name) > longest {
		return nil, nil
	}
	ctx, stop := context.WithTimeout(w.ctx, whoTime)
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	free := make(chan struct{}, whoMost)
	for _, p := range w.hosts.Peers() {
		if !p.Alive {
			unasked = append(unasked, "host "+p.Name+" is not heard of")
			continue
		}
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			r, err := w.hosts.Ask(ctx, p, Question{Who: name})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				unasked = append(unasked, fmt.Sprintf("host %s cannot be asked: %s", p.Name, strings.TrimSuffix(err.Error(), ".")))
			case r != nil && r.Found != nil:
				r.Found.peer = p
				all = append(all, *r.Found)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.peer.Name, b.peer.Name) })
	slices.Sort(unasked)
	return all, unasked
}

// begins looks for A on the other hosts. unknown is what is said when nobody has it.
func (w *walk) begins(a *diagnose.End, from, to string, unknown error) error {
	all, unasked := w.whereabouts(a.Name)
	switch {
	case len(all) > 1:
		return severalHosts(a.Name, all)
	case len(all) == 1:
		f := all[0]
		a.Kind, a.Name = diagnose.EndElsewhere, f.Container.Name
		return &away{f.peer, f.Container.ID, to, f.Container.Name, cnm.Invalid("%s is on host %s: ask there: linkspan why %s %s", a.Name, f.peer.Name, from, to)}
	case len(unasked) > 0:
		return fmt.Errorf("%w; it may be on another host: %s", unknown, strings.Join(unasked, ", "))
	}
	return unknown
}

func severalHosts(name string, all []Found) error {
	var hosts []string
	for _, f := range all {
		hosts = append(hosts, fmt.Sprintf("%s (%.12s)", f.peer.Name, f.Container.ID))
	}
	return cnm.Conflict("there is a container %s on several hosts: %s; give the id of the one that is meant", name, strings.Join(hosts, ", "))
}

// ends at B looks for it on the other hosts: it does not run, or is on no network of A's.
func (w *walk) endsAway(name string) (bool, error) {
	all, unasked := w.whereabouts(name)
	for _, u := range unasked {
		w.note(NotAsked, "", "%s: whether %s is there is not known", u, name)
	}
	switch len(all) {
	case 0:
		return false, nil
	case 1:
	default:
		return false, severalHosts(name, all)
	}
	f := all[0]
	host, c := f.peer.Name, f.Container
	w.b.Kind, w.b.Name, w.b.How = diagnose.EndName, c.Name, c.Name+" is on host "+host
	at := place{name: c.Name}
	w.ans.Host = host
	if c.State != "running" && c.State != "paused" {
		out := stopped(&c)
		out.sentence = "on " + host + ": " + out.sentence
		w.fail(at, "container", stateOf(&c)+", on host "+host, out)
		return true, nil
	}
	var names []string
	for _, n := range f.On {
		names = append(names, n.Name)
	}
	if w.a.Sandbox == nil {
		w.ans.Host = w.ownName()
		w.fail(at, "container", "on host "+host, because(NoSharedNetwork, "%s is on host %s (on %s), and this host is on no network with it.", c.Name, host, orNone(names)).
			advise("containers of different hosts reach each other on overlay or routed networks; from outside they are reached by ports published there"))
		return true, nil
	}
	out := because(NoSharedNetwork, "%s (on %s) and %s (on %s, on host %s) are on no network in common.", w.a.Name, onNetworks(w.a.Sandbox), c.Name, orNone(names), host)
	w.joined(out, f)
	w.fail(at, "network", "none in common", out)
	return true, nil
}

// joined is the command that puts A and a container of another host on one network: there,
// or here.
func (w *walk) joined(c *cause, f Found) {
	for _, n := range w.networksOf(w.a.Sandbox) {
		if n.Global() {
			c.mend("linkspan network connect %s %s", n.Name, f.Container.Name)
			return
		}
	}
	w.ans.Host = w.ownName()
	for _, n := range f.On {
		if n.Global {
			c.mend("linkspan network connect %s %s", n.Name, w.a.Name)
			return
		}
	}
	c.advise("make a network of the mesh (linkspan network create -d overlay NAME), and connect both, each on its host")
}

// asAway says whether an error is that the way begins on another host that can be asked.
func (w *walk) asAway(err error) (*away, bool) {
	var a *away
	ok := errors.As(err, &a) && w.hosts != nil
	return a, ok
}
