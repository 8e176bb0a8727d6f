package why

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
)

// Exposed is what is reached from outside of this host (`linkspan exposed`).
type Exposed struct {
	Ports []Exposure `json:"ports"`
	Notes []string   `json:"notes,omitempty"`
	// TookMS is how long the daemon took, in milliseconds.
	TookMS float64 `json:"took_ms"`
}

// Exposure is one port, or range, or all of a container.
type Exposure struct {
	Container string `json:"container"`
	Network   string `json:"network,omitempty"`
	// At is where it is asked: "192.0.2.10:8080/tcp", "every address:8080/tcp", or the
	// container's own address.
	At string `json:"at"`
	// To is the container's port; "" for all of them.
	To string `json:"to,omitempty"`
	// By says who reaches it.
	By string `json:"by"`
	// Through is what in our table lets it in.
	Through string `json:"through"`
	// State is "open", "closed" or "unknown".
	State string `json:"state"`
	// Why says what closes it, or why nobody answers although it is open.
	Why string `json:"why,omitempty"`
	// Despite is the rule of the host's own firewall that would refuse it if the port
	// were the host's own: published ports do not pass the input hook.
	Despite *Rule `json:"despite,omitempty"`
}

// ExitCode is the verb's: 2 when something is open that the host's firewall closes.
func (e *Exposed) ExitCode() int {
	for _, x := range e.Ports {
		if x.State == "open" && x.Despite != nil {
			return 2
		}
	}
	return 0
}

// exposing is one exposure that is to be looked at.
type exposing struct {
	Exposure
	addr  netip.Addr // zero: the uplink's
	port  uint16
	proto string
	host  bool // the port is the host's
}

// walkers is how many are looked at at once.
const walkers = 8

// Expose walks from outside to everything that is published or directly routed.
func Expose(ctx context.Context, world *diagnose.World, o Options) (*Exposed, error) {
	start := time.Now()
	base := newWalk(ctx, world, o)
	if err := base.inventory(); err != nil {
		return nil, err
	}
	base.live.warm("")
	out := &Exposed{Ports: []Exposure{}}
	var todo []exposing
	for _, s := range world.Declared.Sandboxes() {
		if s.Host {
			out.Notes = append(out.Notes, fmt.Sprintf("%s is on the host's own network: whatever it listens on is the host's", s.OwnerName))
			continue
		}
		todo = append(append(todo, base.published(s)...), base.direct(s)...)
	}
	var wg sync.WaitGroup
	next := make(chan *exposing)
	for range walkers {
		wg.Go(func() {
			for x := range next {
				base.look(x)
			}
		})
	}
	for i := range todo {
		next <- &todo[i]
	}
	close(next)
	wg.Wait()
	for _, x := range todo {
		out.Ports = append(out.Ports, x.Exposure)
	}
	slices.SortStableFunc(out.Ports, func(a, b Exposure) int { return strings.Compare(a.Container, b.Container) })
	out.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return out, nil
}

// published are a sandbox's ports of the host's.
func (w *walk) published(s *cnm.Sandbox) (all []exposing) {
	for _, p := range s.Ports {
		if p.HostIP.IsLoopback() || w.routedOnly(s) {
			continue
		}
		m := mapping{s, p}
		x := exposing{addr: p.HostIP, port: p.HostPort, proto: p.Proto, host: true}
		if p.HostIP.IsUnspecified() {
			x.addr = netip.Addr{}
		}
		x.Container, x.At, x.To, x.By = s.OwnerName, m.String(), portOf(p.Port, p.Proto), "whoever reaches the host"
		if p.Count() > 1 {
			x.To = fmt.Sprintf("%d-%d/%s", p.Port, int(p.Port)+p.Count()-1, p.Proto)
		}
		x.Through = w.elementOf(s, p)
		all = append(all, x)
	}
	return all
}

