package why

import (
	"context"
	"sync"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/diagnose"
)

// memo asks what is declared once for a walk: it is asked for often, and each time the
// engine would copy all of it.
type memo struct {
	networks   func() []*cnm.Network
	sandboxes  func() []*cnm.Sandbox
	containers func() []diagnose.Container
	objects    func() ([]dataplane.Object, error)
}

func remember(ctx context.Context, d diagnose.Declared) diagnose.Declared {
	return memo{networks: sync.OnceValue(d.Networks), sandboxes: sync.OnceValue(d.Sandboxes), containers: sync.OnceValue(d.Containers),
		objects: sync.OnceValues(func() ([]dataplane.Object, error) { return d.Objects(ctx) })}
}

func (m memo) Networks() []*cnm.Network                            { return m.networks() }
func (m memo) Sandboxes() []*cnm.Sandbox                           { return m.sandboxes() }
func (m memo) Containers() []diagnose.Container                    { return m.containers() }
func (m memo) Objects(context.Context) ([]dataplane.Object, error) { return m.objects() }
