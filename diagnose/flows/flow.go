package flows

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// Flow is one connection, or exchange of packets, by name.
type Flow struct {
	// Event, of those that are followed: "new", "update", "end" or "dropped".
	Event string    `json:"event,omitempty"`
	Time  time.Time `json:"time,omitzero"`
	Proto string    `json:"proto"`
	// From began it; To answers: where translation leads, whatever was dialled.
	From End `json:"from"`
	To   End `json:"to"`
	// Dialled is what From asked for, where that is another address than To's (DNAT: a
	// published port). As is what To sees instead of From (SNAT).
	Dialled netip.AddrPort `json:"dialled,omitzero"`
	As      netip.AddrPort `json:"as,omitzero"`
	// Published: Dialled is a published port of To's.
	Published bool `json:"published,omitempty"`
	// Verdict is "accepted" or "dropped"; then Rule says by whom.
	Verdict string `json:"verdict"`
	Rule    string `json:"rule,omitempty"`
	// State is TCP's, or "assured", "answered" or "unanswered".
	State string `json:"state,omitempty"`
	// Counted says whether the kernel counts (net.netfilter.nf_conntrack_acct).
	Counted bool   `json:"counted,omitempty"`
	Sent    Volume `json:"sent,omitzero"`
	Back    Volume `json:"back,omitzero"`
	// Started is known with net.netfilter.nf_conntrack_timestamp, and then Age as well, in
	// seconds.
	Started time.Time `json:"started,omitzero"`
	Age     float64   `json:"age_seconds,omitempty"`
	// Seen is where: in the host's conntrack ("host"), or in the sockets of a container.
	Seen string `json:"seen"`
}

// Volume is what went one way.
type Volume struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Wish says whose flows are wanted; without any, all in which a container takes part.
type Wish struct {
	// Container and Network are as a person writes them; Either is one or the other.
	Container, Network, Either string
	// All has the host's own as well.
	All bool
}

// target is a wish whose names were found.
type target struct {
	container string // id of the sandbox's owner
	network   string // name
	all       bool
	boxes     []*cnm.Sandbox // to look into
}

// find looks the names up. Who is not there is cnm.ErrNotFound with the nearest name.
func (w Wish) find(world *diagnose.World) (t target, err error) {
	t.all = w.All
	if w.Either != "" {
		if w.Container, w.Network, err = either(world, w.Either); err != nil {
			return t, err
		}
	}
	if w.Container != "" {
		c, err := world.Container(w.Container)
		if err != nil {
			return t, err
		}
		box, ok := world.Sandbox(c.ID)
		switch {
		case !ok:
			return t, cnm.Conflict("container %s does not run (%s): it has no flows; start it: linkspan start %s", c.Name, c.State, c.Name)
		case box.Host:
			return t, cnm.Conflict("container %s uses the host's own network (--network host): its flows are the host's; see linkspan flows --all", c.Name)
		}
		t.container, t.boxes = box.Owner, []*cnm.Sandbox{box}
	}
	if w.Network != "" {
		n, err := world.Network(w.Network)
		if err != nil {
			return t, err
		}
		t.network = n.Name
	}
	if t.container == "" {
		for _, s := range world.Declared.Sandboxes() {
			if !s.Host && (t.network == "" || slices.ContainsFunc(s.Endpoints, func(e cnm.Endpoint) bool { return e.NetworkName == t.network })) {
				t.boxes = append(t.boxes, s)
			}
		}
	}
	return t, nil
}

// either tells a container's name from a network's; a container wins.
func either(world *diagnose.World, ref string) (container, network string, err error) {
	if _, err = world.Container(ref); err == nil {
		return ref, "", nil
	}
	if _, e := world.Network(ref); e == nil {
		return "", ref, nil
	} else if !errors.Is(err, cnm.ErrNotFound) {
		return "", "", err
	} else if strings.Contains(e.Error(), "did you mean") && !strings.Contains(err.Error(), "did you mean") {
		return "", "", e
	}
	return "", "", err
}

func (t target) wants(f Flow) bool {
	switch {
	case t.container != "":
		return f.From.ContainerID == t.container || f.To.ContainerID == t.container
	case t.network != "":
		// The gateway's own (the host's) are not the network's.
		return f.From.Network == t.network && f.From.Kind != KindHost || f.To.Network == t.network && f.To.Kind != KindHost
	}
	return t.all || f.From.Kind == KindContainer || f.To.Kind == KindContainer
}

// flowOf joins a conntrack entry with names.
func flowOf(f reading.Flow, b *Book, now time.Time) Flow {
	out := Flow{Proto: f.Proto, From: b.At(f.Original.Src), To: b.At(f.Reply.Src), Verdict: "accepted", State: state(f), Seen: "host",
		Counted: f.Counted, Sent: Volume{f.OutPackets, f.OutBytes}, Back: Volume{f.BackPackets, f.BackBytes}}
	if f.Original.Dst != f.Reply.Src {
		out.Dialled = f.Original.Dst
		out.Published = f.DNAT && out.To.Kind == KindContainer
	}
	if f.Reply.Dst != f.Original.Src {
		out.As = f.Reply.Dst
	}
	if !f.Started.IsZero() {
		out.Started, out.Age = f.Started, max(now.Sub(f.Started).Round(time.Second).Seconds(), 0)
	}
	return out
}

