package daemon

import (
	"context"
	"encoding/json"

	"linkspan/cnm"
	"linkspan/diagnose/why"
)

// neighbours are the daemons of the other hosts, which `linkspan why` asks for their half
// of a way: on the port of the mesh's probes, where hosts show each other their
// certificates.
type neighbours struct{ e *engine }

// Peers implements why.Hosts.
func (n neighbours) Peers() []cnm.Peer {
	if m := n.e.mesh.Mesh(); m != nil {
		return m.Peers()
	}
	return nil
}

// Ask implements why.Hosts.
func (n neighbours) Ask(ctx context.Context, to cnm.Peer, q why.Question) (*why.Reply, error) {
	c := n.e.span.current()
	if c == nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "this host is in no mesh, or has joined just now")
	}
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if b, err = c.Ask(ctx, to, b); err != nil {
		return nil, err
	}
	var r why.Reply
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, cnm.Errorf(cnm.ErrUnavailable, "what %s answers is not understood (%w): it is of another version", to.Name, err)
	}
	return &r, nil
}

// Passes implements why.Hosts.
func (n neighbours) Passes(ctx context.Context, to cnm.Peer, size int) (passes, known bool) {
	if c := n.e.span.current(); c != nil {
		return c.Passes(ctx, to, size)
	}
	return false, false
}

// asked answers the question of another host's daemon. It changes nothing, and sends no
// packet but the mesh's own probes.
func (e *engine) asked(ctx context.Context, from cnm.Peer, b []byte) ([]byte, error) {
	var q why.Question
	if err := json.Unmarshal(b, &q); err != nil {
		return nil, cnm.Invalid("the question is not understood (%w): it is of another version", err)
	}
	r, err := why.Respond(ctx, e.meshWorld(), from, q, why.Options{Drops: e.hearing.drops, Hosts: neighbours{e}})
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}
