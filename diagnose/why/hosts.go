package why

import (
	"context"
	"net/netip"
	"time"

	"linkspan/cnm"
	"linkspan/diagnose"
)

// Hosts are the daemons of the other hosts of the mesh, each of which sees its own half of
// a way. What they are asked changes nothing there.
type Hosts interface {
	// Peers are all of them.
	Peers() []cnm.Peer
	// Ask puts a question; an error is why there is no answer, in words.
	Ask(ctx context.Context, to cnm.Peer, q Question) (*Reply, error)
	// Passes says whether packets of so many bytes, IP header and all, pass on the wire to
	// it, by probes of the mesh's own; known is false where that cannot be told.
	Passes(ctx context.Context, to cnm.Peer, size int) (passes, known bool)
}

// Question is what one host's daemon asks that of another. One of its fields is set.
type Question struct {
	// Half asks how a packet that comes from the asking host fares, and its answer.
	Half *Half `json:"half,omitempty"`
	// Whole is a question of a person, whose way begins at that host.
	Whole *Whole `json:"whole,omitempty"`
	// Who asks whether there is a container of that name, or of that id.
	Who string `json:"who,omitempty"`
}

// Half is a packet as the asking host hands it over.
type Half struct {
	// From is what A is called, and Container its id; "": the asking host itself.
	From      string `json:"from"`
	Container string `json:"container,omitempty"`
	// To is what B is called, and ToContainer its id.
	To          string `json:"to"`
	ToContainer string `json:"to_container"`
	// Network is the id of the one that the packet is of, Path how it is carried.
	Network string       `json:"network"`
	Path    cnm.PathKind `json:"path"`
	// The packet.
	Proto string     `json:"proto"`
	Src   netip.Addr `json:"src"`
	Dst   netip.Addr `json:"dst"`
	Port  uint16     `json:"port,omitempty"`
	// MAC is the hardware address that it is sent to, Most the largest packet that A sends,
	// in bytes; "" and 0: not known.
	MAC  string `json:"mac,omitempty"`
	Most int    `json:"most,omitempty"`
}

// Whole is a question as a person types it.
type Whole struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Reply is the answer to a Question.
type Reply struct {
	Answer *Answer `json:"answer,omitempty"`
	// Found is of who: nil, there is none.
	Found *Found `json:"found,omitempty"`
}

// Found is a container on another host, running or not.
type Found struct {
	Container diagnose.Container `json:"container"`
	// On are the networks that it has an endpoint on.
	On []FoundOn `json:"on,omitempty"`

	peer cnm.Peer
}

// FoundOn is one of its networks.
type FoundOn struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Global: hosts of the mesh share it.
	Global bool `json:"global,omitempty"`
}

// How long another host may take, in all.
const (
	halfTime = 2 * time.Second
	// A whole way is walked there, and this host, or a third one, asked for its half.
	wholeTime = 4 * time.Second
	// A dead host does not answer who has a name; the others do at once.
	whoTime = time.Second
	// whoMost hosts are asked at the same time.
	whoMost = 32
)

// longest is how many bytes of text of somebody else's are taken, in each field.
const longest = 300

// Respond answers the question of another host's daemon. It reads only.
func Respond(ctx context.Context, world *diagnose.World, from cnm.Peer, q Question, o Options) (*Reply, error) {
	o.Probe = nil // a packet is sent for who stands at this host only
	switch {
	case q.Half != nil:
		ctx, stop := context.WithTimeout(ctx, halfTime)
		defer stop()
		a, err := theirs(ctx, world, from, *q.Half, o)
		return &Reply{Answer: a}, err
	case q.Whole != nil:
		if len(q.Whole.From) > longest || len(q.Whole.To) > longest {
			return nil, cnm.Invalid("the question is too long")
		}
		ctx, stop := context.WithTimeout(ctx, wholeTime)
		defer stop()
		w, err := ask(ctx, world, q.Whole.From, q.Whole.To, o, false)
		if err != nil {
			return nil, err
		}
		w.sign()
		return &Reply{Answer: w.ans}, nil
	case q.Who != "" && len(q.Who) <= longest:
		return &Reply{Found: found(world, q.Who)}, nil
	}
	return nil, cnm.Unsupported("it is a question that this version does not know")
}

// found is the container that is called so here; nil: none.
func found(world *diagnose.World, name string) *Found {
	c, err := world.Container(name)
	if err != nil {
		return nil
	}
	f := &Found{Container: c}
	// What the name and the state of a container are, everybody in the mesh may know.
	f.Container = diagnose.Container{ID: c.ID, Name: c.Name, State: c.State, ExitCode: c.ExitCode, Networks: c.Networks}
	if s, ok := world.Sandbox(c.ID); ok {
		for _, e := range s.Endpoints {
			n := world.NetworkByID(e.NetworkID)
			f.On = append(f.On, FoundOn{ID: e.NetworkID, Name: e.NetworkName, Global: n != nil && n.Global()})
		}
	}
	return f
}