func state(f reading.Flow) string {
	switch {
	case f.State != "" && f.State != "NONE":
		return f.State
	case f.Assured:
		return "assured"
	case f.Unreplied:
		return "unanswered"
	}
	return "answered"
}

// Table is the answer of `linkspan flows`.
type Table struct {
	Flows []Flow   `json:"flows"`
	Notes []string `json:"notes,omitempty"`
}

// boxesMost bounds how many containers' sockets are looked at unless one is named: a
// namespace must be entered for each.
const boxesMost = 64

// Now are the flows of this moment.
func (f *Follower) Now(ctx context.Context, w Wish) (*Table, error) {
	t, err := w.find(f.World)
	if err != nil {
		return nil, err
	}
	host, err := f.World.Kernel.Flows(ctx, "", reading.FlowFilter{})
	if err != nil {
		return nil, fmt.Errorf("the host's conntrack: %w", err)
	}
	book, now := f.Names.Book(ctx), time.Now()
	out := &Table{Flows: []Flow{}}
	seen := map[wire]bool{}
	uncounted, undated := false, false
	for _, f := range host {
		flow := flowOf(f, book, now)
		// What the sockets inside have of it is the same.
		seen[wireOf(f)], seen[answerOf(f)] = true, true
		if t.wants(flow) {
			uncounted, undated = uncounted || !flow.Counted, undated || f.Started.IsZero()
			out.Flows = append(out.Flows, flow)
		}
	}
	for i, s := range t.boxes {
		if i == boxesMost {
			out.Notes = append(out.Notes, fmt.Sprintf("connections within one network were looked for in %d of %d containers; name one, or a network, to see the others'", boxesMost, len(t.boxes)))
			break
		}
		all, err := f.Tap.Connections(ctx, s.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it ended meanwhile
			out.Notes = append(out.Notes, fmt.Sprintf("the connections of container %s cannot be read: %v", s.OwnerName, err))
		}
		for _, c := range all {
			flow, w := flowOfConnection(c, book, s.OwnerName)
			if !seen[w] && t.wants(flow) {
				seen[w] = true
				out.Flows = append(out.Flows, flow)
			}
		}
	}
	sortFlows(out.Flows)
	if uncounted {
		out.Notes = append(out.Notes, "SENT and BACK: the kernel counts flows that begin after `sysctl -w net.netfilter.nf_conntrack_acct=1`")
	}
	if undated {
		out.Notes = append(out.Notes, "AGE: the kernel keeps it of flows that begin after `sysctl -w net.netfilter.nf_conntrack_timestamp=1`")
	}
	if len(out.Flows) == 0 {
		out.Notes = append(out.Notes, "there are no flows now; of what passes between containers of one network only TCP connections are seen: it is switched, and no conntrack has it")
	}
	return out, nil
}

// wire is a flow as it is on the containers' side, by which the host's entry and those
// inside of containers are known to be the same.
type wire struct {
	proto    string
	src, dst netip.AddrPort
}

// wireOf is as the first packet came, answerOf as it went on; without translation they
// are the same.
func wireOf(f reading.Flow) wire   { return wire{f.Proto, f.Original.Src, f.Original.Dst} }
func answerOf(f reading.Flow) wire { return wire{f.Proto, f.Reply.Dst, f.Reply.Src} }

// flowOfConnection is a connection as a socket has it. It may be the same as another
// one's, from the other side.
func flowOfConnection(c reading.Connection, b *Book, where string) (Flow, wire) {
	flow := Flow{Proto: "tcp", From: b.At(c.Local), To: b.At(c.Remote), Verdict: "accepted", State: c.State, Seen: where, Counted: true,
		Sent: Volume{c.SentPackets, c.SentBytes}, Back: Volume{c.BackPackets, c.BackBytes}}
	w := wire{"tcp", c.Local, c.Remote}
	if c.Served {
		flow.From, flow.To, flow.Sent, flow.Back = flow.To, flow.From, flow.Back, flow.Sent
		w.src, w.dst = w.dst, w.src
	}
	return flow, w
}

func sortFlows(all []Flow) {
	slices.SortStableFunc(all, func(a, b Flow) int {
		return strings.Compare(a.sortKey(), b.sortKey())
	})
}

func (f Flow) sortKey() string {
	return fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%05d\x00%05d", f.To.Container, f.To.Addr.StringExpanded(), f.Proto, f.From.Addr.StringExpanded(), f.To.Port, f.From.Port)
}
