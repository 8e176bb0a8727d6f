package dptest_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/dptest"
)

func TestConformance(t *testing.T) {
	dptest.Conformance(t, func(t *testing.T) *dptest.Rig {
		k := dptest.New()
		var points []string
		k.Hook = func(p string) { points = append(points, p) }
		return &dptest.Rig{Kernel: k,
			Pin:      func(n string) string { return "/pins/" + n },
			Stranger: func(n string) { k.Stranger(n, "bridge, group 0") },
			Lose:     func(n string) { k.Lose("link " + n) },
			Points:   func() []string { return points },
		}
	})
}

func fragment() []dataplane.Object {
	m := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: "n"}}
	return []dataplane.Object{
		dataplane.Bridge{Meta: m, Name: "br0"},
		dataplane.Addr{Meta: m, Link: "br0", Prefix: netip.MustParsePrefix("10.0.0.1/8")},
		dataplane.Up{Meta: m, Link: "br0"},
	}
}

// TestFaults: the nth op and the op on a key fail as told, once or until told
// otherwise.
func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	ctx := context.Background()
	k := dptest.New()
	k.FailNth(2, boom)
	var f *dataplane.Failure
	if err := k.Apply(ctx, diff.Create(fragment())); !errors.As(err, &f) || !errors.Is(err, boom) || f.Op.Object.Key() != "addr br0 10.0.0.1/8" {
		t.Errorf("second op: %v", err)
	}
	if n := k.State().Len(); n != 1 {
		t.Errorf("%d objects after the failure", n)
	}
	k.FailKey("up br0", boom)
	for range 2 {
		if err := k.Apply(ctx, diff.Create(fragment())); !errors.Is(err, boom) {
			t.Errorf("by key: %v", err)
		}
	}
	k.FailKey("up br0", nil)
	if err := k.Apply(ctx, diff.Create(fragment())); err != nil {
		t.Error(err)
	}
	want := []string{"create link br0", "create link br0", "create addr br0 10.0.0.1/8", "create link br0",
		"create addr br0 10.0.0.1/8", "create link br0", "create addr br0 10.0.0.1/8", "create up br0"}
	if !slices.Equal(k.Log(), want) {
		t.Errorf("log: %q", k.Log())
	}
}

// TestShared: a shared sysctl's prior value is told first, and a refusal keeps it.
func TestShared(t *testing.T) {
	k := dptest.New()
	var told []string
	k.OnShared = func(name, prior string) error {
		told = append(told, name+"="+prior)
		if len(told) > 1 {
			return errors.New("store is read-only")
		}
		return nil
	}
	set := func(v string) error {
		return k.Apply(context.Background(), diff.Create([]dataplane.Object{dataplane.Sysctl{Name: "net/ipv4/ip_forward", Value: v, Shared: true}}))
	}
	if err := errors.Join(set("1"), set("1")); err != nil || len(told) != 1 || told[0] != "net/ipv4/ip_forward=0" {
		t.Errorf("told %q, %v", told, err)
	}
	if err := set("2"); err == nil {
		t.Error("changed without being recorded")
	}
}

// TestMeddle: the person who changes things.
func TestMeddle(t *testing.T) {
	k := dptest.New()
	ctx := context.Background()
	if err := k.Apply(ctx, diff.Create(fragment())); err != nil {
		t.Fatal(err)
	}
	k.Meddle(dataplane.Bridge{Name: "br0", MTU: 9000})
	k.Lose("up br0")
	have, err := k.Observe(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := diff.Compute(dataplane.NewState(fragment()...), have)
	if len(p.Ops) != 2 || p.Ops[0].Verb != dataplane.Change || p.Ops[1].Verb != dataplane.Create {
		t.Errorf("plan: %v", p.Ops)
	}
}
