// Package drivertest is the suite that every driver passes. It holds a driver to
// what the contract promises: a plan is pure, says of each object whose it is and
// why, touches nothing but what is its own, and can be made and taken away again.
package drivertest

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/internal/golden"
)

// Case is one wish: a network, and a sandbox whose first endpoint is on it.
type Case struct {
	Name    string
	Env     driver.Env
	Network cnm.Network
	// Sandbox may be nil: then only the network is planned. Its ports are given to
	// the endpoint.
	Sandbox *cnm.Sandbox
	// Peers and Home are what a driver.Spanner's network has elsewhere, and the blocks of
	// addresses that are this host's.
	Peers []Peering
	Home  []cnm.Block
}

// Run holds a driver to the contract for each case, and its plans to the golden
// files testdata/NAME.txtar of the calling package (go test -update writes them).
func Run(t *testing.T, d driver.Driver, cases ...Case) {
	t.Helper()
	if d.Name() == "" {
		t.Error("a driver without a name")
	}
	if _, spans := d.(driver.Spanner); spans != d.Traits().Spans {
		t.Errorf("it is a Spanner: %v, and says so in its traits: %v", spans, d.Traits().Spans)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if err := d.Check(&c.Network); err != nil {
				t.Fatalf("Check: %v", err)
			}
			if c.Sandbox != nil {
				endpointOptions(t, d, c)
			}
			p := plan(t, d, c)
			again := plan(t, d, c)
			if p.text() != again.text() {
				t.Errorf("the same wish, another plan:\n%s\n%s", p.text(), again.text())
			}
			p.owners(t)
			p.reach(t, c.Env)
			p.lives(t, c.Env)
			if sp, ok := d.(driver.Spanner); ok {
				spans(t, sp, c, p)
			}
			planIs(t, filepath.Join("testdata", strings.ReplaceAll(c.Name, " ", "-")+".txtar"), p)
		})
		t.Run(c.Name+"/options", func(t *testing.T) { unknownOption(t, d, c.Network) })
	}
}

// planned is what a driver wants for a case.
type planned struct {
	network, endpoint []dataplane.Object
	// span are a Spanner's further plans: one for each peer and each of its endpoints.
	span []fragment
	// paths say how each peer is reached, one line each.
	paths string
	n     *cnm.Network
	s     *cnm.Sandbox
}

// fragment is a plan that comes and goes as one.
type fragment struct {
	what   string
	objs   []dataplane.Object
	owners []dataplane.Owner
}

func (p *planned) fragments() []fragment {
	n := dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: p.n.ID}
	all := []fragment{{"network", p.network, []dataplane.Owner{n}}}
	if p.s != nil {
		all = append(all, fragment{"endpoint", p.endpoint,
			[]dataplane.Owner{{Kind: dataplane.OwnerEndpoint, ID: p.s.Endpoints[0].ID}, {Kind: dataplane.OwnerPort, ID: p.s.ID}}})
	}
	return append(all, p.span...)
}

// plan asks the driver, and sees that it leaves its input alone.
func plan(t *testing.T, d driver.Driver, c Case) *planned {
	t.Helper()
	p := &planned{n: &c.Network, s: c.Sandbox}
	before := stored(t, p)
	var err error
	if p.network, err = d.Network(c.Env, p.n); err != nil {
		t.Fatalf("Network: %v", err)
	}
	if p.s != nil {
		if p.endpoint, err = d.Endpoint(c.Env, p.n, p.s, &p.s.Endpoints[0], p.s.Ports); err != nil {
			t.Fatalf("Endpoint: %v", err)
		}
	}
	if sp, ok := d.(driver.Spanner); ok {
		p.spread(t, sp, c)
	}
	if after := stored(t, p); after != before {
		t.Errorf("the plan changed the model:\n%s\nto\n%s", before, after)
	}
	return p
}

