package why

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// over asks the other host for its half of the way: how the packet fares there, and its
// answer. What stops it there is the verdict.
func (w *walk) over() bool {
	x := w.elsewhere(w.reached.dst)
	if w.hosts == nil || x == nil {
		return true
	}
	q := Half{From: w.a.Name, To: x.Called(), ToContainer: x.Remote.Container, Network: x.Network.ID, Path: x.Path.Kind, Proto: w.reached.proto,
		Src: w.reached.src, Dst: w.reached.dst, Port: w.reached.dport, MAC: x.Remote.MAC, Most: w.most()}
	if w.a.Container != nil {
		q.Container = w.a.Container.ID
	} else if u := w.world.Mesh.Underlay(); u != nil {
		q.From = u.Name
	}
	ctx, stop := context.WithTimeout(w.ctx, halfTime)
	defer stop()
	passes := w.tryWire(ctx, x, q.Most)
	half, why := w.answerOf(ctx, x.Peer, Question{Half: &q})
	if half == nil {
		w.unasked = why
		w.step(place{name: "mesh"}, Open, "the other half", "host %s cannot be asked: %s", x.Peer.Name, w.unasked)
		w.ans.Steps[len(w.ans.Steps)-1].Code = NotAsked
		return true
	}
	w.heard = true
	return w.join(half, x.Peer.Name) && passes()
}

// answerOf is what another host answers; nil: why it does not.
func (w *walk) answerOf(ctx context.Context, p cnm.Peer, q Question) (a *Answer, why string) {
	r, err := w.hosts.Ask(ctx, p, q)
	switch {
	case err != nil:
		return nil, strings.TrimSuffix(err.Error(), ".")
	case r == nil || r.Answer == nil:
		return nil, p.Name + " gave no answer"
	}
	return r.Answer, ""
}

// overPeer asks another host of the mesh about what comes to its own address, by which its
// published ports are reached too.
func (w *walk) overPeer(end arrival) bool {
	if w.hosts == nil || w.b.Kind != diagnose.EndOutside || !end.outside {
		return true
	}
	peers := w.hosts.Peers()
	i := slices.IndexFunc(peers, func(p cnm.Peer) bool { return p.Addr == end.p.dst })
	if i < 0 {
		return true
	}
	to := bracketed(end.p.dst)
	if end.p.dport != 0 {
		to = at(end.p.dst, end.p.dport, end.p.proto)
	}
	ctx, stop := context.WithTimeout(w.ctx, halfTime)
	defer stop()
	whole, why := w.answerOf(ctx, peers[i], Question{Whole: &Whole{From: "outside:" + bracketed(end.p.src), To: to}})
	if whole == nil {
		w.note(NotAsked, "", "%s is host %s, which cannot be asked: %s", end.p.dst, peers[i].Name, why)
		return true
	}
	w.heard = true
	return w.join(whole, peers[i].Name)
}

// join makes another host's half a part of the answer.
func (w *walk) join(half *Answer, host string) bool {
	for _, s := range half.Steps {
		if s.Host == "" {
			s.Host = host
		}
		w.ans.Steps = append(w.ans.Steps, s)
	}
	for _, n := range half.Notes {
		if n.Host = host; !slices.Contains(w.ans.Notes, n) {
			w.ans.Notes = append(w.ans.Notes, n)
		}
	}
	on := "on " + host + ": "
	for _, m := range half.Missing {
		w.ans.Missing = append(w.ans.Missing, on+m)
	}
	switch {
	case half.Verdict == Blocked && w.ans.Verdict == "":
		w.verdict(Blocked, &cause{code: half.Code, sentence: on + half.Sentence, cure: half.Cure, advice: half.Advice, rule: half.Rule})
		w.ans.Host = host
		return false
	case half.Verdict != Reaches && len(half.Missing) == 0:
		w.ans.Missing = append(w.ans.Missing, on+half.Sentence)
	}
	return true
}

// most is the largest packet that A sends, in bytes; 0: not known.
func (w *walk) most() int {
	i := slices.IndexFunc(w.carries, func(c carrier) bool { return c.sender })
	if i < 0 {
		return 0
	}
	most := w.carries[i].mtu
	if r, err := w.live.route(w.carries[i].ns, routeTo(w.first.dst)); err == nil && r.MTU > 0 {
		most = min(most, r.MTU)
	}
	for _, c := range w.carries[i+1:] {
		if c.routed {
			most = min(most, c.mtu) // it tells who sends more
		}
	}
	return most
}

// sign says of what this host has seen that it was here.
func (w *walk) sign() {
	if w.world.Mesh == nil {
		return
	}
	u := w.world.Mesh.Underlay()
	if u == nil {
		return
	}
	for i := range w.ans.Steps {
		if w.ans.Steps[i].Host == "" {
			w.ans.Steps[i].Host = u.Name
		}
	}
	if w.ans.Host == "" && w.ans.Verdict != Reaches {
		w.ans.Host = u.Name
	}
}

// fare is the verdict of a way to another host that nothing stops, as far as is known.
func (w *walk) fare(x *diagnose.Elsewhere) {
	for _, d := range w.doubts {
		w.note("", "", "%s", d)
	}
	there := fmt.Sprintf("on host %s, linkspan why %s %s", x.Peer.Name, w.b.Name, w.a.Name)
	switch {
	case w.silent != nil && !w.heard:
		c := because(PeerSilent, "host %s, where %s is, is not heard of: it is down, or cut off from the mesh's store; as far as this host goes, %s reaches %s.", x.Peer.Name, w.b.Name, w.a.Name, w.target()).
			advise("look at host %s; --probe sends a real packet", x.Peer.Name)
		if w.unasked != "" {
			c.sentence = strings.TrimSuffix(c.sentence, ".") + "; it cannot be asked for its half either: " + w.unasked + "."
		}
		w.verdict(Unsure, c)
	case w.unasked != "":
		w.verdict(Unsure, because(NotAsked, "host %s cannot be asked: %s; this is this host's half: here nothing keeps %s from %s (%s).", x.Peer.Name, w.unasked, w.a.Name, w.target(), pathWord(x.Path.Kind)).
			advise("ask there, %s; or let a real packet tell: --probe", there))
	case w.heard:
		if w.silent != nil {
			w.note(PeerSilent, "", "host %s is not heard of in the mesh's store, but answers: new containers of either are not known to the other", x.Peer.Name)
		}
		w.verdict(Reaches, because(OK, "%s reaches %s on host %s (%s): both hosts have looked.", w.a.Name, w.target(), x.Peer.Name, pathWord(x.Path.Kind)))
	default:
		w.note("", "", "the other half of the way is told there: %s", there)
		w.verdict(Reaches, because(OK, "%s reaches %s on host %s as far as this host goes (%s); what is beyond is not seen from here (--probe asks).", w.a.Name, w.target(), x.Peer.Name, pathWord(x.Path.Kind)))
	}
}
