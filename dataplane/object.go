// Package dataplane holds kernel objects as data: what Linkspan wants to exist
// is declared as a State of Objects, what exists is observed as another, and
// dataplane/diff turns the two into ordered operations. Nothing here touches a
// kernel; dataplane/linux does.
package dataplane

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Owner says for whom an object exists.
type Owner struct {
	Kind OwnerKind `json:"kind"`
	ID   string    `json:"id"`             // full id; empty for the host
	Name string    `json:"name,omitempty"` // for people
}

// OwnerKind is the sort of owner.
type OwnerKind string

// The owners. A barrier waits for the objects of one owner.
const (
	OwnerHost     OwnerKind = "host" // the engine itself: the page, forwarding
	OwnerNetwork  OwnerKind = "network"
	OwnerSandbox  OwnerKind = "sandbox"
	OwnerEndpoint OwnerKind = "endpoint"
	OwnerPort     OwnerKind = "port"
)

func (o Owner) String() string {
	n := o.Name
	if n == "" && len(o.ID) > 12 {
		n = o.ID[:12]
	} else if n == "" {
		n = o.ID
	}
	return strings.TrimSpace(string(o.Kind) + " " + n)
}

// Meta is what every declared object says of itself besides what it is.
type Meta struct {
	Owner Owner
	// Reason is one sentence in a person's words.
	Reason string
}

// Object is one kernel object, declared or observed.
type Object interface {
	// Key identifies the object on this host, e.g. "link docker0" or
	// "addr docker0 172.17.0.1/16". Two objects of one key are versions of the
	// same object.
	Key() string
	// Spec is everything else that the engine cares about, in one canonical
	// line. Same Key and same Spec: nothing to do.
	Spec() string
	// About returns owner and reason; zero for observed objects.
	About() Meta
	// Phase orders creation; deletion goes the other way.
	Phase() Phase
	// Commands are the `ip`, `sysctl` and `nft` lines a person would type to
	// make the object, and to remove it.
	Commands() (create, remove []string)
}

// Phase orders operations: what is needed first has the lower number. Guards
// (the page) come before what they guard; map elements come last, so that no
// packet is translated towards an interface that is not there yet.
type Phase int

// The phases in order of creation.
const (
	PhasePage Phase = iota // the nft page: closed before anything opens
	PhaseNamespace
	PhaseGuardElement // set elements that close or name our interfaces
	PhaseLink
	PhaseSysctl
	PhaseAddr
	PhaseUp
	PhaseRoute
	PhaseWire    // our end of a wire comes up: what is inside the sandbox is whole
	PhaseElement // set and map elements that open
)

// State is a set of objects by key. The zero State is not usable; see NewState.
type State struct {
	objs map[string]Object
	// sorted is what All answered last, until something changes: thousands of objects
	// are asked for several times. Readers may be many.
	sorted atomic.Pointer[[]Object]
}

// NewState makes a state of the given objects. A later object with the same
// key replaces an earlier one.
func NewState(objs ...Object) *State {
	s := &State{objs: make(map[string]Object, len(objs))}
	s.Add(objs...)
	return s
}

// Add puts objects in.
func (s *State) Add(objs ...Object) {
	s.sorted.Store(nil)
	for _, o := range objs {
		s.objs[o.Key()] = o
	}
}

// Remove takes an object out by key.
func (s *State) Remove(key string) {
	s.sorted.Store(nil)
	delete(s.objs, key)
}

// Get returns the object of that key.
func (s *State) Get(key string) (Object, bool) { o, ok := s.objs[key]; return o, ok }

// Len is the number of objects.
func (s *State) Len() int { return len(s.objs) }

// Each calls fn with every object and its key, in no order: All sorts, which tens of
// thousands of objects feel.
func (s *State) Each(fn func(key string, o Object)) {
	for k, o := range s.objs {
		fn(k, o)
	}
}

// All returns the objects in phase order, then key order.
func (s *State) All() []Object {
	if p := s.sorted.Load(); p != nil {
		return slices.Clone(*p)
	}
	all := make([]keyed, 0, len(s.objs))
	for k, o := range s.objs {
		all = append(all, keyed{o.Phase(), k, o})
	}
	slices.SortFunc(all, keyed.compare) // no two have one key
	out := make([]Object, len(all))
	for i, k := range all {
		out[i] = k.obj
	}
	s.sorted.Store(&out)
	return slices.Clone(out)
}

// keyed is an object with its key, which is computed once: it is text.
type keyed struct {
	phase Phase
	key   string
	obj   Object
}

func (a keyed) compare(b keyed) int {
	return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.key, b.key))
}

// Sort orders objects by phase, then key.
func Sort(objs []Object) {
	all := make([]keyed, len(objs))
	for i, o := range objs {
		all[i] = keyed{o.Phase(), o.Key(), o}
	}
	slices.SortStableFunc(all, keyed.compare)
	for i, k := range all {
		objs[i] = k.obj
	}
}

// Text renders objects for golden files and people: one line each with key,
// spec, owner and reason, in the order given.
func Text(objs []Object) string {
	var b strings.Builder
	for _, o := range objs {
		fmt.Fprintf(&b, "%s", o.Key())
		if sp := o.Spec(); sp != "" {
			fmt.Fprintf(&b, ": %s", sp)
		}
		if m := o.About(); m.Owner.Kind != "" {
			fmt.Fprintf(&b, "  # %s: %s", m.Owner, m.Reason)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
