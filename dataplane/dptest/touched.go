package dptest

import (
	"context"

	"linkspan/dataplane"
)

// ObserveTouched returns what there is where the news is, as dataplane/linux does.
func (k *Kernel) ObserveTouched(ctx context.Context, t dataplane.Touch, want []dataplane.Object) (*dataplane.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := dataplane.NewState()
	for _, o := range k.objs {
		if !unasked(o) && t.Has(o) {
			s.Add(bare(o))
		}
	}
	for _, w := range want {
		if unasked(w) && dataplane.InSandbox(w) == "" {
			if o, ok := k.objs[w.Key()]; ok {
				s.Add(bare(o))
			}
		}
		if what, ok := k.strange[linkName(w)]; ok {
			s.Add(dataplane.Foreign{Name: linkName(w), What: what})
		}
	}
	return s, ctx.Err()
}

// Watch is news of what a test took away or put there (Lose, Meddle), as
// dataplane/linux's. It is to be asked for before.
type Watch struct {
	k       *Kernel
	touched chan struct{}
	touch   dataplane.Touch // under k.mu
}

// Watch begins to tell news.
func (k *Kernel) Watch() *Watch {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch = &Watch{k: k, touched: make(chan struct{}, 1)}
	return k.watch
}

// Touched has a token when Take has news.
func (w *Watch) Touched() <-chan struct{} { return w.touched }

// Take returns it.
func (w *Watch) Take() dataplane.Touch {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	t := w.touch
	w.touch = dataplane.Touch{}
	return t
}

// news tells of an object; the caller holds mu.
func (k *Kernel) news(o dataplane.Object) {
	if k.watch == nil {
		return
	}
	t := dataplane.TouchOf(o)
	if b, ok := o.(dataplane.Bridge); ok { // its ports lose their master
		for _, p := range k.objs {
			if v, ok := p.(dataplane.Veth); ok && v.Master == b.Name {
				t.Add(dataplane.TouchOf(v))
			}
			if v, ok := p.(dataplane.VXLAN); ok && v.Master == b.Name {
				t.Add(dataplane.TouchOf(v))
			}
		}
	}
	if k.watch.touch.Add(t); !k.watch.touch.Empty() {
		select {
		case k.watch.touched <- struct{}{}:
		default:
		}
	}
}

// Lost is news of which some was lost: anything may have happened.
func (k *Kernel) Lost() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watch != nil {
		k.watch.touch.All = true
		select {
		case k.watch.touched <- struct{}{}:
		default:
		}
	}
}

// Forget takes objects away of which nobody hears.
func (k *Kernel) Forget(keys ...string) {
	k.mu.Lock()
	w := k.watch
	k.watch = nil
	k.mu.Unlock()
	for _, key := range keys {
		k.Lose(key)
	}
	k.mu.Lock()
	k.watch = w
	k.mu.Unlock()
}
