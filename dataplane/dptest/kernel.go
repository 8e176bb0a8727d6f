// Package dptest is a kernel in memory for tests: it answers as dataplane/linux
// does, can be told to fail, calls a hook before and after every operation, and lets
// a test play the person who deletes things. Conformance is the suite that both
// kernels pass.
package dptest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"linkspan/dataplane"
)

// Kernel implements dataplane.Kernel in memory. It is safe for concurrent use; the
// fields are set before.
type Kernel struct {
	// Hook is called before and after every operation ("before create link
	// docker0"), as linux.Config.Hook.
	Hook func(point string)
	// OnShared is told a shared sysctl's value before it is changed.
	OnShared func(name, prior string) error

	mu      sync.Mutex
	objs    map[string]dataplane.Object
	strange map[string]string // foreign links: name to what it is
	facts   facts
	failKey map[string]error
	failNth map[int]error
	ops     int
	log     []string
	watch   *Watch
}

var _ dataplane.Kernel = (*Kernel)(nil)

// New returns an empty kernel.
func New() *Kernel {
	return &Kernel{objs: map[string]dataplane.Object{}, strange: map[string]string{}, failKey: map[string]error{}, failNth: map[int]error{}}
}

// FailKey makes every operation on the object of that key fail, until nil is given.
func (k *Kernel) FailKey(key string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failKey[key] = err; err == nil {
		delete(k.failKey, key)
	}
}

// FailNth makes the nth operation from now on fail, 1 being the next.
func (k *Kernel) FailNth(n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failNth[k.ops+n] = err
}

// Stranger puts a link there that is not ours.
func (k *Kernel) Stranger(name, what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.strange[name] = what
}

// Lose takes an object away as if someone had deleted it, with all that goes
// with it.
func (k *Kernel) Lose(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o, ok := k.objs[key]; ok {
		k.news(o)
		k.remove(o)
	}
}

// Meddle puts an object there as if someone had made or changed it.
func (k *Kernel) Meddle(o dataplane.Object) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.objs[o.Key()] = o
	k.news(o)
}

// State returns everything, sysctls and the insides of all sandboxes included.
func (k *Kernel) State() *dataplane.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := dataplane.NewState()
	for _, o := range k.objs {
		s.Add(o)
	}
	return s
}

// Log returns the operations that succeeded, one line each ("create link
// docker0"), in order.
func (k *Kernel) Log() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.log...)
}

// Apply performs the ops; see dataplane.Kernel. The hook runs without the lock.
func (k *Kernel) Apply(ctx context.Context, ops []dataplane.Op) error {
	failed := map[dataplane.Owner]bool{}
	var errs []error
	for _, op := range ops {
		owner := op.Object.About().Owner
		if failed[owner] {
			continue
		}
		err := ctx.Err()
		if err == nil {
			k.hook("before", op)
			err = k.one(op)
		}
		if err == nil {
			k.hook("after", op)
			continue
		}
		if owner != (dataplane.Owner{}) {
			failed[owner] = true
		}
		errs = append(errs, &dataplane.Failure{Op: op, Err: err})
	}
	return errors.Join(errs...)
}

func (k *Kernel) hook(when string, op dataplane.Op) {
	if k.Hook != nil {
		k.Hook(fmt.Sprintf("%s %s %s", when, op.Verb, op.Object.Key()))
	}
}

func (k *Kernel) one(op dataplane.Op) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ops++
	if err := k.failNth[k.ops]; err != nil {
		return err
	}
	if err := k.failKey[op.Object.Key()]; err != nil {
		return err
	}
	if op.Verb == dataplane.Delete {
		if have, ok := k.objs[op.Object.Key()]; ok && !unasked(op.Object) {
			k.remove(have)
		}
	} else if err := k.put(op.Verb, op.Object); err != nil {
		return err
	}
	k.log = append(k.log, string(op.Verb)+" "+op.Object.Key())
	return nil
}

// Observe returns what the real kernel would show: no sysctls, and insides of
// the asked sandboxes only.
func (k *Kernel) Observe(ctx context.Context, sandboxes []string) (*dataplane.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	asked := map[string]bool{"": true}
	for _, s := range sandboxes {
		asked[s] = true
	}
	s := dataplane.NewState()
	for _, o := range k.objs {
		if !unasked(o) && asked[dataplane.InSandbox(o)] {
			s.Add(bare(o))
		}
	}
	return s, ctx.Err()
}

// ObserveKeys returns the wanted objects that exist, strangers included.
func (k *Kernel) ObserveKeys(ctx context.Context, want []dataplane.Object) (*dataplane.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := dataplane.NewState()
	for _, w := range want {
		if o, ok := k.objs[w.Key()]; ok {
			s.Add(bare(o))
		}
		if what, ok := k.strange[linkName(w)]; ok {
			s.Add(dataplane.Foreign{Name: linkName(w), What: what})
		}
	}
	return s, ctx.Err()
}

// Settle has nothing to wait for.
func (k *Kernel) Settle(ctx context.Context) error { return ctx.Err() }

// Close does nothing.
func (k *Kernel) Close() error { return nil }
