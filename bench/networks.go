package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

const (
	nameCreate     = "network create"
	nameConnect    = "network connect"
	nameDisconnect = "network disconnect"
	nameRemove     = "network rm"
)

// few and many are how many networks there are while one more comes and goes.
// dockerd's default pools end at 31, and 500 of its networks take a minute to make.
const (
	few  = 10
	many = 500
)

// networks measures what a network costs, with few others there and with many: the
// two must not differ.
func (b *bench) networks(ctx context.Context) error {
	if !b.wanted(nameCreate, nameConnect, nameDisconnect, nameRemove) {
		return nil
	}
	ours, err := newSwitching(ctx, b.world.ours, few)
	if err != nil {
		return err
	}
	var theirs *switching
	if b.world.theirs != nil {
		if theirs, err = newSwitching(ctx, b.world.theirs, few); err != nil {
			return err
		}
	}
	rounds := 4 * b.pairs
	for i := -1; i < rounds; i++ {
		if err := ours.round(ctx, i >= 0); err != nil {
			return err
		}
		if theirs != nil && i < b.pairs { // a fifth of a second each
			if err := theirs.round(ctx, i >= 0); err != nil {
				return err
			}
		}
	}
	b.switched(few, ours, theirs)
	if theirs != nil {
		if err := theirs.end(ctx); err != nil {
			return err
		}
	}
	if err := ours.grow(ctx, many); err != nil {
		return err
	}
	for i := -1; i < rounds; i++ {
		if err := ours.round(ctx, i >= 0); err != nil {
			return err
		}
	}
	b.switched(many, ours, nil)
	return ours.end(ctx)
}

func (b *bench) switched(n int, ours, theirs *switching) {
	for _, m := range []struct {
		name string
		goal float64
	}{{nameCreate, 2}, {nameConnect, 2}, {nameDisconnect, 2}, {nameRemove, 5}} {
		other := math.NaN()
		if theirs != nil {
			other = median(theirs.took[m.name])
		}
		b.table.row(fmt.Sprintf("%s, %d there", m.name, n), milliseconds, median(ours.took[m.name]), other, goal{value: m.goal})
		b.table.note("%s, %d there: a tenth below %.2f ms, %s", m.name, n, tenth(ours.took[m.name]), spread(ours.took[m.name]))
		ours.took[m.name] = nil
	}
}

// tenth is what a tenth of the values is below: what it takes when nothing else on
// the machine is in the way.
func tenth(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return math.NaN()
	}
	return v[len(v)/10]
}

// switching is one engine with a container and networks.
type switching struct {
	e         *engine
	container string
	others    []string
	took      map[string][]float64 // ms
}

func newSwitching(ctx context.Context, e *engine, n int) (*switching, error) {
	s := &switching{e: e, took: map[string][]float64{}}
	var err error
	if s.container, err = e.create(ctx, "pause", "bridge", nil); err != nil {
		return nil, err
	}
	if err := e.run(ctx, s.container); err != nil {
		return nil, err
	}
	return s, s.grow(ctx, n)
}

// grow makes networks until there are n.
func (s *switching) grow(ctx context.Context, n int) error {
	for len(s.others) < n {
		name := fmt.Sprintf("bench-%d", len(s.others))
		if err := s.e.post(ctx, "/networks/create", object{"Name": name, "CheckDuplicate": true}); err != nil {
			return err
		}
		s.others = append(s.others, name)
	}
	return nil
}

// round is one network's life: made, a running container put on it and off, removed.
func (s *switching) round(ctx context.Context, count bool) error {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{nameCreate, func() error {
			return s.e.post(ctx, "/networks/create", object{"Name": "bench-x", "CheckDuplicate": true})
		}},
		{nameConnect, func() error { return s.e.post(ctx, "/networks/bench-x/connect", object{"Container": s.container}) }},
		{nameDisconnect, func() error { return s.e.post(ctx, "/networks/bench-x/disconnect", object{"Container": s.container}) }},
		{nameRemove, func() error { return s.e.do(ctx, http.MethodDelete, "/networks/bench-x", "", nil, nil) }},
	} {
		start := time.Now()
		if err := step.do(); err != nil {
			return err
		}
		if took := ms(time.Since(start)); count {
			s.took[step.name] = append(s.took[step.name], took)
		}
		time.Sleep(pause / 2)
	}
	return nil
}

// end removes all of it.
func (s *switching) end(ctx context.Context) error {
	if err := s.e.remove(ctx, s.container); err != nil {
		return err
	}
	for _, n := range s.others {
		if err := s.e.do(ctx, http.MethodDelete, "/networks/"+n, "", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// post sends an object.
func (e *engine) post(ctx context.Context, path string, body object) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return e.do(ctx, http.MethodPost, path, "application/json", bytes.NewReader(b), nil)
}
