// Package explain tells what was made in the kernel for a container, a network, a
// published port or the host: each object, why it is there, where it is, whether it is
// there now, and the command that shows it. It is the declared state in words, so that
// what is said and what is done cannot disagree.
package explain

import (
	"context"
	"strings"

	"linkspan/dataplane"
	"linkspan/diagnose"
	"linkspan/keeper"
)

// Observer is who looks for objects in the live kernel; dataplane.Kernel does.
type Observer interface {
	ObserveKeys(ctx context.Context, want []dataplane.Object) (*dataplane.State, error)
}

// Keeper is who holds the host's ports.
type Keeper interface {
	Ports(ctx context.Context) ([]keeper.PortRequest, error)
}

// Sources are what an explanation is made of.
type Sources struct {
	World *diagnose.World
	// Observer and Keeper may be nil: then it is not known what is there.
	Observer Observer
	Keeper   Keeper
}

// Kind is the sort of subject.
type Kind string

// The subjects.
const (
	KindAny       Kind = ""
	KindContainer Kind = "container"
	KindNetwork   Kind = "network"
	KindPort      Kind = "port"
	KindHost      Kind = "host"
)

// Live says what the kernel has of an object.
type Live string

// What the kernel may have.
const (
	There     Live = "there"
	Missing   Live = "missing"
	Different Live = "different"
	Unknown   Live = "" // nobody was asked
)

// Explanation is the answer.
type Explanation struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
	// Title is what it is, in one line.
	Title string `json:"title"`
	// Facts are what is known of it besides objects.
	Facts []Fact `json:"facts,omitempty"`
	// Notes are sentences that a person should know: that it does not run, say.
	Notes  []string `json:"notes,omitempty"`
	Groups []Group  `json:"groups"`
	// Missing and Different count the objects that the kernel does not have as declared.
	Missing   int `json:"missing"`
	Different int `json:"different"`
}

// Fact is one line.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Group is what belongs together.
type Group struct {
	Title string `json:"title"`
	// Shared: the objects were made for a network and serve everyone on it.
	Shared bool   `json:"shared,omitempty"`
	Items  []Item `json:"items"`
}

// Item is one object.
type Item struct {
	// What it is, in a person's words: "DNAT tcp 8080 → 172.17.0.2:80".
	What string `json:"what"`
	// Why it is there, and for whom.
	Why   string `json:"why"`
	Owner string `json:"owner,omitempty"`
	// Where it is: the namespace, the bridge, the table and set.
	Where string `json:"where"`
	Live  Live   `json:"live"`
	// Now is what the kernel has instead, when that is different.
	Now string `json:"now,omitempty"`
	// Cure is the command that puts it right, when it is missing or different.
	Cure string `json:"cure,omitempty"`
	// Show are commands that show it, to be pasted on the host as root. Finds is what
	// their output has when the object is there.
	Show  []string `json:"show,omitempty"`
	Finds []string `json:"finds,omitempty"`
	// Key and Spec are the declared object's own; "" for what is none (a reserved port,
	// a name).
	Key  string `json:"key,omitempty"`
	Spec string `json:"spec,omitempty"`
}

// set is the one that an element is in; "" for other objects.
func (it *Item) set() string {
	if f := strings.Fields(it.Key); len(f) > 3 && f[0] == "element" {
		return f[3]
	}
	return ""
}

// Of explains a subject: a container or network by name, id or the beginning of one, a
// port like "8080", "8080/udp" or "127.0.0.1:8080", or "host"; also what the kernel's
// own tools print, for who wonders whose it is: an address, an interface, our table.
// kind says which is meant; with KindAny that is found out.
func Of(ctx context.Context, src Sources, subject string, kind Kind) (*Explanation, error) {
	m, err := newMaker(ctx, src)
	if err != nil {
		return nil, err
	}
	if err := m.subject(ctx, subject, kind); err != nil {
		return nil, err
	}
	return m.finish(), nil
}

// maker makes one explanation.
type maker struct {
	src  Sources
	objs []dataplane.Object
	out  *Explanation
	// pins are the names of whom network stacks are, by path.
	pins map[string]string
}

func newMaker(ctx context.Context, src Sources) (*maker, error) {
	objs, err := src.World.Declared.Objects(ctx)
	if err != nil {
		return nil, err
	}
	m := &maker{src: src, objs: objs, out: &Explanation{Groups: []Group{}}, pins: map[string]string{}}
	for _, s := range src.World.Declared.Sandboxes() {
		m.pins[s.Path] = s.OwnerName
	}
	return m, nil
}

// group adds one, unless it is empty.
func (m *maker) group(title string, items ...Item) *Group {
	if len(items) == 0 {
		return &Group{}
	}
	m.out.Groups = append(m.out.Groups, Group{Title: title, Items: items})
	return &m.out.Groups[len(m.out.Groups)-1]
}

func (m *maker) fact(name, value string) {
	if value != "" {
		m.out.Facts = append(m.out.Facts, Fact{name, value})
	}
}

func (m *maker) note(text string) { m.out.Notes = append(m.out.Notes, text) }

// pick are the declared objects that a test lets through.
func (m *maker) pick(keep func(dataplane.Object) bool) (out []dataplane.Object) {
	for _, o := range m.objs {
		if keep(o) {
			out = append(out, o)
		}
	}
	return out
}

func ownedBy(kind dataplane.OwnerKind, id string) func(dataplane.Object) bool {
	return func(o dataplane.Object) bool {
		own := o.About().Owner
		return own.Kind == kind && own.ID == id
	}
}

// items tells objects, after the kernel was asked for them.
func (m *maker) items(ctx context.Context, objs []dataplane.Object) ([]Item, error) {
	live, err := m.look(ctx, objs)
	if err != nil {
		return nil, err
	}
	var out []Item
	for _, o := range objs {
		it := m.item(o)
		if it.Live, it.Now = live.of(o); it.Live == Missing || it.Live == Different {
			it.Cure = cure(o)
		}
		out = append(out, it)
	}
	return out, nil
}

func (m *maker) finish() *Explanation {
	for _, g := range m.out.Groups {
		for _, it := range g.Items {
			switch it.Live {
			case Missing:
				m.out.Missing++
			case Different:
				m.out.Different++
			}
		}
	}
	return m.out
}