// elementOf is the element of our table that leads a port.
func (w *walk) elementOf(s *cnm.Sandbox, p cnm.PublishedPort) string {
	want := fmt.Sprintf("%s . %d", p.Proto, p.HostPort)
	var all []string
	for _, o := range w.objects {
		el, ok := o.(dataplane.Element)
		if !ok || !strings.HasPrefix(el.Set, "publish") || el.About().Owner.ID != s.ID {
			continue
		}
		single := el.KeyText == want || p.HostIP.IsValid() && el.KeyText == p.HostIP.String()+" . "+want
		ranged := el.Flow != nil && el.Flow.PortEnd != 0 && el.Flow.Port == p.HostPort && el.Flow.Proto == p.Proto
		if single || ranged {
			all = append(all, fmt.Sprintf("%s { %s : %s }", el.Set, el.KeyText, el.DataText))
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return "the keeper"
	}
	return strings.Join(all, ", ")
}

// direct are a sandbox's own addresses, where its networks are open to routing.
func (w *walk) direct(s *cnm.Sandbox) (all []exposing) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		n := w.world.NetworkByID(e.NetworkID)
		if n == nil || !bridged(n) {
			continue
		}
		for _, a := range e.Addrs {
			set, by := w.inbound(n, a.Addr().Is4())
			if set == "" {
				continue
			}
			x := exposing{addr: a.Addr()}
			x.Container, x.Network, x.By, x.Through = s.OwnerName, n.Name, by, set
			if strings.HasSuffix(set, "accept }") {
				x.At = a.Addr().String()
				all = append(all, x)
				continue
			}
			for _, p := range s.Ports {
				if p.HostIP.IsLoopback() {
					continue
				}
				x.port, x.proto, x.At, x.To = p.Port, p.Proto, at(a.Addr(), p.Port, p.Proto), portOf(p.Port, p.Proto)
				all = append(all, x)
			}
		}
	}
	return all
}

// inbound is the element that opens a network to routing, and to whom.
func (w *walk) inbound(n *cnm.Network, v4 bool) (element, by string) {
	set := "inbound6"
	if v4 {
		set = "inbound4"
	}
	name := fmt.Sprintf("%q", device(n))
	for _, o := range w.objects {
		el, ok := o.(dataplane.Element)
		if !ok || el.About().Owner.ID != n.ID {
			continue
		}
		switch {
		case el.Set == set && el.KeyText == name:
			return fmt.Sprintf("%s { %s : %s }", el.Set, el.KeyText, el.Verdict), "whoever routes to it"
		case el.Set == "direct" && el.KeyText == name:
			element, by = "direct { "+name+" }", "whoever routes to it"
		case el.Set == "trusted" && element == "" && strings.HasSuffix(el.KeyText, ". "+name):
			element, by = "trusted { "+el.KeyText+" }", "what comes in by "+strings.Trim(strings.TrimSuffix(el.KeyText, ". "+name), `" `)
		}
	}
	return element, by
}

// look walks to one, and says what it found.
func (w *walk) look(x *exposing) {
	one := *w
	one.ans, one.known = &Answer{Steps: []Step{}}, freshKnown()
	one.a = &diagnose.End{Kind: diagnose.EndOutside, Text: "outside", Name: "outside"}
	one.b = &diagnose.End{Kind: diagnose.EndHost, Text: x.At, Name: "the host", Addr: x.addr, Port: x.port, Proto: x.proto}
	if !x.host {
		one.b.Kind = ""
		if err := w.world.Find(w.ctx, one.b); err != nil {
			x.State, x.Why = "unknown", err.Error()
			return
		}
	}
	one.run()
	one.finish()
	switch {
	case one.ans.Verdict == Unsure:
		x.State, x.Why = "unknown", one.ans.Sentence
	case one.ans.Verdict == Reaches:
		x.State = "open"
	case inside(one.ans.Code):
		x.State, x.Why = "open", one.ans.Sentence
	default:
		x.State, x.Why = "closed", one.ans.Sentence
	}
	if x.host && x.State == "open" {
		x.Despite = one.despite()
	}
}

// inside are causes that do not close a port: nobody answers behind it.
func inside(c Code) bool {
	return slices.Contains([]Code{NotListening, ListensLoopback, ListensElsewhere, NotAccepting, Paused, MTU}, c)
}

// despite is the rule of the host's input hook that would refuse the packet.
func (w *walk) despite() *Rule {
	fw, err := w.fire("")
	if err != nil {
		return nil
	}
	p := w.first
	p.in, _, _ = w.uplink(p.dst.Is4())
	t := fw.walk("", "input", p.rules())
	if t.Verdict != "drop" && t.Verdict != "reject" {
		return nil
	}
	r := w.ruleOf(hostPlace, fw, *orEmpty(t.Rule))
	if r.Owner == "Linkspan" {
		return nil
	}
	return r
}