func stored(t *testing.T, p *planned) string {
	t.Helper()
	b, err := json.Marshal([]any{p.n, p.s})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (p *planned) all() (objs []dataplane.Object) {
	for _, f := range p.fragments() {
		objs = append(objs, f.objs...)
	}
	return objs
}

func (p *planned) text() string {
	text := p.paths
	for _, f := range p.fragments() {
		text += "-- " + f.what + "\n" + dataplane.Text(f.objs)
	}
	return text
}

// owners: each object says for whom it exists and why, and what a person would
// type; and is planned once.
func (p *planned) owners(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range p.fragments() {
		for _, o := range f.objs {
			m := o.About()
			if !slices.Contains(f.owners, dataplane.Owner{Kind: m.Owner.Kind, ID: m.Owner.ID}) || m.Owner.Name == "" {
				t.Errorf("%s belongs to %+v, want one of %+v with a name", o.Key(), m.Owner, f.owners)
			}
			if !strings.Contains(m.Reason, " ") {
				t.Errorf("%s has no sentence for a reason: %q", o.Key(), m.Reason)
			}
			if create, _ := o.Commands(); len(create) == 0 {
				t.Errorf("%s cannot be shown as commands", o.Key())
			}
			if seen[o.Key()] {
				t.Errorf("%s is planned twice", o.Key())
			}
			seen[o.Key()] = true
		}
	}
}

// unknownOption: a key that the driver does not know is refused by name, and one
// that is nearly right is told the right one.
func unknownOption(t *testing.T, d driver.Driver, n cnm.Network) {
	t.Helper()
	known := slices.Sorted(maps.Keys(n.Options))
	n.Options = maps.Clone(n.Options)
	if n.Options == nil {
		n.Options = map[string]string{}
	}
	try := func(key, value string, says ...string) {
		t.Helper()
		n.Options[key] = value
		defer delete(n.Options, key)
		err := d.Check(&n)
		if !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("option %s: %v, want an invalid option", key, err)
			return
		}
		for _, s := range append(says, key, n.Name) {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("option %s: %q does not say %q", key, err, s)
			}
		}
	}
	try("org.example.nonsense", "1")
	for _, k := range known {
		v := n.Options[k]
		delete(n.Options, k)
		try(k[1:], v, "did you mean "+k+"?")
		n.Options[k] = v
	}
}

// endpointOptions: the case's are planned; one that nobody knows is refused by name.
func endpointOptions(t *testing.T, d driver.Driver, c Case) {
	t.Helper()
	if d.Traits().IfPrefix == "" {
		return // no interface to have options: the controller refuses them
	}
	s := *c.Sandbox
	s.Endpoints = slices.Clone(s.Endpoints)
	e := &s.Endpoints[0]
	e.DriverOpts = maps.Clone(e.DriverOpts)
	if e.DriverOpts == nil {
		e.DriverOpts = map[string]string{}
	}
	e.DriverOpts["org.example.nonsense"] = "1"
	if _, err := d.Endpoint(c.Env, &c.Network, &s, e, s.Ports); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "org.example.nonsense") ||
		!strings.Contains(err.Error(), c.Network.Name) {
		t.Errorf("an endpoint's unknown option: %v", err)
	}
}

// planIs compares a plan and the commands that show it with its file.
func planIs(t *testing.T, path string, p *planned) {
	t.Helper()
	commands := ""
	sorted := p.all()
	dataplane.Sort(sorted)
	for _, o := range sorted {
		create, _ := o.Commands()
		commands += strings.Join(create, "\n") + "\n"
	}
	ar := &txtar.Archive{Files: []txtar.File{
		{Name: "network", Data: []byte(dataplane.Text(p.network))},
		{Name: "endpoint", Data: []byte(dataplane.Text(p.endpoint))},
	}}
	for _, f := range p.span {
		ar.Files = append(ar.Files, txtar.File{Name: f.what, Data: []byte(dataplane.Text(f.objs))})
	}
	if p.paths != "" {
		ar.Files = append(ar.Files, txtar.File{Name: "paths", Data: []byte(p.paths)})
	}
	ar.Files = append(ar.Files, txtar.File{Name: "commands", Data: []byte(commands)})
	if golden.Update() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got := string(txtar.Format(ar)); got != string(txtar.Format(want)) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", path, got, txtar.Format(want))
	}
}
