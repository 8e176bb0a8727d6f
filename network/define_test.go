package network

import (
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
)

func static(id, network, addr string) Request {
	return Request{ContainerID: id, ContainerName: "name-of-" + id, Endpoints: []EndpointWish{{Network: network, IPv4: ip(addr)}}}
}

// R12: a static address belongs to the definition, from create until rm.
func TestDefine(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/29")
	define := func(r Request) error { return w.Define(t.Context(), r) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db := static("db", "shop", "172.18.0.3")
	must(define(db))
	must(define(db))
	taken := func(state string) {
		t.Helper()
		for what, err := range map[string]error{
			"define": define(static("thief", "shop", "172.18.0.3")),
			"join":   func() error { _, err := w.Join(t.Context(), static("thief", "shop", "172.18.0.3")); return err }(),
			"check":  func() error { _, err := w.Check(t.Context(), static("thief", "shop", "172.18.0.3")); return err }(),
		} {
			if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "Address already in use: 172.18.0.3 on network shop is held by container name-of-db ("+state) {
				t.Errorf("%s: %v, want %s", what, err, state)
			}
		}
	}
	taken("not running")
	// Dynamic ones go round it.
	for _, want := range []string{"172.18.0.2", "172.18.0.4", "172.18.0.5"} {
		if s := w.join(on(want, "shop")); address(s) != ip(want) {
			t.Errorf("%s, want %s", address(s), want)
		}
	}
	if s := w.join(db); address(s) != ip("172.18.0.3") {
		t.Errorf("%s", address(s))
	}
	taken("running")
	w.leave("db", false)
	taken("stopped less than a second ago")
	// Over a restart of the daemon the definition is told again, before anything starts.
	w.restart()
	must(define(db))
	taken("not running")
	// Another version of the definition: what the old one held is free, and on an error
	// nothing changes.
	if err := define(static("db", "shop", "172.18.0.5")); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "name-of-172.18.0.5 (running") {
		t.Errorf("%v", err)
	}
	taken("not running")
	must(define(static("db", "shop", "172.18.0.6")))
	must(define(static("heir", "shop", "172.18.0.3")))
	w.Undefine("db")
	w.Undefine("db")
	w.Undefine("heir")
	for _, id := range []string{"172.18.0.2", "172.18.0.4", "172.18.0.5"} {
		w.leave(id, false)
	}
	for _, a := range []string{"172.18.0.3", "172.18.0.6"} {
		w.join(static("x", "shop", a))
		w.leave("x", false)
	}
	if len(w.defined) != 0 || len(w.refs) != 0 {
		t.Errorf("left: %v, %v", w.defined, w.refs)
	}
}

// Compose makes the next version of a container before it removes the last, with the
// same address.
func TestDefineLineage(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/24")
	version := func(id, lineage string) Request {
		r := static(id, "shop", "172.18.0.7")
		r.Lineage = lineage
		return r
	}
	last, next := version("last", "shop/web/1"), version("next", "shop/web/1")
	create := func(r Request) error {
		if _, err := w.Check(t.Context(), r); err != nil {
			return err
		}
		return w.Define(t.Context(), r)
	}
	if err := create(last); err != nil {
		t.Fatal(err)
	}
	w.join(last)
	if err := create(version("other", "shop/db/1")); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("of another lineage: %v", err)
	}
	w.restart() // in any order
	for _, r := range []Request{next, last, next} {
		if err := create(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Join(t.Context(), next); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "name-of-last (running") {
		t.Errorf("both at once: %v", err)
	}
	w.leave("last", false)
	w.Undefine("last")
	if s := w.join(next); address(s) != ip("172.18.0.7") {
		t.Errorf("%+v", s.Endpoints)
	}
}

// What a definition cannot have.
func TestDefineRefuses(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/24")
	for _, c := range []struct {
		r     Request
		class error
		says  string
	}{
		{static("a", "shop", "172.19.0.3"), cnm.ErrInvalid, "It does not belong to any of this network's subnets; network shop has 172.18.0.0/24"},
		{static("a", "shop", "172.18.0.1"), cnm.ErrConflict, "is the gateway of network shop"},
		{static("a", "shop", "172.18.0.0"), cnm.ErrInvalid, "it is the network address"},
		{static("a", "shop", "fd00::5"), cnm.ErrInvalid, "no configured subnet contains IP address fd00::5: network shop has only 172.18.0.0/24"},
	} {
		for what, err := range map[string]error{"define": w.Define(t.Context(), c.r), "check": func() error { _, err := w.Check(t.Context(), c.r); return err }()} {
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s %v: %v", what, c.r.Endpoints[0].IPv4, err)
			}
		}
	}
}

// A stopped container's network is removed and made again: its definition holds its
// address on the new one.
func TestDefineOutlivesNetwork(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/24")
	db := static("db", "shop", "172.18.0.7")
	if err := w.Define(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	w.remove("shop")
	if _, err := w.Join(t.Context(), db); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), "network shop not found") || !strings.Contains(err.Error(), "docker network create shop") {
		t.Errorf("without its network: %v", err)
	}
	w.network("shop", "172.18.0.0/24")
	if _, err := w.Join(t.Context(), static("x", "shop", "172.18.0.7")); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "name-of-db") {
		t.Errorf("not held on the new one: %v", err)
	}
	if s := w.join(db); address(s) != ip("172.18.0.7") {
		t.Errorf("%s", address(s))
	}
	// A network of that name which has no such address: the start says so.
	w.leave("db", false)
	w.remove("shop")
	w.network("shop", "172.30.0.0/24")
	if _, err := w.Join(t.Context(), db); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), "172.30.0.0/24") {
		t.Errorf("%v", err)
	}
}
